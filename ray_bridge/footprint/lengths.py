"""How long texts are in tokens: assumed where data are not at hand, else counted in `inputs/text_lengths.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError, reason_of
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.model_shape import local_folder
from ray_bridge.footprint.weight_files import AGAIN
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.registry import TASKS

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
        header: what comes before the question: BOS, few-shot header, and what a chat template writes there.
        prompt: question with its cue, and what a chat template writes after it.
        asked: the longest such prompt that the model answers: of the test split, and others as the job has it.
        answer: answer with its end.
        answered: prompt with its own answer and its end.
        written: what `text_bridge`, in the test split, adds to header and prompt besides the source's answer.
        source: where the numbers are from, for the user.
        measured: whether texts of the job were counted; its longest ones have no fewer tokens.
    """

    header: int
    prompt: int
    asked: int
    answer: int
    answered: int
    written: int
    source: str
    measured: bool


def at_hand(spec: JobSpec) -> bool:
    """Return whether a job's data can be read without the hub."""
    task = TASKS.load(spec.task)
    return spec.task_data is not None or not (isinstance(task, type) and issubclass(task, HubTask))


def assume(spec: JobSpec, *, turns: int | None = None) -> TextLengths:
    """Return assumed lengths of a task whose data are not on this machine.

    Args:
        spec: the job.
        turns: tokens of a conversation besides what user and assistant say; None if the model's chat template is not
            known, or prompts are no conversations.
    """
    exemplar, prompt, answer = ASSUMED.get(spec.task, OTHERS)
    source = f"assumed for {spec.task}, whose data are not on this machine"
    if turns is None:
        turns = 1 + assumed_turns(spec)
        source += ", like the chat template" if spec.prompt_format == "chat" else ""
    return TextLengths(
        header=spec.num_fewshot * exemplar + turns,
        prompt=prompt,
        asked=prompt,
        answer=answer,
        answered=prompt + answer,
        written=10 * (1 + spec.num_fewshot),
        source=source,
        measured=False,
    )


def assumed_turns(spec: JobSpec) -> int:
    """Return the tokens allowed for a chat template that is not on this machine; 0 if prompts are no conversations."""
    return CHAT_SYSTEM + 2 * CHAT_TURN * (1 + spec.num_fewshot) if spec.prompt_format == "chat" else 0


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
