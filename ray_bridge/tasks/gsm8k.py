"""GSM8K (Cobbe et al. 2021): grade-school problems, from the hub or from a folder with train.jsonl and test.jsonl."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import UserError
from ray_bridge.tasks.base import Example, Score
from ray_bridge.tasks.numbers import cut, normalise, score_number

HUB_NAME = "openai/gsm8k"


class GSM8K:
    """GSM8K with the prompt `Question: ...` / `Answer:` of lm-evaluation-harness."""

    name = "gsm8k"
    instruction = "Solve the problem above.\nAnswer:"
    stops: tuple[str, ...] = ("\nQuestion:", "\nQ:")

    def __init__(self, data: str | None = None, revision: str | None = None) -> None:
        self.data = None if data is None else Path(data)
        self.revision = revision
        if self.data is not None:
            for split in ("train", "test"):
                if not (self.data / f"{split}.jsonl").is_file():
                    raise UserError(
                        f"no {split}.jsonl in {self.data}: --data takes a folder with train.jsonl and test.jsonl"
                    )

    @cached_property
    def _train(self) -> list[Example]:
        return self._load("train")

    @cached_property
    def _test(self) -> list[Example]:
        return self._load("test")

    def train(self) -> Sequence[Example]:
        return self._train

    def test(self) -> Sequence[Example]:
        return self._test

    def header(self, exemplars: Sequence[Example]) -> str:
        return "".join(f"{self.prompt(e)}{self.continuation(e)}\n\n" for e in exemplars)

    def prompt(self, example: Example) -> str:
        return f"Question: {example.question}\nAnswer:"

    def continuation(self, example: Example) -> str:
        return f" {example.answer}"

    def score(self, output: str, example: Example) -> Score:
        return score_number(cut(output, self.stops), example.gold)

    def _load(self, split: str) -> list[Example]:
        rows: Iterable[Mapping[str, Any]]
        if self.data is not None:
            place = str(self.data / f"{split}.jsonl")
            with open(place, encoding="utf-8") as file:
                rows = [_parse(line, place, n) for n, line in enumerate(file, 1) if line.strip()]
        else:
            place = HUB_NAME
            from datasets import load_dataset

            try:
                rows = load_dataset(HUB_NAME, "main", split=split, revision=self.revision)
            except (OSError, ConnectionError, ValueError) as error:
                raise UserError(
                    f"cannot load {HUB_NAME} from the hub ({error}); give its files with --data DIR"
                ) from error
        return [self._example(split, index, row, place) for index, row in enumerate(rows)]

    def _example(self, split: str, index: int, row: Mapping[str, Any], place: str) -> Example:
        missing = {"question", "answer"} - row.keys()
        if missing:
            raise UserError(f"{place}, example {index}: no field {' or '.join(sorted(missing))}")
        _, mark, number = str(row["answer"]).rpartition("####")
        gold = normalise(number) if mark else None
        if gold is None:
            raise UserError(f"{place}, example {index}: the answer does not end with '#### number'")
        return Example(
            id=f"gsm8k-{split}-{index:05d}",
            index=index,
            question=str(row["question"]),
            answer=str(row["answer"]),
            gold=gold,
        )


def _parse(line: str, place: str, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{place}, line {number}: not JSON ({error.msg}); one object with question and answer a line"
        ) from error
    if not isinstance(row, dict):
        raise UserError(f"{place}, line {number}: an object with question and answer is expected")
    return row
