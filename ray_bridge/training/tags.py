"""What is recorded of a job besides numbers: where it runs, and what a user should know of its data."""

import platform

import torch

from ray_bridge.tasks.splits import Splits


def data_tags(splits: Splits) -> dict[str, str]:
    """Return what a user should know of the data, such as rows that were left out; nothing if there is nothing."""
    notes: list[str] = getattr(splits.task, "notes", list)()
    return {"data_notes": "; ".join(notes)} if notes else {}


def environment(device: torch.device) -> dict[str, str]:
    """Return facts about where a job runs: versions, node and accelerator."""
    import transformers

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "node": platform.node(),
        "gpu": gpu,
    }
