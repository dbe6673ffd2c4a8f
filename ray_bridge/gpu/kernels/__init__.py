"""Kernels in Triton, which comes with torch for CUDA: what torch itself does in many small launches."""
