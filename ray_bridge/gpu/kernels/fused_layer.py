"""Triton kernels of a frozen decoder layer, forward and backward: rotary embedding, SwiGLU, and residual RMS norm.

In PyTorch the rotation of queries and keys, the concatenation with a prefix's keys and values, the gate, and the sums
between norms are more than a dozen launches a layer and direction, each of which reads and writes all of its input. The
layer's weights are frozen, so the backward pass needs nothing but what these kernels are given.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0915

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels.verify import kernels_match, tl, triton

BLOCK = 1024

if triton is not None:

    @triton.jit
    def _rotate(
        qkv_ptr,
        cos_ptr,
        sin_ptr,
        prefix_k_ptr,
        prefix_v_ptr,
        q_ptr,
        k_ptr,
        v_ptr,
        T,
        past,
        heads,
        kv_heads,
        angle_stride,
        BACKWARD: tl.constexpr,
        HEADS: tl.constexpr,
        HALF: tl.constexpr,
    ):
        """Rotate queries and keys of all heads at one position, and write keys and values after those of the prefix.

        BACKWARD takes gradients the other way: from q, k and v into qkv, rotated back.
        """
        b = tl.program_id(0).to(tl.int64)
        t = tl.program_id(1)
        if BACKWARD:  # the prefix gets no gradient
            t += past
        d = tl.arange(0, HALF)[None, :]
        n = tl.arange(0, HEADS)[:, None]
        D = 2 * HALF
        L = past + T
        if t < past:
            # A position of the prefix, the same for all rows.
            n_kv = n < kv_heads
            own = (t * kv_heads + n) * D + d
            out = ((b * L + t) * kv_heads + n) * D + d
            tl.store(k_ptr + out, tl.load(prefix_k_ptr + own, mask=n_kv), mask=n_kv)
            tl.store(k_ptr + out + HALF, tl.load(prefix_k_ptr + own + HALF, mask=n_kv), mask=n_kv)
            tl.store(v_ptr + out, tl.load(prefix_v_ptr + own, mask=n_kv), mask=n_kv)
            tl.store(v_ptr + out + HALF, tl.load(prefix_v_ptr + own + HALF, mask=n_kv), mask=n_kv)
        else:
            place = t - past
            all_heads = heads + 2 * kv_heads
            x = qkv_ptr + ((b * T + place) * all_heads + n) * D + d
            angle = b * angle_stride + place * D + d
            cos = tl.load(cos_ptr + angle).to(tl.float32)
            sin = tl.load(sin_ptr + angle).to(tl.float32)
            is_q = n < heads
            is_k = (n >= heads) & (n < heads + kv_heads)
            is_v = (n >= heads + kv_heads) & (n < all_heads)
            q = q_ptr + ((b * T + place) * heads + n) * D + d
            k = k_ptr + ((b * L + t) * kv_heads + n - heads) * D + d
            v = v_ptr + ((b * L + t) * kv_heads + n - heads - kv_heads) * D + d
            if BACKWARD:
                low = tl.load(q, mask=is_q, other=0.0) + tl.load(k, mask=is_k, other=0.0)
                high = tl.load(q + HALF, mask=is_q, other=0.0) + tl.load(k + HALF, mask=is_k, other=0.0)
                low, high = low.to(tl.float32), high.to(tl.float32)
                dtype = qkv_ptr.dtype.element_ty
                tl.store(x, (low * cos + high * sin).to(dtype), mask=is_q | is_k)
                tl.store(x + HALF, (high * cos - low * sin).to(dtype), mask=is_q | is_k)
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
    def _swiglu(gate_up_ptr, out_ptr, grad_ptr, width, BACKWARD: tl.constexpr, BLOCK: tl.constexpr):
        """Compute silu(gate) * up for a part of one row; BACKWARD takes its gradient, in `out`, to gate's and up's."""
        row = tl.program_id(0).to(tl.int64)
        d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        ok = d < width
        gate = tl.load(gate_up_ptr + row * 2 * width + d, mask=ok, other=0.0).to(tl.float32)
        up = tl.load(gate_up_ptr + row * 2 * width + width + d, mask=ok, other=0.0).to(tl.float32)
        sigmoid = 1 / (1 + tl.exp(-gate))
        if BACKWARD:
            grad = tl.load(out_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
            dtype = grad_ptr.dtype.element_ty
            slope = sigmoid * (1 + gate * (1 - sigmoid))
            tl.store(grad_ptr + row * 2 * width + d, (grad * up * slope).to(dtype), mask=ok)
            tl.store(grad_ptr + row * 2 * width + width + d, (grad * gate * sigmoid).to(dtype), mask=ok)
        else:
            tl.store(out_ptr + row * width + d, (gate * sigmoid * up).to(out_ptr.dtype.element_ty), mask=ok)

    @triton.jit
    def _add_norm(x_ptr, y_ptr, w_ptr, sum_ptr, out_ptr, rstd_ptr, width, eps, ADD: tl.constexpr, BLOCK: tl.constexpr):
        """Add y to one row of x if ADD, and take the RMS norm of the sum."""
        row = tl.program_id(0).to(tl.int64)
        d = tl.arange(0, BLOCK)
        ok = d < width
        x = tl.load(x_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
        if ADD:
            x += tl.load(y_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
            x = x.to(sum_ptr.dtype.element_ty)
            tl.store(sum_ptr + row * width + d, x, mask=ok)
            x = x.to(tl.float32)
        rstd = tl.rsqrt(tl.sum(x * x, 0) / width + eps)
        w = tl.load(w_ptr + d, mask=ok, other=0.0).to(tl.float32)
        tl.store(out_ptr + row * width + d, (x * rstd * w).to(out_ptr.dtype.element_ty), mask=ok)
        tl.store(rstd_ptr + row, rstd)

    @triton.jit
    def _add_norm_backward(
        sum_ptr, w_ptr, rstd_ptr, dout_ptr, dsum_ptr, dx_ptr, width, ONWARDS: tl.constexpr, BLOCK: tl.constexpr
    ):
        """Take one row's gradient to the sum; ONWARDS if the sum itself is read later, too."""
        row = tl.program_id(0).to(tl.int64)
        d = tl.arange(0, BLOCK)
        ok = d < width
        rstd = tl.load(rstd_ptr + row)
        normed = tl.load(sum_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32) * rstd
        slope = tl.load(dout_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
        slope *= tl.load(w_ptr + d, mask=ok, other=0.0).to(tl.float32)
        dx = rstd * (slope - normed * (tl.sum(slope * normed, 0) / width))
        if ONWARDS:
            dx += tl.load(dsum_ptr + row * width + d, mask=ok, other=0.0).to(tl.float32)
        tl.store(dx_ptr + row * width + d, dx.to(dx_ptr.dtype.element_ty), mask=ok)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, prefix_k: Tensor | None, prefix_v: Tensor | None, kv: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        B, T, n, D = qkv.shape
        past = 0 if prefix_k is None else prefix_k.shape[0]
        q = qkv.new_empty(B, T, n - 2 * kv, D)
        k, v = qkv.new_empty(B, past + T, kv, D), qkv.new_empty(B, past + T, kv, D)
        if prefix_k is None or prefix_v is None:
            prefix_k = prefix_v = qkv  # never read, since past is 0
        _launch_rotate(qkv, cos, sin, prefix_k, prefix_v, q, k, v, past, backward=False)
        ctx.save_for_backward(cos, sin)
        ctx.past, ctx.kv = past, kv
        return q, k, v

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        cos, sin = ctx.saved_tensors
        dq, dk, dv = (x.contiguous() for x in grad_outputs)
        B, T, h, D = dq.shape
        dqkv = dq.new_empty(B, T, h + 2 * ctx.kv, D)
        _launch_rotate(dqkv, cos, sin, dq, dq, dq, dk, dv, ctx.past, backward=True)
        return dqkv, None, None, None, None, None


def _launch_rotate(
    qkv: Tensor, cos: Tensor, sin: Tensor, prefix_k: Tensor, prefix_v: Tensor, q: Tensor, k: Tensor, v: Tensor,
    past: int, *, backward: bool,
) -> None:  # fmt: skip
    B, T, n, D = qkv.shape
    kv = k.shape[2]
    _rotate[(B, T if backward else past + T)](
        qkv, cos, sin, prefix_k, prefix_v, q, k, v, T, past, n - 2 * kv, kv, cos.stride(0) if len(cos) > 1 else 0,
        BACKWARD=backward, HEADS=triton.next_power_of_2(n), HALF=D // 2, num_warps=8,
    )  # fmt: skip


def rotate(
    qkv: Tensor, cos: Tensor, sin: Tensor, prefix: tuple[Tensor, Tensor] | None, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate queries and keys (RoPE, Su et al. 2021), and put the prefix's keys and values before each row's own.

    Args:
        qkv: (B, T, h + 2 h_kv, D) contiguous, with gradient.
        cos: (1 or B, T, D) contiguous.
        sin: (1 or B, T, D) contiguous.
        prefix: keys and values of the prefix, (H, h_kv, D) each, contiguous, or None.
        kv_heads: h_kv.

    Returns:
        Queries (B, T, h, D), keys and values (B, H + T, h_kv, D).
    """
    prefix_k, prefix_v = (None, None) if prefix is None else prefix
    return _Rotate.apply(qkv, cos, sin, prefix_k, prefix_v, kv_heads)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        rows, width = gate_up.numel() // gate_up.shape[-1], gate_up.shape[-1] // 2
        out = gate_up.new_empty(*gate_up.shape[:-1], width)
        _swiglu[(rows, -(-width // BLOCK))](gate_up, out, out, width, BACKWARD=False, BLOCK=BLOCK)
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gate_up,) = ctx.saved_tensors
        rows, width = gate_up.numel() // gate_up.shape[-1], gate_up.shape[-1] // 2
        grad, grad_output = torch.empty_like(gate_up), grad_outputs[0].contiguous()
        _swiglu[(rows, -(-width // BLOCK))](gate_up, grad_output, grad, width, BACKWARD=True, BLOCK=BLOCK)
        return grad


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up (Shazeer 2020) with gradient, (..., 2 m) contiguous -> (..., m)."""
    return _SwiGLU.apply(gate_up)


def launch_add_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return x + y, or x itself if y is None, its RMS norm, (..., d) each, and each row's factor, without gradients."""
    width = x.shape[-1]
    rows = x.numel() // width
    total, out = x if y is None else torch.empty_like(x), torch.empty_like(x)
    rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
    _add_norm[(rows,)](
        x, x if y is None else y, weight, total, out, rstd, width, eps,
        ADD=y is not None, BLOCK=triton.next_power_of_2(width), num_warps=8,
    )  # fmt: skip
    return total, out, rstd


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor | None, Tensor]:
        ctx.set_materialize_grads(False)
        total, out, rstd = launch_add_norm(x.contiguous(), None if y is None else y.contiguous(), weight, eps)
        ctx.save_for_backward(total, weight, rstd)
        ctx.adds = y is not None
        return total if ctx.adds else None, out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        total, weight, rstd = ctx.saved_tensors
        dsum, dout = grad_outputs
        if dout is None:
            return dsum, dsum if ctx.adds else None, None, None
        dout, dsum, dx = dout.contiguous(), None if dsum is None else dsum.contiguous(), torch.empty_like(total)
        width = total.shape[-1]
        _add_norm_backward[(len(rstd),)](
            total, weight, rstd, dout, dx if dsum is None else dsum, dx, width,
            ONWARDS=dsum is not None, BLOCK=triton.next_power_of_2(width), num_warps=8,
        )  # fmt: skip
        return dx, dx if ctx.adds else None, None, None


def add_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x + y, or x itself if y is None, and its RMS norm (Zhang & Sennrich 2019), with gradients.

    Args:
        x: (..., d), the residual stream.
        y: (..., d), what is added to it.
        weight: (d,), frozen.
        eps: added to the mean square.

    Returns:
        The sum (..., d), and the normed sum (..., d), which is rounded once.
    """
    total, out = _AddNorm.apply(x, y, weight, eps)
    return x if total is None else total, out


def reference_rotate(
    qkv: Tensor, cos: Tensor, sin: Tensor, prefix: tuple[Tensor, Tensor] | None, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `rotate` in PyTorch, by halves as its kernel does, with arguments and results of the same shapes."""
    heads = qkv.shape[2] - 2 * kv_heads
    low, high = qkv[:, :, : heads + kv_heads].chunk(2, -1)  # (B, T, h + h_kv, D / 2) each
    cos, sin = (x.chunk(2, -1)[0][:, :, None] for x in (cos, sin))  # (1 or B, T, 1, D / 2) each
    rotated = torch.cat([low * cos - high * sin, high * cos + low * sin], -1)  # (B, T, h + h_kv, D)
    q, k, v = rotated[:, :, :heads], rotated[:, :, heads:], qkv[:, :, heads + kv_heads :]
    if prefix is not None:
        k, v = (torch.cat([x.expand(len(qkv), -1, -1, -1), y], 1) for x, y in zip(prefix, (k, v), strict=True))
    return q, k, v


def reference_add_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute `add_norm` in PyTorch, with arguments and results of the same shapes."""
    x = x if y is None else x + y
    return x, F.rms_norm(x, (x.shape[-1],), weight, eps)


@cache
def usable(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Return whether these kernels may be used for a geometry; see `verify.kernels_match`."""
    return kernels_match("layer", max_error, device, dtype, heads, kv_heads, head_dim)


def max_error(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> float:
    """Return the largest relative error of values and gradients against PyTorch in fp32, on random inputs."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    B, T, H, D = 2, 9, 7, head_dim
    angle = torch.randn((1, T, D // 2), generator=generator)
    cos, sin = (torch.cat([x, x], -1).to(device, dtype) for x in (angle.cos(), angle.sin()))  # (1, T, D) each
    qkv, shared = draw(B, T, heads + 2 * kv_heads, D), (draw(H, kv_heads, D), draw(H, kv_heads, D))
    gate_up = draw(B, T, 2 * 1500)
    errors = []

    def compare(kernel: Any, reference: Any, x: Tensor) -> None:
        results = []
        for function, own_dtype in ((kernel, dtype), (reference, torch.float32)):
            leaf = x.detach().to(own_dtype).requires_grad_()
            values = function(leaf)
            waves = [torch.cos(torch.arange(v.numel(), device=device)).view(v.shape) for v in values]
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(values, leaf, [wave.to(dtype).to(own_dtype) for wave in waves])
            results.append([*values, gradient])
        for a, b in zip(*results, strict=True):
            errors.append(float((a.float() - b).detach().norm() / b.detach().norm()))

    with torch.enable_grad():
        for prefix in (None, shared):
            wide = None if prefix is None else tuple(x.float() for x in prefix)
            compare(
                lambda x, prefix=prefix: rotate(x, cos, sin, prefix, kv_heads),
                lambda x, wide=wide: reference_rotate(x, cos.float(), sin.float(), wide, kv_heads),
                qkv,
            )
        compare(lambda x: (swiglu(x),), lambda x: (F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],), gate_up)
        for width, adds in ((300, True), (300, False), (heads * D, True)):
            w = draw(width) if adds else draw(width).float()  # Gemma's is in fp32
            compare(
                lambda x, w=w, adds=adds: add_norm(x[0], x[1] if adds else None, w, 1e-5),
                lambda x, w=w, adds=adds: reference_add_norm(x[0], x[1] if adds else None, w.float(), 1e-5),
                draw(2, B, T, width),
            )
    return max(errors)
