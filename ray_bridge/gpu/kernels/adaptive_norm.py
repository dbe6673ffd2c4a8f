"""Triton kernels of a DiT's adaptive layer norm: add a gated update, then normalise, scale and shift the sum.

In PyTorch that is eight launches forward and a dozen and a half backward, over activations that fit into the GPU's
cache, thirteen times in each evaluation of a bridge of six blocks: launches are what they cost.
"""

# mypy: disable-error-code="no-untyped-def"

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels.verify import kernels_match, tl, triton

EPS = 1e-5  # of torch.nn.functional.layer_norm
COLUMNS, ROWS = 32, 64
"""Of the tiles over which gradients of gate, shift and scale are summed."""

if triton is not None:

    @triton.jit
    def _forward(
        x_ptr, update_ptr, gate_ptr, shift_ptr, scale_ptr, sum_ptr, out_ptr, mean_ptr, rstd_ptr,
        K, width, gate_stride, stride, eps, ADD: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        """Add gate * update to one row if ADD, normalise it, scale it by 1 + scale, and shift it."""
        row = tl.program_id(0).to(tl.int64)
        b = row // K
        d = tl.arange(0, BLOCK)
        ok = d < width
        x = tl.load(x_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
        if ADD:
            gate = tl.load(gate_ptr + b * gate_stride + d, mask=ok, other=0.0).to(tl.float32)
            x += gate * tl.load(update_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
            tl.store(sum_ptr + row * width + d, x.to(sum_ptr.dtype.element_ty), mask=ok)
        mean = tl.sum(x, 0) / width
        centred = tl.where(ok, x - mean, 0.0)
        rstd = 1 / tl.sqrt(tl.sum(centred * centred, 0) / width + eps)
        scale = tl.load(scale_ptr + b * stride + d, mask=ok, other=0.0).to(tl.float32)
        shift = tl.load(shift_ptr + b * stride + d, mask=ok, other=0.0).to(tl.float32)
        out = centred * rstd * (1 + scale) + shift
        tl.store(out_ptr + row * width + d, out.to(out_ptr.dtype.element_ty), mask=ok)
        tl.store(mean_ptr + row, mean)
        tl.store(rstd_ptr + row, rstd)

    @triton.jit
    def _backward(
        sum_ptr, scale_ptr, gate_ptr, mean_ptr, rstd_ptr, dout_ptr, dsum_ptr, dx_ptr, dupdate_ptr,
        K, width, gate_stride, stride, ADD: tl.constexpr, ONWARDS: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        """Take one row's gradient to the sum, and from there to the update if ADD; ONWARDS if the sum is read later."""
        row = tl.program_id(0).to(tl.int64)
        b = row // K
        d = tl.arange(0, BLOCK)
        ok = d < width
        mean, rstd = tl.load(mean_ptr + row), tl.load(rstd_ptr + row)
        x = tl.load(sum_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
        normed = tl.where(ok, (x - mean) * rstd, 0.0)
        scale = tl.load(scale_ptr + b * stride + d, mask=ok, other=0.0).to(tl.float32)
        slope = tl.load(dout_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32) * (1 + scale)
        dx = rstd * (slope - tl.sum(slope, 0) / width - normed * (tl.sum(slope * normed, 0) / width))
        if ONWARDS:
            dx += tl.load(dsum_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
        tl.store(dx_ptr + row * width + d, dx.to(dx_ptr.dtype.element_ty), mask=ok)
        if ADD:
            gate = tl.load(gate_ptr + b * gate_stride + d, mask=ok, other=0.0).to(tl.float32)
            tl.store(dupdate_ptr + row * width + d, (dx * gate).to(dupdate_ptr.dtype.element_ty), mask=ok)

    @triton.jit
    def _sum_over_slots(
        sum_ptr, update_ptr, mean_ptr, rstd_ptr, dout_ptr, dx_ptr, dgate_ptr, dshift_ptr, dscale_ptr,
        K, width, ADD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    ):  # fmt: skip
        """Sum the gradients of shift, scale and, if ADD, gate over the slots of one example, for some columns."""
        b = tl.program_id(0).to(tl.int64)
        d = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        dshift = tl.zeros([COLUMNS], tl.float32)
        dscale = tl.zeros([COLUMNS], tl.float32)
        dgate = tl.zeros([COLUMNS], tl.float32)
        for first in range(0, K, ROWS):
            k = first + tl.arange(0, ROWS)[:, None]
            row = b * K + k
            ok = (k < K) & (d < width)
            mean = tl.load(mean_ptr + row, mask=k < K, other=0.0)
            rstd = tl.load(rstd_ptr + row, mask=k < K, other=0.0)
            x = tl.load(sum_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
            dout = tl.load(dout_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
            dshift += tl.sum(dout, 0)
            dscale += tl.sum(dout * (x - mean) * rstd, 0)
            if ADD:
                dx = tl.load(dx_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
                update = tl.load(update_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
                dgate += tl.sum(dx * update, 0)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        inside = column < width
        tl.store(dshift_ptr + b * width + column, dshift.to(dshift_ptr.dtype.element_ty), mask=inside)
        tl.store(dscale_ptr + b * width + column, dscale.to(dscale_ptr.dtype.element_ty), mask=inside)
        if ADD:
            tl.store(dgate_ptr + b * width + column, dgate.to(dgate_ptr.dtype.element_ty), mask=inside)


class _AddAndModulate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        update: Tensor | None,
        gate: Tensor | None,
        shift: Tensor,
        scale: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor | None, Tensor]:
        ctx.set_materialize_grads(False)
        B, K, width = x.shape
        x, update = x.contiguous(), None if update is None else update.contiguous()
        added = x if update is None else torch.empty_like(x)
        out = torch.empty_like(x, dtype=dtype)
        mean, rstd = (torch.empty(B * K, dtype=torch.float32, device=x.device) for _ in range(2))
        _forward[(B * K,)](
            x, _or(update, x), _or(gate, x), shift, scale, added, out, mean, rstd,
            K, width, 0 if gate is None else gate.stride(0), shift.stride(0), EPS,
            ADD=update is not None, BLOCK=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(added, update, gate, scale, mean, rstd)
        return None if update is None else added, out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        added, update, gate, scale, mean, rstd = ctx.saved_tensors
        dsum, dout = grad_outputs
        B, K, width = added.shape
        dout = torch.zeros_like(added) if dout is None else dout.contiguous()
        dsum = None if dsum is None else dsum.contiguous()
        dx, dupdate = torch.empty_like(added), None if update is None else torch.empty_like(update)
        dgate = None if gate is None else torch.empty(B, width, dtype=gate.dtype, device=gate.device)
        dshift, dscale = (torch.empty(B, width, dtype=scale.dtype, device=scale.device) for _ in range(2))
        add = update is not None
        _backward[(B * K,)](
            added, scale, _or(gate, added), mean, rstd, dout, _or(dsum, added), dx, _or(dupdate, added),
            K, width, gate.stride(0) if add else 0, scale.stride(0),
            ADD=add, ONWARDS=dsum is not None, BLOCK=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip
        _sum_over_slots[(B, -(-width // COLUMNS))](
            added, _or(update, added), mean, rstd, dout, dx, _or(dgate, dshift), dshift, dscale,
            K, width, ADD=add, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=4,
        )  # fmt: skip
        return dx, dupdate, dgate, dshift, dscale, None


def _or(tensor: Tensor | None, unread: Tensor) -> Tensor:
    return unread if tensor is None else tensor


def add_and_modulate(
    x: Tensor, update: Tensor | None, gate: Tensor | None, shift: Tensor, scale: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Add a gated update and apply an adaptive layer norm (adaLN-zero, Peebles & Xie 2023), with gradients.

    Args:
        x: (B, K, w), the residual stream.
        update: (B, K, w), or None to add nothing.
        gate: (B, w), of the update; its last dimension is contiguous, as that of the next two.
        shift: (B, w).
        scale: (B, w), with the strides of `shift`.
        dtype: of the normalised activations.

    Returns:
        x + gate * update, (B, K, w), and layer_norm of it * (1 + scale) + shift, (B, K, w) in `dtype`.
    """
    added, out = _AddAndModulate.apply(x, update, gate, shift, scale, dtype)
    return x if added is None else added, out


def reference(
    x: Tensor, update: Tensor | None, gate: Tensor | None, shift: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `add_and_modulate` in PyTorch, with arguments and results of the same shapes."""
    if update is not None and gate is not None:
        x = x + gate[:, None] * update  # (B, K, w)
    return x, F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


@cache
def usable(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Return whether these kernels may be used for a width of heads * head_dim; see `verify.kernels_match`."""
    return kernels_match("adaptive norm", max_error, device, dtype, heads, kv_heads, head_dim)


def max_error(device: torch.device, dtype: torch.dtype, heads: int, _kv_heads: int, head_dim: int) -> float:
    """Return the largest relative error of values and gradients against PyTorch in fp32, on random inputs."""
    generator = torch.Generator().manual_seed(1)
    B, width, errors = 3, heads * head_dim, []
    for K, adds, goes_on in ((5, True, True), (ROWS + 7, False, True), (ROWS, True, False)):
        x, update = (torch.randn((B, K, width), generator=generator) for _ in range(2))
        changes = torch.randn((B, 3 * width), generator=generator)
        waves = [torch.randn((B, K, width), generator=generator).to(device, dtype).float() for _ in range(2)]
        results: list[list[Tensor]] = []
        for own in (dtype, torch.float32):
            leaves = [
                x.to(device).float().requires_grad_(),
                *(y.to(device, dtype).to(own).requires_grad_() for y in (update, changes)),
            ]
            with torch.enable_grad():
                gate, shift, scale = leaves[2].chunk(3, -1)  # (B, w) each
                own_gate, own_update = (gate, leaves[1]) if adds else (None, None)
                if not results:
                    values = add_and_modulate(leaves[0], own_update, own_gate, shift, scale, dtype)
                else:
                    values = reference(leaves[0], own_update, own_gate, shift, scale)
                loss = (values[1].float() * waves[0]).sum()
                loss = loss + (values[0].float() * waves[1]).sum() if goes_on else loss
                leaves = leaves if adds else [leaves[0], leaves[2]]
                results.append([*values, *torch.autograd.grad(loss, leaves)])
        errors += [float((a.float() - b).detach().norm() / b.detach().norm()) for a, b in zip(*results, strict=True)]
    return max(errors)
