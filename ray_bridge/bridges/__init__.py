"""Bridges: networks that turn source states (B, S, d_s) and their mask into soft tokens (B, K, d_t)."""
