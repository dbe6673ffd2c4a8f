"""Evaluation: decoding and scoring under all conditions, metrics, checkpoint selection, and diagnosis."""
