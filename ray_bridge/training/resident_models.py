"""Keep the frozen models of a job loaded for the process's next one, which mostly asks for the same two."""

import gc
from pathlib import Path
from typing import Any

import torch

from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.config.fingerprint import folder_digest
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.model_pair import ModelPair, sample_texts
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.tasks.splits import Splits


class ResidentModels:
    """The frozen models of this process's last job, in training's arithmetic; nothing at first."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._models: tuple[FrozenLM, FrozenLM] | None = None

    def may_hold(self, spec: JobSpec) -> bool:
        """Return whether the models held are those that a job names."""
        return self._key is not None and self._key[0] == _names(spec)

    def pair(self, spec: JobSpec, splits: Splits, worker: Worker) -> ModelPair:
        """Return a job's pair: of the models held, or of others that are loaded after those have been given up.

        Its numbers are those of a pair that was loaded for this job: what is held was loaded, and its fast paths were
        judged, for the same files, precision and texts.

        Args:
            spec: the job.
            splits: its data.
            worker: this process; all workers of the job make the same calls.

        Raises:
            UserError: as `ModelPair.load`.
        """
        on_gpu = worker.device.type == "cuda"  # where fast paths are judged on the task's text
        key = (_names(spec), _contents(spec), sample_texts(splits) if on_gpu else ())
        if self._models is None or key != self._key:
            self._key = self._models = None
            release_memory()
            pair = ModelPair.load(spec, splits, worker.device, shards=ShardGroup.of(worker))
            self._key, self._models = key, (pair.source, pair.target)
            return pair
        return ModelPair.of(spec, splits, *self._models)


def release_memory() -> None:
    """Give back what ended jobs of this process held of the device's memory."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _names(spec: JobSpec) -> tuple[Any, ...]:
    """Return the fields of a job on which the loaded models depend."""
    return (
        *(spec.source, spec.source_revision, spec.target, spec.target_revision),
        *(spec.model_dtype, spec.target_precision, spec.target_shards),
    )


def _contents(spec: JobSpec) -> tuple[str, ...]:
    """Return digests of the checkpoints' files, which may have been written again since the last job."""
    folders = (Path(resolve(name)) for name in (spec.source, spec.target))
    return tuple(folder_digest(folder) for folder in folders if folder.is_dir())
