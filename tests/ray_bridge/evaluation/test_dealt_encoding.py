"""Several workers encode a split once between them, and answer as one worker does."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.inputs.encoding import Encoded, Encoder
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.tasks.task import Example
from tests.support.model_pairs import PairFolders, make_pair
from tests.support.workers import on_workers

TASK = SyntheticTask(train_examples=4, test_examples=11)
HEADER = TASK.header(TASK.train()[:2])


class Counting(Encoder):
    """An encoder that counts the examples it tokenises."""

    encoded = 0

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        self.encoded += len(examples)
        return super()._encode(examples)


def answers(worker: Worker, folders: PairFolders) -> tuple[dict[str, Any], int]:
    """Return outputs of every kind of condition without soft tokens, and how many examples were encoded for them."""
    source, target = FrozenLM.load(folders.source), FrozenLM.load(folders.target)
    spec = tiny(source=folders.source, target=folders.target, max_new_tokens=6, num_fewshot=2, eval_dtype="as_trained")
    encoder = Counting(spec, TASK, HEADER, source, target)
    pair = ModelPair(spec=spec, source=source, target=target, task=TASK, encoder=encoder)
    evaluator, examples = Evaluator(pair, worker, 4, NodeCache(None)), TASK.test()
    names = ("target_alone", "source_alone", "text_bridge", "target_alone")
    return {name: evaluator.outputs(name, examples, None) for name in names}, encoder.encoded


def write_answers(worker: Worker, folders: PairFolders, out: Path) -> None:
    """One of three workers."""
    found, encoded = answers(worker, folders)
    (out / f"{worker.rank}.json").write_text(json.dumps([found, encoded]))


def test_every_worker_encodes_its_share_and_all_answer_alike(tmp_path: Path) -> None:
    folders = make_pair(tmp_path)
    alone, encoded = answers(Worker(), folders)
    assert encoded == 11
    on_workers(3, write_answers, folders, tmp_path)
    counts = []
    for rank in range(3):
        found, encoded = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == alone
        counts.append(encoded)
    assert counts == [4, 4, 3]


def test_what_is_dealt_comes_back_in_order() -> None:
    assert Worker().deal(5, lambda numbers: [10 * i for i in numbers]) == [0, 10, 20, 30, 40]
    assert Worker().deal(0, list) == []
