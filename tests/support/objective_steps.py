"""Small pairs, examples and training steps for the tests of the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.tasks.task import Example, Score, Task
from tests.support.model_pairs import PairFolders

SMALL: dict[str, Any] = {
    "soft_tokens": 4,
    "hidden_size": 16,
    "depth": 1,
    "num_heads": 2,
    "sampler_steps": 2,
    "train_examples": 24,
    "validation_examples": 8,
    "test_examples": 8,
    "max_new_tokens": 12,
    "batch_size": 6,
    "condition_dropout": 0.0,
    "geometry_projection": False,
}


class ParityTask(SyntheticTask):
    """Score completions of random models variously: an even number of characters is correct, over ten well-formed."""

    def score(self, output: str, example: Example) -> Score:
        even = len(output) % 2 == 0
        return Score(answer=None, correct=even, flexible=even, valid=len(output) > 10)


class SameTask(SyntheticTask):
    """Score every completion the same."""

    def score(self, output: str, example: Example) -> Score:
        return Score(answer="1", correct=True, flexible=True, valid=True)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A loaded pair with its data and a translator whose weights are no longer the zeros they start from."""

    spec: JobSpec
    splits: Splits
    pair: ModelPair
    translator: TranslatorModule

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for p in self.translator.parameters() if p.requires_grad]

    def items(self, count: int) -> list[Encoded]:
        return self.pair.encoder(self.splits.train[:count])

    def step(self, items: Sequence[Encoded], number: int = 0, worker: Worker | None = None) -> StepContext:
        source = read_source(self.pair.source, items, self.spec.source_layer)
        step_key = StepKey(seed=self.spec.seed, step=number)
        return StepContext(self.spec, self.pair.target, self.translator, source, step_key, worker or Worker())


def make_frame(folders: PairFolders, task: type[SyntheticTask] = SyntheticTask, **changes: Any) -> Frame:
    """Load a pair for a small spec, with a task that may score by other rules."""
    spec = JobSpec(source=folders.source, target=folders.target, **(SMALL | changes))
    splits = load_splits(spec)
    scored: Task = task(train_examples=1, test_examples=1)
    splits = Splits(**(vars(splits) | {"task": scored}))
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    translator = build_translator(spec, pair.source, pair.target)
    unsettle(translator)
    return Frame(spec=spec, splits=splits, pair=pair, translator=translator)


def unsettle(translator: TranslatorModule) -> None:
    """Move the weights off their zero-initialised start, where most paths carry no gradient yet."""
    with torch.no_grad():
        for number, parameter in enumerate(translator.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.1 * noise)
