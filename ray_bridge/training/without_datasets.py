"""Ray Train for jobs that read no Ray dataset: without the actor that would hand out its shards."""

from typing import Any

from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def without_datasets(trainer: type[DataParallelTrainer]) -> type[DataParallelTrainer]:
    """Return the trainer's class for runs without `datasets`.

    Ray starts an actor for the shards of datasets in every run, also where there are none: one more process, whose
    imports take about two seconds of a core while the workers do theirs.
    """

    class WithoutDatasets(trainer):
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if self.datasets or not isinstance(callback, DatasetsCallback)]

    WithoutDatasets.__name__ = trainer.__name__
    return WithoutDatasets
