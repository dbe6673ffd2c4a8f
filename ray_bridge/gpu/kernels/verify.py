"""Check that Triton is installed and that each kernel matches PyTorch on this device before first use.

A kernel is compiled anew for each kind of GPU and release of Triton, and can be wrong on one of them. Then its work is
left to PyTorch, slower and with a warning.
"""

import warnings
from collections.abc import Callable

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # PyTorch's CPU builds come without it
    triton = tl = None

MaxError = Callable[[torch.device, torch.dtype, int, int, int], float]
"""(device, dtype, heads, key heads, head dimension) -> largest relative error against PyTorch on random inputs."""


def takes_heads_of(head_dim: int) -> bool:
    """Return whether the kernels take heads of so many features: a power of two, 16 or more."""
    return head_dim >= 16 and not head_dim & (head_dim - 1)


def kernels_match(
    name: str,
    max_error: MaxError,
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
) -> bool:
    """Return whether kernels run here and match PyTorch for a model's geometry; warn if they do not.

    Args:
        name: of the kernels, for the warning.
        max_error: compares them with PyTorch.
        device: of the model.
        dtype: of the model.
        heads: number of query heads.
        kv_heads: number of key heads.
        head_dim: D; see `takes_heads_of`.
    """
    if triton is None or not takes_heads_of(head_dim):
        return False
    try:
        error = max_error(device, dtype, heads, kv_heads, head_dim)
    except Exception as failure:
        warnings.warn(
            f"the {name} kernels do not run here, PyTorch is used instead: {type(failure).__name__}: {failure}",
            stacklevel=3,
        )
        return False
    if not error < (2e-2 if dtype.itemsize == 2 else 1e-4):
        warnings.warn(
            f"the {name} kernels differ from PyTorch here by {error:.2g}, PyTorch is used instead", stacklevel=3
        )
        return False
    return True
