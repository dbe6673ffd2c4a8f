"""Kernels of a decode step. `usable` compares each with the same computation in PyTorch before first use."""

# mypy: disable-error-code="no-untyped-def"

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.kernels.fused_layer import launch_add_norm
from ray_bridge.gpu.kernels.verify import kernels_match, tl, triton

PROGRAMS = 2048
"""Programs that an attention launch aims for, so that every multiprocessor has several blocks of keys in flight."""

if triton is not None:

    @triton.jit
    def _attend_split(
        q_ptr,
        k_ptr,
        v_ptr,
        length_ptr,
        out_ptr,
        lse_ptr,
        rows,
        kv_heads,
        k_stride_b,
        k_stride_h,
        shared_length,
        split_size,
        first_split,
        scale,
        G: tl.constexpr,
        D: tl.constexpr,
        BM: tl.constexpr,
        BN: tl.constexpr,
        SHARED: tl.constexpr,
    ):
        """Attend with BM query heads of one key head to one split of its keys; keep the log-sum-exp too."""
        block = tl.program_id(0)
        split = tl.program_id(1)
        head = block % kv_heads
        lane = tl.arange(0, BM)
        if SHARED:
            m = (block // kv_heads) * BM + lane
            ok = m < rows * G
            base = tl.zeros([], tl.int64)
            length = shared_length
        else:
            m = (block // kv_heads) * G + lane
            ok = lane < G
            base = (block // kv_heads).to(tl.int64) * k_stride_b
            length = tl.load(length_ptr + block // kv_heads).to(tl.int32) + 1
        query = (m // G) * (kv_heads * G) + head * G + m % G
        d = tl.arange(0, D)
        q = tl.load(q_ptr + query[:, None] * D + d[None, :], mask=ok[:, None], other=0.0)
        top = tl.full([BM], float("-inf"), tl.float32)
        total = tl.zeros([BM], tl.float32)
        acc = tl.zeros([BM, D], tl.float32)
        begin = split * split_size
        end = tl.minimum(begin + split_size, length)
        keys = k_ptr + base + head * k_stride_h
        values = v_ptr + base + head * k_stride_h
        for n in range(begin, end, BN):
            at = n + tl.arange(0, BN)
            inside = at < end
            k = tl.load(keys + at[None, :] * D + d[:, None], mask=inside[None, :], other=0.0)
            scores = tl.dot(q, k) * scale
            scores = tl.where(inside[None, :], scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, 1))
            p = tl.exp(scores - new_top[:, None])
            keep = tl.exp(top - new_top)
            v = tl.load(values + at[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
            acc = acc * keep[:, None] + tl.dot(p.to(v.dtype), v)
            total = total * keep + tl.sum(p, 1)
            top = new_top
        seen = total > 0
        divisor = tl.where(seen, total, 1.0)
        place = (first_split + split) * rows * kv_heads * G + query
        tl.store(out_ptr + place[:, None] * D + d[None, :], acc / divisor[:, None], mask=ok[:, None])
        tl.store(lse_ptr + place, tl.where(seen, top + tl.log(divisor), float("-inf")), mask=ok)

    @triton.jit
    def _combine_splits(part_ptr, lse_ptr, out_ptr, heads, splits, D: tl.constexpr, SP: tl.constexpr):
        """Combine the splits of one query head into its attention."""
        row = tl.program_id(0)
        s = tl.arange(0, SP)
        d = tl.arange(0, D)
        lse = tl.load(lse_ptr + s * heads + row, mask=s < splits, other=float("-inf"))
        weight = tl.exp(lse - tl.max(lse, 0))
        parts = tl.load(part_ptr + (s[:, None] * heads + row) * D + d[None, :], mask=(s < splits)[:, None], other=0.0)
        y = tl.sum(parts * weight[:, None], 0) / tl.sum(weight, 0)
        tl.store(out_ptr + row * D + d, y.to(out_ptr.dtype.element_ty))

    @triton.jit
    def _rotate_store(
        qkv_ptr,
        cos_ptr,
        sin_ptr,
        length_ptr,
        q_ptr,
        k_ptr,
        v_ptr,
        heads,
        kv_heads,
        stride_b,
        stride_h,
        HALF: tl.constexpr,
    ):
        """Rotate one head of a new token by its position; store it in the queries, cached keys or cached values."""
        b = tl.program_id(0)
        head = tl.program_id(1)
        d = tl.arange(0, HALF)
        x_ptr = qkv_ptr + (b * (heads + 2 * kv_heads) + head) * 2 * HALF
        low = tl.load(x_ptr + d).to(tl.float32)
        high = tl.load(x_ptr + HALF + d).to(tl.float32)
        cos = tl.load(cos_ptr + b * 2 * HALF + d).to(tl.float32)
        sin = tl.load(sin_ptr + b * 2 * HALF + d).to(tl.float32)
        slot = b.to(tl.int64) * stride_b + tl.load(length_ptr + b) * 2 * HALF
        if head < heads + kv_heads:
            first = low * cos - high * sin
            second = high * cos + low * sin
            if head < heads:
                out = q_ptr + (b * heads + head) * 2 * HALF
                tl.store(out + d, first.to(q_ptr.dtype.element_ty))
                tl.store(out + HALF + d, second.to(q_ptr.dtype.element_ty))
            else:
                out = k_ptr + slot + (head - heads) * stride_h
                tl.store(out + d, first.to(k_ptr.dtype.element_ty))
                tl.store(out + HALF + d, second.to(k_ptr.dtype.element_ty))
        else:
            out = v_ptr + slot + (head - heads - kv_heads) * stride_h
            tl.store(out + d, low.to(v_ptr.dtype.element_ty))
            tl.store(out + HALF + d, high.to(v_ptr.dtype.element_ty))

    @triton.jit
    def _swiglu(gate_up_ptr, out_ptr, width, BLOCK: tl.constexpr):
        """Compute silu(gate) * up for a part of one row."""
        row = tl.program_id(0)
        d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        ok = d < width
        gate = tl.load(gate_up_ptr + row * 2 * width + d, mask=ok, other=0.0).to(tl.float32)
        up = tl.load(gate_up_ptr + row * 2 * width + width + d, mask=ok, other=0.0).to(tl.float32)
        tl.store(out_ptr + row * width + d, (gate / (1 + tl.exp(-gate)) * up).to(out_ptr.dtype.element_ty), mask=ok)


def attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, scale: float, prefix: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Attend with one new token a row to the slots in use and to a prefix that all rows share.

    The keys are split over programs, whose results are combined by their log-sum-exp (Dao et al. 2023, Flash-Decoding).

    Args:
        q: (B, h, D) contiguous.
        keys: (B, h_kv, slots, D) contiguous.
        values: (B, h_kv, slots, D) contiguous.
        lengths: (B,) index of the newest slot.
        scale: factor on the scores.
        prefix: keys and values of the prefix, (h_kv, H, D) each, contiguous, or None.

    Returns:
        (B, h, D).
    """
    B, h, D = q.shape
    kv, slots = keys.shape[1], keys.shape[2]
    G = h // kv
    own = max(1, min(-(-PROGRAMS // (B * kv)), -(-slots // 64)))
    size = -(-slots // own // 64) * 64
    own = -(-slots // size)
    BM, H = 64, 0 if prefix is None else prefix[0].shape[1]
    blocks = -(-B * G // BM)
    shared = 0 if prefix is None else max(1, min(-(-PROGRAMS // 8 // (blocks * kv)), -(-H // 64)))
    shared_size = 0 if prefix is None else -(-H // shared // 64) * 64
    shared = 0 if prefix is None else -(-H // shared_size)
    splits = own + shared
    parts = torch.empty(splits, B * h, D, dtype=torch.float32, device=q.device)  # (s, B h, D)
    lse = torch.empty(splits, B * h, dtype=torch.float32, device=q.device)  # (s, B h)
    tail: Any = {"D": D, "BN": 64, "G": G}
    _attend_split[(B * kv, own)](
        q, keys, values, lengths, parts, lse, B, kv, keys.stride(0), keys.stride(1), 0, size, 0, scale,
        BM=max(16, triton.next_power_of_2(G)), SHARED=False, **tail,
    )  # fmt: skip
    if prefix is not None:
        k, v = prefix
        _attend_split[(blocks * kv, shared)](
            q, k, v, lengths, parts, lse, B, kv, 0, k.stride(0), H, shared_size, own, scale,
            BM=BM, SHARED=True, **tail,
        )  # fmt: skip
    y = torch.empty_like(q)
    _combine_splits[(B * h,)](parts, lse, y, B * h, splits, D=D, SP=triton.next_power_of_2(splits))
    return y


def reference_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, scale: float, prefix: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Compute `attention` in PyTorch, with arguments and result of the same shapes."""
    B, h, _ = q.shape
    if prefix is not None:
        keys, values = (torch.cat([x.expand(B, -1, -1, -1), y], 2) for x, y in zip(prefix, (keys, values), strict=True))
    past = 0 if prefix is None else prefix[0].shape[1]
    groups = h // keys.shape[1]
    k, v = (x.float().repeat_interleave(groups, 1) for x in (keys, values))  # (B, h, H + slots, D)
    scores = torch.einsum("bhd,bhsd->bhs", q.float(), k) * scale  # (B, h, H + slots)
    seen = torch.arange(k.shape[2], device=q.device) <= (past + lengths)[:, None]  # (B, H + slots)
    weights = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1)  # (B, h, H + slots)
    return torch.einsum("bhs,bhsd->bhd", weights, v).to(q.dtype)  # (B, h, D)


def rotate_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, heads: int
) -> Tensor:
    """Rotate queries and keys, and store keys and values in the cache.

    Args:
        qkv: (B, (h + 2 h_kv) D), contiguous.
        cos: (B, D), contiguous.
        sin: (B, D), contiguous.
        lengths: (B,) slot of each row's new token.
        keys: (B, h_kv, slots, D); changed in place.
        values: (B, h_kv, slots, D); changed in place.
        heads: h.

    Returns:
        (B, h, D) rotated queries.
    """
    B, D, kv = len(qkv), keys.shape[-1], keys.shape[1]
    q = torch.empty(B, heads, D, dtype=qkv.dtype, device=qkv.device)
    _rotate_store[(B, heads + 2 * kv)](
        qkv, cos, sin, lengths, q, keys, values, heads, kv, keys.stride(0), keys.stride(1), HALF=D // 2
    )
    return q


def add_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x + y, or x itself if y is None, and its RMS norm, (B, d) each."""
    total, out, _ = launch_add_norm(x, y, weight, eps)
    return total, out


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up (Shazeer 2020), (B, 2 m) -> (B, m)."""
    B, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(B, width, dtype=gate_up.dtype, device=gate_up.device)
    _swiglu[(B, -(-width // 1024))](gate_up, out, width, BLOCK=1024)
    return out


@cache
def usable(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Return whether these kernels may be used for a geometry; see `verify.kernels_match`."""
    return kernels_match("decode", max_error, device, dtype, heads, kv_heads, head_dim)


def max_error(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> float:
    """Return the largest relative error of any kernel against PyTorch, on random inputs."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    B, slots, H, D = 5, 200, 150, head_dim
    keys, values = draw(B, kv_heads, slots, D), draw(B, kv_heads, slots, D)
    shared = (draw(kv_heads, H, D), draw(kv_heads, H, D))
    lengths = torch.tensor([0, 7, 63, 64, slots - 1], device=device)
    cos, sin = draw(B, D), draw(B, D)
    cos, sin = (torch.cat([x[:, : D // 2]] * 2, -1).contiguous() for x in (cos, sin))
    qkv = draw(B, (heads + 2 * kv_heads) * D)
    parts = qkv.view(B, -1, D).float()
    half = torch.cat([-parts[..., D // 2 :], parts[..., : D // 2]], -1)
    rotated = (parts * cos[:, None].float() + half * sin[:, None].float()).to(dtype)  # (B, h + 2 h_kv, D)
    new_keys, new_values = keys.clone(), values.clone()
    rows = torch.arange(B, device=device)
    new_keys[rows, :, lengths] = rotated[:, heads : heads + kv_heads]
    new_values[rows, :, lengths] = parts[:, heads + kv_heads :].to(dtype)
    q = rotate_store(qkv, cos, sin, lengths, keys, values, heads)
    errors = [_error(q, rotated[:, :heads]), _error(keys, new_keys), _error(values, new_values)]
    for prefix in (None, shared):
        y = attention(q, keys, values, lengths, D**-0.5, prefix)
        errors.append(_error(y, reference_attention(q, keys, values, lengths, D**-0.5, prefix)))
    x, y, w = draw(B, 300), draw(B, 300), draw(300)
    total, out = add_norm(x, y, w, 1e-5)
    s = (x.float() + y.float()).to(dtype)
    errors += [_error(total, s), _error(out, F.rms_norm(s.float(), (300,), w.float(), 1e-5))]
    errors.append(_error(add_norm(x, None, w, 1e-5)[1], F.rms_norm(x.float(), (300,), w.float(), 1e-5)))
    gate_up = draw(B, 2 * 1500)
    gate, up = gate_up.float().chunk(2, -1)
    errors.append(_error(swiglu(gate_up), F.silu(gate) * up))
    return max(errors)


def _error(value: Tensor, reference: Tensor) -> float:
    return float((value.float() - reference.float()).norm() / reference.float().norm())
