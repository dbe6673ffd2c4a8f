"""Load a task's examples by its name and divide them: training, validation, test and few-shot exemplars."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.noise import stable_seed
from ray_bridge.tasks.registry import TASKS
from ray_bridge.tasks.task import Example, Task, with_written_answer

_SLICE_SEED = 20_260  # fixed, so that runs of every seed select their checkpoint on the same examples


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The examples of a job.

    Attributes:
        task: prompts and scores them.
        train: what the bridge is trained on.
        validation: held out of train; the checkpoint is selected on it.
        test: what results are reported on.
        exemplars: solved examples before every question.
        header: the few-shot part of every prompt.
        written_header: the same for `text_bridge`, whose exemplars show another reader's answer: their own.
    """

    task: Task
    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    exemplars: Sequence[Example]
    header: str
    written_header: str

    @classmethod
    def of(
        cls,
        task: Task,
        exemplars: Sequence[Example],
        *,
        train: Sequence[Example] = (),
        validation: Sequence[Example] = (),
        test: Sequence[Example] = (),
    ) -> "Splits":
        """Return the splits of a task whose prompts begin with these exemplars; empty splits if none are given."""
        return cls(
            task=task,
            train=train,
            validation=validation,
            test=test,
            exemplars=exemplars,
            header=task.header(exemplars),
            written_header=task.header([with_written_answer(e, e.answer) for e in exemplars]),
        )


def make_task(spec: JobSpec) -> Task:
    """Make the task that a spec names, with the spec's stop texts if it has any."""
    task: Task = TASKS.load(spec.task).from_spec(spec)
    if spec.stops is not None:
        task.stops = spec.stops
    return task


def load_splits(spec: JobSpec) -> Splits:
    """Load a job's examples.

    Raises:
        UserError: if the data cannot be read, or have too few training examples.
    """
    task = make_task(spec)
    pool = task.train()
    held = spec.num_fewshot + spec.validation_examples
    if len(pool) <= held:
        raise UserError(
            f"{task.name} has {len(pool)} training examples; num_fewshot + validation_examples take {held}: lower them"
        )
    exemplars, rest = pool[: spec.num_fewshot], pool[spec.num_fewshot :]
    order = np.random.default_rng(stable_seed("validation slice", _SLICE_SEED)).permutation(len(rest))
    validation = [rest[i] for i in sorted(order[: spec.validation_examples])]
    train = [rest[i] for i in sorted(order[spec.validation_examples :])]
    return Splits.of(
        task,
        exemplars,
        train=train[: spec.train_examples],
        validation=validation,
        test=task.test()[: spec.test_examples],
    )
