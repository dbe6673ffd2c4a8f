"""PyTorch's settings for GPUs, applied once a process, before the first model is loaded."""

import os

import torch


def configure_torch(device: torch.device | str) -> None:
    """Apply this package's settings for a device; none on a CPU.

    Memory-efficient attention is off: under a padding mask the kernel of torch 2.11 on an H200 gave wrong fp32
    prefills at some lengths (65 tokens, left-padded: accuracy 57 % instead of 100 % with the math kernel).

    The allocator's segments are expandable: rows of many lengths leave gaps in fixed segments, up to 100 GB after a few
    dozen steps with the header in every row, and CUDA graphs cannot give theirs back. Allocator settings that the user
    has made are left alone.
    """
    if torch.device(device).type != "cuda":
        return
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    if not any(name in os.environ for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")):
        set_allocator = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
        (set_allocator or torch.cuda.memory._set_allocator_settings)("expandable_segments:True")
