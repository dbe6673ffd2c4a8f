"""Triton kernels of causal attention after a prefix whose keys and values need no gradient, forward and backward.

Flash attention's backward pass spends most of its time on the gradients of keys and values, and after a few-shot header
of 1,300 tokens four in five of those are the header's, which is frozen. Here they are not computed, and the query heads
that share a key head are handled together, so that keys are read once and their gradients need no summing over heads.
The method is FlashAttention-2 (Dao 2023).
"""

# mypy: disable-error-code="no-untyped-def"

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels.verify import kernels_match, tl, triton

FORWARD = {"BM": 64, "BN": 32, "num_warps": 4, "num_stages": 3}
QUERIES = {"BM": 64, "BN": 32, "num_warps": 4, "num_stages": 2}
KEYS = {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 2}
"""Rows (BM) and keys (BN) of a block, and launch options, for each of the three kernels."""

WIDEST_HEAD = 128
"""Features of a head at most: a program holds blocks of queries, keys and values at once."""

if triton is not None:

    @triton.jit
    def _forward(
        q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, T, past, heads, kv_heads, scale,
        G: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        """Attend with BM rows (token, query head of the group) of one key head to all keys that they see."""
        b, head = (tl.program_id(1) // kv_heads).to(tl.int64), tl.program_id(1) % kv_heads
        m = tl.program_id(0) * BM + tl.arange(0, BM)
        t = m // G
        d = tl.arange(0, D)
        ok = t < T
        row = (b * T + t) * heads + head * G + m % G
        q = tl.load(q_ptr + row[:, None] * D + d[None, :], mask=ok[:, None], other=0.0)
        L = past + T
        keys, values = k_ptr + (b * L * kv_heads + head) * D, v_ptr + (b * L * kv_heads + head) * D
        top = tl.full([BM], float("-inf"), tl.float32)
        total = tl.zeros([BM], tl.float32)
        acc = tl.zeros([BM, D], tl.float32)
        end = tl.minimum(L, past + (tl.program_id(0) * BM + BM - 1) // G + 1)
        for start in range(0, end, BN):
            n = start + tl.arange(0, BN)
            k = tl.load(keys + n[None, :] * kv_heads * D + d[:, None], mask=(n < L)[None, :], other=0.0)
            scores = tl.dot(q, k) * (scale * 1.4426950408889634)
            scores = tl.where(n[None, :] <= (past + t)[:, None], scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, 1))
            p = tl.exp2(scores - new_top[:, None])
            keep = tl.exp2(top - new_top)
            v = tl.load(values + n[:, None] * kv_heads * D + d[None, :], mask=(n < L)[:, None], other=0.0)
            acc = acc * keep[:, None] + tl.dot(p.to(v.dtype), v)
            total = total * keep + tl.sum(p, 1)
            top = new_top
        tl.store(
            out_ptr + row[:, None] * D + d[None, :],
            (acc / total[:, None]).to(out_ptr.dtype.element_ty),
            mask=ok[:, None],
        )
        tl.store(lse_ptr + row, top + tl.log2(total), mask=ok)

    @triton.jit
    def _queries(
        q_ptr, k_ptr, v_ptr, out_ptr, grad_ptr, lse_ptr, delta_ptr, dq_ptr, T, past, heads, kv_heads, scale,
        G: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        """Compute the gradient of BM rows of queries; store sum(out * grad) of each row for `_keys`."""
        b, head = (tl.program_id(1) // kv_heads).to(tl.int64), tl.program_id(1) % kv_heads
        m = tl.program_id(0) * BM + tl.arange(0, BM)
        t = m // G
        d = tl.arange(0, D)
        ok = t < T
        row = (b * T + t) * heads + head * G + m % G
        at = row[:, None] * D + d[None, :]
        q = tl.load(q_ptr + at, mask=ok[:, None], other=0.0)
        grad = tl.load(grad_ptr + at, mask=ok[:, None], other=0.0)
        out = tl.load(out_ptr + at, mask=ok[:, None], other=0.0)
        delta = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
        tl.store(delta_ptr + row, delta, mask=ok)
        lse = tl.load(lse_ptr + row, mask=ok, other=0.0)
        L = past + T
        keys, values = k_ptr + (b * L * kv_heads + head) * D, v_ptr + (b * L * kv_heads + head) * D
        acc = tl.zeros([BM, D], tl.float32)
        end = tl.minimum(L, past + (tl.program_id(0) * BM + BM - 1) // G + 1)
        for start in range(0, end, BN):
            n = start + tl.arange(0, BN)
            place = n[:, None] * kv_heads * D + d[None, :]
            k = tl.load(keys + place, mask=(n < L)[:, None], other=0.0)
            v = tl.load(values + place, mask=(n < L)[:, None], other=0.0)
            scores = tl.dot(q, tl.trans(k)) * (scale * 1.4426950408889634)
            seen = (n[None, :] <= (past + t)[:, None]) & ok[:, None]
            p = tl.where(seen, tl.exp2(scores - lse[:, None]), 0.0)
            ds = p * (tl.dot(grad, tl.trans(v)) - delta[:, None])
            acc += tl.dot(ds.to(k.dtype), k)
        tl.store(dq_ptr + at, (acc * scale).to(dq_ptr.dtype.element_ty), mask=ok[:, None])

    @triton.jit
    def _keys(
        q_ptr, k_ptr, v_ptr, grad_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr, T, past, heads, kv_heads, scale,
        G: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        """Compute the gradients of BN of the rows' own keys and values, over all rows that see them."""
        b, head = (tl.program_id(1) // kv_heads).to(tl.int64), tl.program_id(1) % kv_heads
        own = tl.program_id(0) * BN + tl.arange(0, BN)
        d = tl.arange(0, D)
        L = past + T
        at = ((b * L + past + own) * kv_heads + head)[:, None] * D + d[None, :]
        inside = (own < T)[:, None]
        k = tl.load(k_ptr + at, mask=inside, other=0.0)
        v = tl.load(v_ptr + at, mask=inside, other=0.0)
        dk = tl.zeros([BN, D], tl.float32)
        dv = tl.zeros([BN, D], tl.float32)
        begin = tl.program_id(0) * BN * G // BM * BM
        for start in range(begin, T * G, BM):
            m = start + tl.arange(0, BM)
            t = m // G
            ok = t < T
            row = (b * T + t) * heads + head * G + m % G
            place = row[:, None] * D + d[None, :]
            q = tl.load(q_ptr + place, mask=ok[:, None], other=0.0)
            grad = tl.load(grad_ptr + place, mask=ok[:, None], other=0.0)
            lse = tl.load(lse_ptr + row, mask=ok, other=0.0)
            delta = tl.load(delta_ptr + row, mask=ok, other=0.0)
            scores = tl.dot(k, tl.trans(q)) * (scale * 1.4426950408889634)  # keys by rows
            seen = (own[:, None] <= t[None, :]) & ok[None, :]
            p = tl.where(seen, tl.exp2(scores - lse[None, :]), 0.0)
            dv += tl.dot(p.to(grad.dtype), grad)
            ds = p * (tl.dot(v, tl.trans(grad)) - delta[None, :])
            dk += tl.dot(ds.to(q.dtype), q)
        tl.store(dk_ptr + at, (dk * scale).to(dk_ptr.dtype.element_ty), mask=inside)
        tl.store(dv_ptr + at, dv.to(dv_ptr.dtype.element_ty), mask=inside)


class _AttendAfterPrefix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        B, T, h, D = q.shape
        past, kv = k.shape[1] - T, k.shape[2]
        out = torch.empty_like(q)
        lse = torch.empty(B, T, h, dtype=torch.float32, device=q.device)  # to base 2
        grid = (triton.cdiv(T * (h // kv), FORWARD["BM"]), B * kv)
        _forward[grid](q, k, v, out, lse, T, past, h, kv, scale, G=h // kv, D=D, **FORWARD)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        q, k, v, out, lse = ctx.saved_tensors
        B, T, h, D = q.shape
        past, kv = k.shape[1] - T, k.shape[2]
        dout = grad_outputs[0].contiguous()
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        dk[:, :past] = 0
        dv[:, :past] = 0
        delta = torch.empty_like(lse)  # (B, T, h)
        tail = {"G": h // kv, "D": D}
        _queries[triton.cdiv(T * (h // kv), QUERIES["BM"]), B * kv](
            q, k, v, out, dout, lse, delta, dq, T, past, h, kv, ctx.scale, **tail, **QUERIES
        )
        _keys[triton.cdiv(T, KEYS["BN"]), B * kv](
            q, k, v, dout, lse, delta, dk, dv, T, past, h, kv, ctx.scale, **tail, **KEYS
        )
        return dq, dk, dv, None


def attend_after_prefix(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend causally with the last T of L = H + T positions; the first H keys and values get gradients of zero.

    Args:
        q: (B, T, h, D) contiguous.
        k: (B, L, h_kv, D) contiguous, h a multiple of h_kv.
        v: (B, L, h_kv, D) contiguous.
        scale: factor on the scores.

    Returns:
        (B, T, h, D).
    """
    return _AttendAfterPrefix.apply(q, k, v, scale)


def reference_attend_after_prefix(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Compute `attend_after_prefix`, same shapes, in PyTorch, with the gradient of the first H keys and values too."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, h, T, D), (B, h_kv, L, D) twice
    T, L = q.shape[2], k.shape[2]
    seen = torch.ones(T, L, dtype=torch.bool, device=q.device).tril(L - T)  # (T, L)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)  # (B, h, T, D)
    return y.transpose(1, 2)


@cache
def usable(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Return whether these kernels may be used for a geometry; see `verify.kernels_match`."""
    return head_dim <= WIDEST_HEAD and kernels_match("attention", max_error, device, dtype, heads, kv_heads, head_dim)


def max_error(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> float:
    """Return the largest relative error of values and gradients against PyTorch in fp32, on random inputs."""
    generator = torch.Generator().manual_seed(1)
    errors = []
    for T, H in ((9, 7), (70, 150), (130, 0)):
        shapes = ((2, T, heads, head_dim), *[(2, H + T, kv_heads, head_dim)] * 2)
        inputs = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
        grad_output = torch.randn(shapes[0], generator=generator).to(device, dtype)
        results = []
        for function, own_dtype in ((attend_after_prefix, dtype), (reference_attend_after_prefix, torch.float32)):
            leaves = [x.to(own_dtype, copy=True).requires_grad_() for x in inputs]
            with torch.enable_grad():
                y = function(leaves[0], leaves[1], leaves[2], head_dim**-0.5)
                dq, dk, dv = torch.autograd.grad(y, leaves, grad_output.to(own_dtype))
            results.append([y.detach(), dq, dk[:, H:], dv[:, H:]])
        errors += [float((a.float() - b).norm() / b.norm()) for a, b in zip(*results, strict=True)]
    return max(errors)
