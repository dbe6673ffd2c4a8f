"""Turn a failed allocation into one line that says which part of a job it was and what to change.

Whoever catches that line can go on using the process: the frames of the failed call no longer hold its tensors, and
captured CUDA graphs with their memory are given up.
"""

import gc
import traceback
from collections.abc import Callable
from types import TracebackType

import torch

from bridge_common.errors import UserError

REMEDIES = {
    "loading the models": "use larger GPUs, smaller models, or model_dtype=bfloat16",
    "preparing the frozen models' states": "lower num_fewshot, or use larger GPUs",
    "a training step": "lower batch_size, num_fewshot or soft_tokens, share the batch among more workers, or run "
    "layers again in the backward pass (recompute_tokens=0)",
    "an evaluation": "lower eval_batch_size, num_fewshot or max_new_tokens",
}
"""By part of a job, what makes it smaller."""


class OutOfMemoryError(UserError):
    """A part of a job does not fit into the device's memory."""


class NamesOutOfMemory:
    """Context manager that names the part of a job in which memory ran out.

    Args:
        part: one of `REMEDIES`.
        release: gives up memory that later work can do without, such as captured graphs.

    Raises:
        OutOfMemoryError: on leaving it, for a failed allocation; any other error passes unchanged.
    """

    def __init__(self, part: str, release: Callable[[], None] | None = None) -> None:
        self.part, self.release = part, release

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            return
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        traceback.clear_frames(trace)
        error.__traceback__ = trace = None  # cleared frames still refer to what their inner functions had from outside
        if self.release is not None:
            self.release()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise OutOfMemoryError(f"out of memory in {self.part} ({reason}): {REMEDIES[self.part]}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failed allocation, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
