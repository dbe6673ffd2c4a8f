"""Modules of a plug-in, written to a folder from which this process can import them for the length of a test."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_bridge import BRIDGES, TASKS
from tune_spaces.design import toggles

EXAMPLE = '''"""A task, a bridge and a toggle of one's own."""

from ray_bridge import JobSpec, Setting
from ray_bridge.bridges.resampler import Resampler
from ray_bridge.tasks.question_answering import QuestionTask
from ray_bridge.tasks.scoring import cut, score_number
from ray_bridge.tasks.task import Example
from tune_spaces.design.toggles import Toggle, register


class Sums(QuestionTask):
    """Sums of two numbers."""

    name = "sums"
    settings = (Setting(name="largest", default=20, meaning="largest number in a sum"),)

    def __init__(self, largest):
        self.largest = largest

    @classmethod
    def from_spec(cls, spec):
        return cls(spec.extra["largest"])

    def train(self):
        return [self.example("train", number) for number in range(200)]

    def test(self):
        return [self.example("test", number) for number in range(40)]

    def example(self, split, number):
        a, b = number % self.largest, number // 7 % self.largest
        question, gold = f"{a} plus {b}?", str(a + b)
        return Example(id=f"sums-{split}-{number}", index=number, question=question, answer=f"#### {gold}", gold=gold)

    def score(self, output, example):
        return score_number(cut(output, self.stops), example.gold)


class Scaled(Resampler):
    """A resampler whose output is multiplied."""

    settings = (
        Setting(name="factor", default=2.0, meaning="what the output is multiplied by"),
        Setting(name="flipped", default=False, meaning="multiply by -1 as well"),
    )

    @classmethod
    def from_spec(cls, spec, **sizes):
        bridge = super().from_spec(spec, **sizes)
        bridge.factor = spec.extra["factor"] * (-1 if spec.extra["flipped"] else 1)
        return bridge

    def forward(self, states, mask, noise, dropped=None):
        return self.factor * super().forward(states, mask, noise, dropped)


register(
    Toggle(
        key="flip",
        field="extra.flipped",
        meaning="soft tokens point the other way",
        without="they point as they are",
        reference="an example",
        column="flipped",
    )
)
'''


@contextmanager
def importable(folder: Path) -> Iterator[Path]:
    """Let this process import modules of a folder; afterwards they and what they registered are gone."""
    modules, keys = set(sys.modules), {toggle.key for toggle in toggles.all_toggles()}
    names = [(registry, {entry.name for entry in registry.entries()}) for registry in (TASKS, BRIDGES)]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
        for key in {toggle.key for toggle in toggles.all_toggles()} - keys:
            toggles.unregister(key)
        for registry, known in names:
            for entry in registry.entries():
                if entry.name not in known:
                    registry.unregister(entry.name)
