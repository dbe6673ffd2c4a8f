"""A trainer for runs without Ray datasets leaves out their callback, and no other."""

from pathlib import Path

import ray.train
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from ray_bridge.training.without_datasets import without_datasets


def callbacks_of(trainer: type[DataParallelTrainer], folder: Path, **options: object) -> list[type]:
    made = trainer(lambda: None, run_config=ray.train.RunConfig(storage_path=str(folder)), **options)
    return [type(callback) for callback in made._create_default_callbacks()]


def test_only_the_callback_of_datasets_is_left_out(tmp_path: Path) -> None:
    of_ray = callbacks_of(DataParallelTrainer, tmp_path)
    assert DatasetsCallback in of_ray
    ours = callbacks_of(without_datasets(DataParallelTrainer), tmp_path)
    assert ours == [kind for kind in of_ray if kind is not DatasetsCallback]


def test_a_run_with_datasets_keeps_it(tmp_path: Path) -> None:
    kept = callbacks_of(without_datasets(DataParallelTrainer), tmp_path, datasets={"train": lambda: None})
    assert DatasetsCallback in kept
