"""Evaluation: conditions, metrics, checkpoint selection and diagnosis."""
