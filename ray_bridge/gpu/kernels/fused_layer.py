"""Kernels of a frozen layer's two passes in Triton: rotation with what stands before, and the gate, each way in one.

In torch the rotation of queries and keys, the joining with a header's keys and values, and the gate are a dozen
launches a layer and direction, each of which reads and writes all of its input. The layer's weights are frozen, so
nothing but what these kernels are given is needed to go back through them.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0915

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ray_bridge.gpu.kernels.verify import agree, tl, triton

BLOCK = 1024

if triton is not None:

    @triton.jit
    def _turn(
        qkv_ptr,
        cos_ptr,
        sin_ptr,
        before_k_ptr,
        before_v_ptr,
        q_ptr,
        k_ptr,
        v_ptr,
        T,
        past,
        heads,
        kv_heads,
        turn_stride,
        BACK: tl.constexpr,
        HEADS: tl.constexpr,
        HALF: tl.constexpr,
    ):
        """All heads of one place: turn queries and keys, and put keys and values behind what stands before them.

        BACK takes gradients the other way: out of q, k and v into qkv, turned back.
        """
        b = tl.program_id(0).to(tl.int64)
        t = tl.program_id(1)
        if BACK:  # the header gets no gradient
            t += past
        d = tl.arange(0, HALF)[None, :]
        n = tl.arange(0, HEADS)[:, None]
        D = 2 * HALF
        L = past + T
        if t < past:
            # A place of the header, the same for all rows.
            n_kv = n < kv_heads
            own = (t * kv_heads + n) * D + d
            out = ((b * L + t) * kv_heads + n) * D + d
            tl.store(k_ptr + out, tl.load(before_k_ptr + own, mask=n_kv), mask=n_kv)
            tl.store(k_ptr + out + HALF, tl.load(before_k_ptr + own + HALF, mask=n_kv), mask=n_kv)
            tl.store(v_ptr + out, tl.load(before_v_ptr + own, mask=n_kv), mask=n_kv)
            tl.store(v_ptr + out + HALF, tl.load(before_v_ptr + own + HALF, mask=n_kv), mask=n_kv)
        else:
            place = t - past
            all_heads = heads + 2 * kv_heads
            x = qkv_ptr + ((b * T + place) * all_heads + n) * D + d
            turn = b * turn_stride + place * D + d
            cos = tl.load(cos_ptr + turn).to(tl.float32)
            sin = tl.load(sin_ptr + turn).to(tl.float32)
            is_q = n < heads
            is_k = (n >= heads) & (n < heads + kv_heads)
            is_v = (n >= heads + kv_heads) & (n < all_heads)
            q = q_ptr + ((b * T + place) * heads + n) * D + d
            k = k_ptr + ((b * L + t) * kv_heads + n - heads) * D + d
            v = v_ptr + ((b * L + t) * kv_heads + n - heads - kv_heads) * D + d
            if BACK:
                low = tl.load(q, mask=is_q, other=0.0) + tl.load(k, mask=is_k, other=0.0)
                high = tl.load(q + HALF, mask=is_q, other=0.0) + tl.load(k + HALF, mask=is_k, other=0.0)
                low, high = low.to(tl.float32), high.to(tl.float32)
                kind = qkv_ptr.dtype.element_ty
                tl.store(x, (low * cos + high * sin).to(kind), mask=is_q | is_k)
                tl.store(x + HALF, (high * cos - low * sin).to(kind), mask=is_q | is_k)
                tl.store(x, tl.load(v, mask=is_v, other=0.0), mask=is_v)
                tl.store(x + HALF, tl.load(v + HALF, mask=is_v, other=0.0), mask=is_v)
            else:
                ok = n < all_heads
                low = tl.load(x, mask=ok, other=0.0)
                high = tl.load(x + HALF, mask=ok, other=0.0)
                tl.store(v, low, mask=is_v)
                tl.store(v + HALF, high, mask=is_v)
                low, high = low.to(tl.float32), high.to(tl.float32)
                first = (low * cos - high * sin).to(q_ptr.dtype.element_ty)
                second = (high * cos + low * sin).to(q_ptr.dtype.element_ty)
                tl.store(q, first, mask=is_q)
                tl.store(q + HALF, second, mask=is_q)
                tl.store(k, first, mask=is_k)
                tl.store(k + HALF, second, mask=is_k)

    @triton.jit
    def _gated(gate_up_ptr, out_ptr, back_ptr, width, BACK: tl.constexpr, BLOCK: tl.constexpr):
        """silu(gate) * up of a part of one row; BACK takes the gradient of it to that of gate and up."""
        row = tl.program_id(0).to(tl.int64)
        d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        ok = d < width
        gate = tl.load(gate_up_ptr + row * 2 * width + d, mask=ok, other=0.0).to(tl.float32)
        up = tl.load(gate_up_ptr + row * 2 * width + width + d, mask=ok, other=0.0).to(tl.float32)
        share = 1 / (1 + tl.exp(-gate))
        if BACK:
            outer = tl.load(out_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
            kind = back_ptr.dtype.element_ty
            slope = share * (1 + gate * (1 - share))
            tl.store(back_ptr + row * 2 * width + d, (outer * up * slope).to(kind), mask=ok)
            tl.store(back_ptr + row * 2 * width + width + d, (outer * gate * share).to(kind), mask=ok)
        else:
            tl.store(out_ptr + row * width + d, (gate * share * up).to(out_ptr.dtype.element_ty), mask=ok)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, before_k: Tensor | None, before_v: Tensor | None, kv: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        B, T, n, D = qkv.shape
        past = 0 if before_k is None else before_k.shape[0]
        q = qkv.new_empty(B, T, n - 2 * kv, D)
        k, v = qkv.new_empty(B, past + T, kv, D), qkv.new_empty(B, past + T, kv, D)
        if before_k is None or before_v is None:
            before_k = before_v = qkv
        _launch(qkv, cos, sin, before_k, before_v, q, k, v, past, back=False)
        ctx.save_for_backward(cos, sin)
        ctx.past, ctx.kv = past, kv
        return q, k, v

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        cos, sin = ctx.saved_tensors
        dq, dk, dv = (x.contiguous() for x in outer)
        B, T, h, D = dq.shape
        dqkv = dq.new_empty(B, T, h + 2 * ctx.kv, D)
        _launch(dqkv, cos, sin, dq, dq, dq, dk, dv, ctx.past, back=True)
        return dqkv, None, None, None, None, None


def _launch(
    qkv: Tensor, cos: Tensor, sin: Tensor, before_k: Tensor, before_v: Tensor, q: Tensor, k: Tensor, v: Tensor,
    past: int, *, back: bool,
) -> None:  # fmt: skip
    B, T, n, D = qkv.shape
    kv = k.shape[2]
    _turn[(B, T if back else past + T)](
        qkv, cos, sin, before_k, before_v, q, k, v, T, past, n - 2 * kv, kv, cos.stride(0) if len(cos) > 1 else 0,
        BACK=back, HEADS=triton.next_power_of_2(n), HALF=D // 2, num_warps=8,
    )  # fmt: skip


def turn(
    qkv: Tensor, cos: Tensor, sin: Tensor, before: tuple[Tensor, Tensor] | None, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate queries and keys (Su et al. 2021) and put keys and values behind those of a header.

    Args:
        qkv: (B, T, h + 2 h_kv, D) contiguous, with gradient.
        cos: (1 or B, T, D) contiguous.
        sin: (1 or B, T, D) contiguous.
        before: keys and values (H, h_kv, D) of the header, contiguous, or None.
        kv_heads: h_kv.

    Returns:
        Queries (B, T, h, D), keys and values (B, H + T, h_kv, D).
    """
    before_k, before_v = (None, None) if before is None else before
    return _Turn.apply(qkv, cos, sin, before_k, before_v, kv_heads)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        rows, width = gate_up.numel() // gate_up.shape[-1], gate_up.shape[-1] // 2
        out = gate_up.new_empty(*gate_up.shape[:-1], width)
        _gated[(rows, -(-width // BLOCK))](gate_up, out, out, width, BACK=False, BLOCK=BLOCK)
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        (gate_up,) = ctx.saved_tensors
        rows, width = gate_up.numel() // gate_up.shape[-1], gate_up.shape[-1] // 2
        back = torch.empty_like(gate_up)
        _gated[(rows, -(-width // BLOCK))](gate_up, outer[0].contiguous(), back, width, BACK=True, BLOCK=BLOCK)
        return back


def gated(gate_up: Tensor) -> Tensor:
    """SwiGLU's product silu(gate) * up (Shazeer 2020), (..., 2 m) contiguous, with gradient -> (..., m)."""
    return _Gated.apply(gate_up)


def reference_turn(
    qkv: Tensor, cos: Tensor, sin: Tensor, before: tuple[Tensor, Tensor] | None, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What `turn` means."""
    B, half = len(qkv), qkv.shape[-1] // 2
    q, k, v = qkv.split([qkv.shape[2] - 2 * kv_heads, kv_heads, kv_heads], 2)
    signed = torch.cat([-sin[..., :half], sin[..., half:]], -1)[:, :, None]  # (1 or B, T, 1, D)
    q, k = (x * cos[:, :, None] + x.roll(half, -1) * signed for x in (q, k))
    if before is not None:
        k, v = (torch.cat([x.expand(B, -1, -1, -1), y], 1) for x, y in zip(before, (k, v), strict=True))
    return q, k, v


@cache
def usable(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Whether these kernels may be used for a geometry; see `checks.agree`."""
    return agree("layer", disagreement, device, dtype, heads, kv_heads, head_dim)


def disagreement(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> float:
    """Largest relative error of values and gradients against their meaning in torch at fp32, on random inputs."""
    chance = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=chance).to(device, dtype)

    B, T, H, D = 2, 9, 7, head_dim
    angle = torch.randn((1, T, D // 2), generator=chance)
    cos, sin = (torch.cat([x, x], -1).to(device, dtype) for x in (angle.cos(), angle.sin()))  # (1, T, D) each
    qkv, before = draw(B, T, heads + 2 * kv_heads, D), (draw(H, kv_heads, D), draw(H, kv_heads, D))
    gate_up = draw(B, T, 2 * 1500)
    gaps = []

    def compare(mine: Any, truth: Any, x: Tensor) -> None:
        results = []
        for function, kind in ((mine, dtype), (truth, torch.float32)):
            leaf = x.detach().to(kind).requires_grad_()
            values = function(leaf)
            outer = [torch.cos(torch.arange(v.numel(), device=device)).view(v.shape).to(dtype).to(kind) for v in values]
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(values, leaf, outer)
            results.append([*values, gradient])
        for a, b in zip(*results, strict=True):
            gaps.append(float((a.float() - b).detach().norm() / b.detach().norm()))

    with torch.enable_grad():
        for header in (None, before):
            wide = None if header is None else tuple(x.float() for x in header)
            compare(
                lambda x, header=header: turn(x, cos, sin, header, kv_heads),
                lambda x, wide=wide: reference_turn(x, cos.float(), sin.float(), wide, kv_heads),
                qkv,
            )
        compare(
            lambda x: (gated(x),), lambda x: (torch.nn.functional.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],), gate_up
        )
    return max(gaps)
