"""Triton kernels that each replace many small launches of PyTorch; Triton comes with PyTorch's CUDA builds."""
