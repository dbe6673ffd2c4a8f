"""Decoding, eager and with CUDA graphs, greedy and sampled."""
