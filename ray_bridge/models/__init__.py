"""Frozen language models: loading, forward passes, attention, prefix caches and token alignment."""
