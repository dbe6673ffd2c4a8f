"""Tasks that a mapping makes of any data set: exact or numeric answers, or multiple choice by letter or likelihood."""

from collections.abc import Iterator
from math import isfinite
from typing import Any, Self

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.task_mapping import DataSource, TaskMapping
from ray_bridge.tasks.choices import chosen_text, lettered, score_letter, score_likelihoods
from ray_bridge.tasks.data.folder import folder_rows
from ray_bridge.tasks.data.hub import HubData, hub_commit
from ray_bridge.tasks.data.hub_rows import hub_rows
from ray_bridge.tasks.data.rows import (
    DataRow,
    RowError,
    UnusableRowError,
    field,
    group_field,
    kept_rows,
    shown,
    text_field,
    whole_text,
)
from ray_bridge.tasks.end_tokens import without_tokens
from ray_bridge.tasks.hotpotqa import exact_match, token_f1
from ray_bridge.tasks.letters import LETTERS
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.scoring import cut, gold_number, score_number
from ray_bridge.tasks.task import Example, Score


class MappedTask(HubTask):
    """The task of a mapping, on the data set that the mapping names, or on a folder."""

    name = "mapped"
    instruction = "Answer the question above.\nAnswer:"
    unusable = 0.01  # a few rows of MMLU's training data have the same choice twice

    def __init__(self, mapping: TaskMapping, data: str | None = None) -> None:
        """Initialise the mapped task.

        Args:
            mapping: which fields of a row hold what.
            data: folder with the rows, or None for the hub.

        Raises:
            UserError: if the folder lacks a split.
        """
        super().__init__(data)
        self.mapping, self.name = mapping, mapping.name
        cue = mapping.question_cue.strip()
        cues = dict.fromkeys(text for text in (cue, "Question:", "Q:") if text)
        self.stops = ("\n",) if mapping.kind == "exact" else tuple(f"\n{text}" for text in cues)
        self.instruction = f"Answer the question above.\n{mapping.answer_cue}"

    @classmethod
    def from_spec(cls, spec: JobSpec) -> Self:
        """Make the task of a job's mapping."""
        assert spec.task_mapping is not None  # which the spec has checked
        return cls(spec.task_mapping, spec.task_data)

    @classmethod
    def hub_name(cls, spec: JobSpec) -> str | None:
        """Return the name of the hub's data set that a job is measured on; None if it reads a folder."""
        source = spec.task_mapping.test if spec.task_mapping else None
        return source.data if source and spec.task_data is None else None

    @classmethod
    def pinned(cls, spec: JobSpec) -> JobSpec:
        """Return a job whose mapping names the commits of the data sets that it would read now."""
        mapping = spec.task_mapping
        if spec.task_data is not None or mapping is None or mapping.train is None or mapping.test is None:
            return spec
        pinned = mapping.replace(train=_pinned(mapping.train), test=_pinned(mapping.test))
        return spec.replace(task_mapping=pinned)

    def prompt(self, example: Example) -> str:
        """Return the question with its cue; its choices, if shown, are part of it."""
        return f"{self.mapping.question_cue}{example.question}\n{self.mapping.answer_cue}"

    def answer_text(self, output: str, example: Example) -> str:
        """Return what stands before the first stop text; of a table of likelihoods, the choice or letter it chooses."""
        if self.continuations(example) is not None and (scored := score_likelihoods(output, example)):
            letter = str(scored.answer)
            are_shown = self.mapping.kind == "letter_likelihood"
            return letter if are_shown else example.choices[LETTERS.index(letter)]
        if self.mapping.kind == "exact":
            return without_tokens(cut(without_tokens(output), self.stops))
        return cut(output, self.stops)

    def continuations(self, example: Example) -> list[str] | None:
        """Return the continuations of a prompt of which the likeliest is the answer; None if answers are generated."""
        if self.mapping.kind == "choice_likelihood":
            return [f" {choice}" for choice in example.choices]
        if self.mapping.kind == "letter_likelihood":
            return [f" {letter}" for letter in LETTERS[: len(example.choices)]]
        return None

    def score(self, output: str, example: Example) -> Score:
        """Score an output by the rules of the mapping's kind (docs/scoring.md)."""
        if self.continuations(example) is not None and (scored := score_likelihoods(output, example)):
            return scored
        text = self.answer_text(output, example)
        if self.mapping.kind == "numeric":
            return score_number(text, example.gold)
        if self.mapping.kind == "exact":
            answer = text.strip()
            exact, f1 = exact_match(answer, example.gold), token_f1(answer, example.gold)
            return Score(answer=answer or None, correct=exact, flexible=exact or f1 >= 0.5, valid=bool(answer), f1=f1)
        if self.mapping.kind == "choice_likelihood":  # a sampled answer: choices were not shown, so it is one in words
            chosen = chosen_text(text, example.choices)
            right = chosen is not None and chosen == example.gold
            return Score(answer=chosen, correct=right, flexible=right, valid=chosen is not None)
        return score_letter(text, example)

    def gold_of(self, text: str, example: Example) -> str:
        """Return gold as `score` compares with it: a number, a letter of the choices, or the text itself."""
        if self.mapping.kind == "numeric":
            return gold_number(text)
        if self.mapping.has_choices and (not example.choices or text not in LETTERS[: len(example.choices)]):
            raise RowError(f"gold is {shown(text)}; a letter of the row's list `choices` is expected")
        return text

    def example(self, row: DataRow, split: str, index: int) -> Example:
        """Return the example of a row; gold of a multiple-choice question is its letter."""
        mapping, fields = self.mapping, row.fields
        question = text_field(fields, mapping.question).strip()
        choices = self._choices(fields)
        gold = self._gold(fields, choices)
        if choices and mapping.kind != "choice_likelihood":
            question = f"{question}\n{lettered(choices)}"
        return Example(
            id=f"{self.name}-{split}-{index:05d}",
            index=index,
            question=question,
            answer=self._answer(fields, choices, gold),
            gold=gold,
            groups={name: group_field(fields, path) for name, path in mapping.groups.items()},
            choices=choices,
        )

    def _rows(self, split: str) -> Iterator[DataRow]:
        source = self.mapping.train if split == "train" else self.mapping.test
        hub = HubData(name="") if source is None else _hub(source, split)
        if self.data is not None:
            rows = folder_rows(self.data, split, hub)
        elif source is not None:
            rows = hub_rows(hub, split, source.revision)
        else:
            raise UserError(f"task mapping {self.name} names no data set: add [train] and [test], or give --data DIR")
        yield from kept_rows(rows, self.mapping.keep, may_lack=split == "train")

    def _choices(self, fields: Any) -> tuple[str, ...]:
        named = self.mapping.choices
        if named is None:
            return ()
        values = field(fields, named) if isinstance(named, str) else [field(fields, name) for name in named]
        values = list(values) if isinstance(values, list | tuple) else values
        if not isinstance(values, list) or not 2 <= len(values) <= len(LETTERS):
            raise RowError(f"{named} is {shown(values)}; a list of 2 to {len(LETTERS)} choices is expected")
        texts = [_choice_text(value, f"{named}") for value in values]
        if not all(texts):
            raise RowError(f"{named} is {shown(values)}; each choice must be text or a number")
        if len(set(texts)) < len(texts):
            raise UnusableRowError(f"{named} is {shown(values)}; each choice must differ from the others")
        return tuple(texts)

    def _gold(self, fields: Any, choices: tuple[str, ...]) -> str:
        mapping, value = self.mapping, field(fields, self.mapping.gold)
        if not choices:
            text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
            text = text_field(fields, mapping.gold).strip() if text is None else text
            if mapping.kind == "exact":
                return text
            return gold_number(text)
        place = self._place(value, fields, choices)
        if place is None:
            raise RowError(f"{mapping.gold} is {shown(value)}, which is none of the {len(choices)} choices")
        return LETTERS[place]

    def _place(self, value: Any, fields: Any, choices: tuple[str, ...]) -> int | None:
        """Return which of the choices gold is."""
        if self.mapping.gold_form == "index":
            digits = str(value).strip()
            return int(digits) if digits.isdecimal() and len(digits) < 10 and int(digits) < len(choices) else None
        if self.mapping.gold_form == "label":
            labels = field(fields, self.mapping.labels) if self.mapping.labels else list(LETTERS[: len(choices)])
            if not isinstance(labels, list | tuple):
                raise RowError(f"{self.mapping.labels} is {shown(labels)}: it must be a list, a label for each choice")
            known = [str(label).strip() for label in labels]
            return known.index(str(value).strip()) if str(value).strip() in known[: len(choices)] else None
        return choices.index(str(value).strip()) if str(value).strip() in choices else None

    def _answer(self, fields: Any, choices: tuple[str, ...], gold: str) -> str:
        if self.mapping.kind == "choice_likelihood":
            return choices[LETTERS.index(gold)]
        if choices:
            return gold
        if self.mapping.answer is None:
            return f"#### {gold}" if self.mapping.kind == "numeric" else gold
        answer = text_field(fields, self.mapping.answer)
        if self.mapping.kind != "numeric":
            return answer
        if "####" not in answer:
            return f"{answer}\n#### {gold}"
        if (stated := gold_number(answer)) != gold:
            raise RowError(f"{self.mapping.answer} ends in {stated}, but {self.mapping.gold} is {gold}: correct one")
        return answer


def _choice_text(value: Any, name: str) -> str:
    """Return a choice as text, empty if it is neither text nor a number."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return whole_text(str(value).strip(), name) if number or isinstance(value, str) else ""


def _hub(source: DataSource, split: str) -> HubData:
    return HubData(name=source.data, config=source.config, split_names={split: source.split})


def _pinned(source: DataSource) -> DataSource:
    return source.replace(revision=hub_commit(source.data, source.revision))
