"""Everything that exists only for speed on a GPU. Nothing outside this package imports Triton.

Without it the project works as before, only slower. Its places of use, and what each becomes:

    transfer.send                     `tensor.to(device)`
    transfer.PackedTransfer           one tensor after another, each filled and sent
    settings.configure_torch          nothing
    sdpa.attend                       `scaled_dot_product_attention`
    cuda_graphs.GraphedCalls          a call of the function (`objectives/forward_passes.py`)
    kernels                           the PyTorch operations beside each call, which CPUs and fp32 use already:
                                      `models/attention.py`, `models/fused_decoder.py`, `generation/kv_caches.py`
"""
