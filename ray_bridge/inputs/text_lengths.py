"""How long a job's texts are in each model's tokens, counted as both models read them, without their weights."""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

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

Numbers = NDArray[np.int64]

LONGEST = 32
"""Texts of each kind that are read as a job's rows are: those with most tokens."""
FIRST = 128
"""Texts of each kind whose tokens are counted, however many texts there are: those that seem to have most."""
COUNTED = 3_000_000
"""Bytes of texts of each kind whose tokens are counted besides: what one core takes a second for."""
_WORDS = (string.ascii_letters + " ").encode()
_ASCII = bytes(range(128))
_NORMALISED = 3
"""Times as long as characters beyond ASCII may become in UTF-8 where a tokenizer composes them in one way (NFC)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSizes:
    """Sizes of many texts that their characters tell: an array of one number a text each.

    Attributes:
        characters: of the text.
        bytes: of the text in UTF-8.
        guess: tokens, if four ASCII letters or spaces are one, and so is any other byte.
        bound: tokens at most: as many as bytes, for tokenizers that know every byte.
    """

    characters: Numbers
    bytes: Numbers
    guess: Numbers
    bound: Numbers

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextSizes":
        """Return the sizes of texts, none of which is kept."""
        sizes = np.array([_sizes(text) for text in texts], dtype=np.int64).reshape(-1, 4)
        return cls(characters=sizes[:, 0], bytes=sizes[:, 1], guess=sizes[:, 2], bound=sizes[:, 3])


class LongestTexts:
    """Finds the texts of one kind that have most tokens, counting the tokens of few.

    Args:
        sizes: of all texts.
        count: returns the tokens of the texts of these numbers.

    Attributes:
        at_most: tokens of each text that was counted, bounds of others.
        certain: whether no text that was not counted can be longer than those found.
    """

    def __init__(self, sizes: TextSizes, count: Callable[[Numbers], Numbers]) -> None:
        self.sizes, self._tokens = sizes, count
        self.at_most, self._counted = sizes.bound.copy(), np.zeros(len(sizes.bound), dtype=bool)
        self.certain = True

    def find(self, first: int, end: int) -> list[int]:
        """Return the numbers of the longest texts from the first up to the end, most tokens first."""
        texts = np.arange(first, end)
        # Prose is long in characters, other scripts, code and digits in tokens: what leads in either order comes first.
        ranks = [_ranks(size[texts]) for size in (self.sizes.guess, self.sizes.characters)]
        order = texts[np.argsort(np.minimum(*ranks), kind="stable")]
        self.count(order[:FIRST])
        most = self.at_most[order[self._counted[order]]].max(initial=0)
        left = order[~self._counted[order] & (self.at_most[order] > most)]
        if self.sizes.bytes[left].sum() <= COUNTED:
            self.count(left)
        else:
            self.certain = False
        counted = order[self._counted[order]]
        longest = counted[np.argsort(-self.at_most[counted], kind="stable")][:LONGEST]
        return [int(number) for number in longest]

    def count(self, texts: Numbers) -> Numbers:
        """Return the tokens of the texts of these numbers, each of which is counted once."""
        new = texts[~self._counted[texts]]
        if len(new):
            self.at_most[new], self._counted[new] = self._tokens(new), True
        return self.at_most[texts]


class JobTexts:
    """A job's examples, and the sizes of their texts, which no model decides.

    Args:
        splits: the job's examples.

    Attributes:
        supervised: examples of training and validation.
        examples: those, and after them the test split's.
    """

    def __init__(self, splits: Splits) -> None:
        self.splits = splits
        self.supervised = [*splits.train, *splits.validation]
        self.examples = [*self.supervised, *splits.test]

    @cached_property
    def prompts(self) -> TextSizes:
        """Sizes of the prompts of all examples."""
        return TextSizes.of(map(self.splits.task.prompt, self.examples))

    @cached_property
    def answers(self) -> TextSizes:
        """Sizes of the answers of training and validation."""
        return TextSizes.of(map(self.splits.task.continuation, self.supervised))


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
    texts = JobTexts(splits)
    # The source answers for comparison alone; the target for the choice of a checkpoint, and in training if it samples.
    by_target = 0 if spec.decode_aware else len(splits.train)
    return _measured(texts, source, len(texts.supervised)), _measured(texts, target, by_target)


def measure(texts: JobTexts, reader: TextReader, asked: int) -> TextLengths:
    """Return the longest texts of training, validation and test, as a model reads them.

    Args:
        texts: the job's.
        reader: the model.
        asked: number of the first example that it answers; it answers all that follow.
    """
    splits, examples, task = texts.splits, texts.examples, texts.splits.task
    supervised, end = len(texts.supervised), len(examples)
    prompts = LongestTexts(texts.prompts, _counter(reader, examples, task.prompt))
    answers = LongestTexts(texts.answers, _counter(reader, examples, task.continuation))
    found, tested, answered = prompts.find(0, end), prompts.find(supervised, end), answers.find(0, supervised)
    of_asked = prompts.find(asked, end)
    whole = _together(prompts, answers)
    both = [*answered, *whole.find(0, supervised)]
    plain = PromptReader(reader, splits.header, turns_of(task, splits.exemplars))
    exemplars = [with_written_answer(e, e.answer) for e in splits.exemplars]
    written = PromptReader(reader, splits.written_header, turns_of(task, exemplars))

    def rows(of: PromptReader, read: Sequence[Example], answers: Sequence[str] | None = None) -> list[Row]:
        shown = [task.prompt(example) for example in read]
        return [one.row for one in of.read(shown, [""] * len(shown), answers)]

    def longest_prompt(numbers: Sequence[int]) -> Row:
        return max(rows(plain, [examples[n] for n in numbers]), key=_positions)

    longest = longest_prompt(found)
    with_answers = rows(plain, [examples[n] for n in both], [task.continuation(examples[n]) for n in both])
    header = longest.header
    prompt = _positions(longest) - header
    with_text = max(map(_positions, rows(written, [with_written_answer(examples[n], "") for n in tested])))
    certain = prompts.certain and answers.certain and whole.certain
    return TextLengths(
        header=header,
        prompt=prompt,
        asked=_positions(longest_prompt(of_asked)) - header,
        answer=max(len(row.answer) for row in with_answers),
        answered=max(_positions(row) + len(row.answer) for row in with_answers) - header,
        written=with_text - header - prompt,
        source=f"the longest of {'' if certain else 'those that seem longest of '}{end:,} texts",
        measured=True,
    )


def _measured(texts: JobTexts, reader: TextReader | None, asked: int) -> TextLengths | None:
    if reader is None:
        return None
    try:
        return measure(texts, reader, asked)
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


def _sizes(text: str) -> tuple[int, int, int, int]:
    """Return a text's sizes in the order of `TextSizes`."""
    data = text.encode(errors="replace")
    others = len(data.translate(None, _WORDS))
    beyond = 0 if text.isascii() else len(data.translate(None, _ASCII))
    # Some tokenizers put a space before a text.
    bound = 1 + len(data) + (_NORMALISED - 1) * beyond
    return len(text), len(data), (len(data) - others) // 4 + others, bound


