"""Everything that is trained: bridges from source states (B, S, d_s) to soft tokens (B, K, d_t), and injection."""
