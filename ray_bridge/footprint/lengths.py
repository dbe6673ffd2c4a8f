"""How long a job's texts are in tokens: measured on the task's data where they are at hand, else assumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError, reason_of
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.model_shape import local_folder
from ray_bridge.footprint.weight_files import AGAIN
from ray_bridge.tasks.data.hub import HubUnreachableError
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.registry import TASKS
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.tasks.task import with_written_answer

LONGEST = 64
"""Texts that are tokenised of each split: those with most characters."""
JOINED = 8
"""Of those, how many are tokenised after the few-shot header: those with most tokens."""
CHAT_TURN = 12
"""Tokens allowed for what a chat template puts around one turn."""
CHAT_SYSTEM = 40
"""Tokens allowed for what a chat template puts before the first turn by itself."""
ASSUMED = {"gsm8k": (175, 260, 420), "math": (300, 800, 2500), "hotpotqa": (1400, 3000, 40)}
"""By task of the hub: tokens of an exemplar, of the longest prompt after the header, and of the longest answer."""
OTHERS = (250, 500, 300)
"""The same for any other task."""

Count = Callable[[str], int]


@dataclass(frozen=True, kw_only=True)
class TextLengths:
    """Tokens of a job's longest texts for one model.

    Attributes:
        header: few-shot header, with BOS.
        prompt: question with its cue.
        answer: answer with its end.
        written: what `text_bridge` adds to a prompt besides the source's answer, the longer header included.
        source: where the numbers are from, for the user.
        measured: whether they were measured.
    """

    header: int
    prompt: int
    answer: int
    written: int
    source: str
    measured: bool


def at_hand(spec: JobSpec) -> bool:
    """Return whether a job's data can be read without the hub."""
    task = TASKS.load(spec.task)
    return spec.task_data is not None or not (isinstance(task, type) and issubclass(task, HubTask))


def text_lengths(spec: JobSpec, models: Sequence[str]) -> dict[str, TextLengths | None]:
    """Return the longest texts of a job for each model; None for a model whose tokenizer is not on this machine.

    Args:
        spec: the job.
        models: `spec.source` and `spec.target`.

    Raises:
        UserError: if data that are at hand cannot be read.
    """
    try:
        splits = load_splits(spec) if at_hand(spec) else None
    except HubUnreachableError:
        splits = None
    revisions = {spec.source: spec.source_revision, spec.target: spec.target_revision}
    lengths: dict[str, TextLengths | None] = {}
    for name in models:
        count = tokenizer(name, revisions[name]) if splits is not None else None
        if splits is not None:
            lengths[name] = None if count is None else measure(spec, splits, count)
        else:
            lengths[name] = assume(spec)
    return lengths


def assume(spec: JobSpec) -> TextLengths:
    """Return assumed lengths of a task whose data are not on this machine."""
    exemplar, prompt, answer = ASSUMED.get(spec.task, OTHERS)
    header = 1 + spec.num_fewshot * exemplar + _chat(spec)
    return TextLengths(
        header=header,
        prompt=prompt,
        answer=answer,
        written=10 * (1 + spec.num_fewshot),
        source=f"assumed for {spec.task}, whose data are not on this machine",
        measured=False,
    )


def measure(spec: JobSpec, splits: Splits, count: Count) -> TextLengths:
    """Return the longest texts of training, validation and test, with the longest texts by characters tokenised.

    Args:
        spec: the job.
        splits: its examples.
        count: returns a text's number of tokens.
    """
    task, examples = splits.task, [*splits.train, *splits.validation, *splits.test]
    prompts = _longest([task.prompt(example) for example in examples])
    answers = _longest([task.continuation(example) for example in (*splits.train, *splits.validation)])
    written = with_written_answer(examples[0], "")
    more = count(task.prompt(written)) - count(task.prompt(examples[0]))
    header = count(splits.header)
    # After the header a prompt may take some tokens more than alone.
    joined = [count(splits.header + prompt) for prompt in sorted(prompts, key=count, reverse=True)[:JOINED]]
    return TextLengths(
        header=1 + header + _chat(spec),
        prompt=max(joined) - header,
        answer=max(map(count, answers)) + 1,
        written=more + count(splits.written_header) - header,
        source=f"the longest of {len(examples):,} texts",
        measured=True,
    )


def _chat(spec: JobSpec) -> int:
    if getattr(spec, "prompt_format", "raw") != "chat":
        return 0
    return CHAT_SYSTEM + 2 * CHAT_TURN * (1 + spec.num_fewshot)


def _longest(texts: Sequence[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)[:LONGEST]


def tokenizer(name: str, revision: str | None) -> Count | None:
    """Return what counts tokens of a text; None if the model's tokenizer is not on this machine.

    Raises:
        UserError: if the tokenizer's files are damaged.
    """
    folder = local_folder(name, revision)
    if folder is None:
        return None
    path = Path(folder) / "tokenizer.json"
    try:
        if path.is_file():
            from tokenizers import Tokenizer

            fast: Any = Tokenizer.from_file(str(path))
            return lambda text: len(fast.encode(text, add_special_tokens=False).ids)
        from transformers import AutoTokenizer

        slow = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers' own have no type
        raise UserError(f"cannot load the tokenizer of {folder} ({reason_of(error)}): {AGAIN}") from error
    return lambda text: len(slow(text, add_special_tokens=False)["input_ids"])