def _ranks(sizes: Numbers) -> Numbers:
    """Return the place of each in the order of sizes, the largest first."""
    return np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")


def _counter(
    reader: TextReader, examples: Sequence[Example], text: Callable[[Example], str]
) -> Callable[[Numbers], Numbers]:
    backend = reader.tokenizer.backend_tokenizer  # itself: what transformers makes of each text takes as long again
    backend.no_truncation()  # which a tokenizer's file may ask for
    backend.no_padding()

    def count(numbers: Numbers) -> Numbers:
        read = backend.encode_batch_fast([text(examples[n]) for n in numbers], add_special_tokens=False)
        return np.array([len(one) for one in read], dtype=np.int64)

    return count


def _together(prompts: LongestTexts, answers: LongestTexts) -> LongestTexts:
    """Return the texts that are a prompt and its answer, with what is known of both."""
    known, count = slice(0, len(answers.at_most)), lambda n: prompts.count(n) + answers.count(n)
    one, other = prompts.sizes, answers.sizes
    sizes = TextSizes(
        characters=one.characters[known] + other.characters,
        bytes=one.bytes[known] + other.bytes,
        guess=one.guess[known] + other.guess,
        bound=prompts.at_most[known] + answers.at_most,
    )
    return LongestTexts(sizes, count)
