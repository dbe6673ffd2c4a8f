"""How long a job's texts are in each model's tokens, counted as both models read them, without their weights."""

from collections.abc import Callable, Sequence

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.lengths import TextLengths, assume, at_hand
from ray_bridge.inputs.prompts import PromptReader, turns_of
from ray_bridge.inputs.rows import Row
from ray_bridge.models.chat_template import ChatTemplate, Turn
from ray_bridge.models.text_reader import TextReader, UnloadedReader
from ray_bridge.tasks.data.hub import HubUnreachableError
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.tasks.task import Example, with_written_answer

LONGEST = 64
"""Texts that are tokenised of each kind: those with most characters."""


def text_lengths(spec: JobSpec) -> tuple[TextLengths | None, TextLengths | None]:
    """Return a job's longest texts for source and target: of its data, or assumed if these are not at hand.

    None stands for a model whose tokenizer is not on this machine, if the data are at hand.

    Raises:
        UserError: if data or tokenizers that are at hand cannot be read, or not as the job needs them.
    """
    try:
        splits = load_splits(spec) if at_hand(spec) else None
    except HubUnreachableError:
        splits = None
    source = UnloadedReader.load(spec.source, revision=spec.source_revision, prompt_format=spec.prompt_format)
    target = UnloadedReader.load(spec.target, revision=spec.target_revision, prompt_format=spec.prompt_format)
    if splits is None:
        return _assumed(spec, source), _assumed(spec, target)
    # The source answers for comparison alone; the target for the choice of a checkpoint, and in training if it samples.
    by_target = [*splits.test, *splits.validation, *(splits.train if spec.decode_aware else ())]
    return _measured(splits, source, splits.test), _measured(splits, target, by_target)


def measure(splits: Splits, reader: TextReader, asked: Sequence[Example]) -> TextLengths:
    """Return the longest texts of training, validation and test, as a model reads them.

    Args:
        splits: the job's examples.
        reader: the model.
        asked: those that it answers.
    """
    task, supervised = splits.task, [*splits.train, *splits.validation]
    everything = [*supervised, *splits.test]
    answered = _longest(supervised, lambda e: len(task.continuation(e)))
    whole = _longest(supervised, lambda e: len(task.prompt(e)) + len(task.continuation(e)))
    plain = PromptReader(reader, splits.header, turns_of(task, splits.exemplars))
    exemplars = [with_written_answer(e, e.answer) for e in splits.exemplars]
    written = PromptReader(reader, splits.written_header, turns_of(task, exemplars))

    def rows(of: PromptReader, examples: Sequence[Example], answers: Sequence[str] | None = None) -> list[Row]:
        prompts = [task.prompt(example) for example in examples]
        return [read.row for read in of.read(prompts, [""] * len(prompts), answers)]

    def longest_prompt(examples: Sequence[Example]) -> Row:
        return max(rows(plain, _longest(examples, lambda e: len(task.prompt(e)))), key=_positions)

    longest, tested = longest_prompt(everything), _longest(splits.test, lambda e: len(task.prompt(e)))
    with_answers = rows(plain, [*answered, *whole], [task.continuation(e) for e in (*answered, *whole)])
    header = longest.header
    prompt = _positions(longest) - header
    with_text = max(map(_positions, rows(written, [with_written_answer(e, "") for e in tested])))
    return TextLengths(
        header=header,
        prompt=prompt,
        asked=_positions(longest_prompt(asked)) - header,
        answer=max(len(row.answer) for row in with_answers),
        answered=max(_positions(row) + len(row.answer) for row in with_answers) - header,
        written=with_text - header - prompt,
        source=f"the longest of {len(everything):,} texts",
        measured=True,
    )


def _measured(splits: Splits, reader: TextReader | None, asked: Sequence[Example]) -> TextLengths | None:
    if reader is None:
        return None
    try:
        return measure(splits, reader, asked)
    except UserError:
        raise
    except ValueError as error:  # as encoding would end the job
        raise UserError(f"{reader.name}: {error}") from error


def _assumed(spec: JobSpec, reader: TextReader | None) -> TextLengths:
    if reader is None or reader.chat is None:
        return assume(spec)
    return assume(spec, turns=_around(reader, reader.chat, spec.num_fewshot))


def _around(reader: TextReader, chat: ChatTemplate, exemplars: int) -> int:
    """Return the tokens that a conversation has besides what user and assistant say."""
    said = ["question"] * (2 * exemplars + 1)
    conversation = chat.question([Turn(user="question", assistant="question")] * exemplars, "question")
    whole, *alone = reader.tokenizer([conversation, *said], add_special_tokens=False)["input_ids"]
    return max(0, len(whole) - sum(map(len, alone)))


def _positions(row: Row) -> int:
    return len(row.before) + len(row.prompt)


def _longest(examples: Sequence[Example], characters: Callable[[Example], int]) -> list[Example]:
    return sorted(examples, key=characters, reverse=True)[:LONGEST]
