"""Whether Triton is here, and whether kernels do on this very device what torch does: looked at before their first use.

A kernel that is compiled anew for each kind of GPU and release of Triton can be wrong on one of them; then work goes on
in torch, slower and with a warning.
"""

import warnings
from collections.abc import Callable

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # torch for CPU comes without it
    triton = tl = None

Disagreement = Callable[[torch.device, torch.dtype, int, int, int], float]
"""(device, dtype, heads, key heads, head dimension) -> largest relative error against torch on random inputs."""


def agree(
    what: str,
    disagreement: Disagreement,
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
) -> bool:
    """Whether kernels run here and agree with torch for a geometry; warns and says no where they do not.

    Args:
        what: names the kernels in the warning.
        disagreement: compares them.
        device, dtype, heads, kv_heads, head_dim: of the model.
    """
    if triton is None or head_dim & (head_dim - 1) or head_dim < 16:
        return False
    try:
        gap = disagreement(device, dtype, heads, kv_heads, head_dim)
    except Exception as error:
        warnings.warn(f"the {what} kernels do not run here: {type(error).__name__}: {error}", stacklevel=3)
        return False
    if not gap < (2e-2 if dtype.itemsize == 2 else 1e-4):
        warnings.warn(f"the {what} kernels disagree with torch here by {gap:.2g}", stacklevel=3)
        return False
    return True
