"""What torch must be told before it works on a GPU as this package needs it; once a process, before the first model."""

import os

import torch


def settle(device: torch.device | str) -> None:
    """Settings for a device; nothing on a CPU.

    Memory-efficient attention is off: under a padding mask the kernel of torch 2.11 on an H200 gave wrong fp32
    prefills at some lengths (65 tokens, left-padded: accuracy 57 % where the plain kernel has 100 %).

    Memory grows in segments that can be extended: rows of many lengths leave gaps in fixed ones, up to 100 GB after a
    few dozen steps with the header in every row, and recordings cannot give theirs back. A user's own settings of the
    allocator are left alone.
    """
    if torch.device(device).type != "cuda":
        return
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    if not any(name in os.environ for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")):
        set_allocator = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
        (set_allocator or torch.cuda.memory._set_allocator_settings)("expandable_segments:True")
