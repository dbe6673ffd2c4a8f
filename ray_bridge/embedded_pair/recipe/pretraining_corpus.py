"""Pretraining rows of the embedded pair: token matrices with loss weights and labels, made by background processes."""

from __future__ import annotations

import multiprocessing as mp
import queue
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ray_bridge.embedded_pair.recipe import context_notes, nonsense_words
from ray_bridge.embedded_pair.recipe.tokenizers import NUMERALS_CUE, SOFT_ONLY_PROMPT
from ray_bridge.tasks.synthetic.problems import Problem, choose_words, problems, prompt

Stream = Literal["source", "target-plain", "target-noted"]
LENGTH: dict[Stream, int] = {"source": 120, "target-plain": 120, "target-noted": 176}

# Values of W. In T, 1 or 2 says that the first or second number word ends at a token, and 0 that none does; V is the
# value of the number that ends there, or -1.
PAD, QUESTION, ANSWER = 0, 1, 2


@dataclass(slots=True)
class Row:
    """One pretraining row before padding.

    Attributes:
        ids: token ids.
        answer_from: index of the first answer token.
        ordinals: by index of a number word's last token, 1 for the first such word, 2 for the second and so on.
        values: by index of a number's last token, its value.
        kinds: of a note's tokens; see `context_notes`.
    """

    ids: list[int]
    answer_from: int
    ordinals: dict[int, int]
    values: dict[int, int]
    kinds: list[int]


def _fast(tokenizer: Any) -> Any:
    return tokenizer._tokenizer


def source_row(rng: random.Random, problem: Problem, tokenizer: Any) -> Row:
    """Make a question with or without number words, followed by its answer or by itself in numerals."""
    restate = rng.random() < 0.3
    words: dict[int, str] = {}
    if rng.random() < (0.9 if restate else 0.6):
        words = choose_words(rng, problem, rng.random() < 0.4) or {}
        if rng.random() < 0.15:
            words |= choose_words(rng, problem, rng.random() < 0.4) or {}
    phrases = [words.get(s.index) or s.numeral() for s in problem.slots]
    text = "Question: "
    ends: dict[int, int] = {}
    for i, piece in enumerate(_pieces(problem.pattern)):
        if i % 2:
            text += phrases[int(piece)]
            ends[len(text)] = int(piece)
        else:
            text += piece
    head = text + (NUMERALS_CUE if restate else "\nAnswer:")
    tail = " " + (problem.word() if restate else problem.answer)
    encoded = _fast(tokenizer).encode(head)
    values: dict[int, int] = {}
    ordinals: dict[int, int] = {}
    for at, (_, end) in enumerate(encoded.offsets):
        if end in ends:
            slot = problem.slots[ends.pop(end)]
            values[at] = slot.value
            if slot.index in words:
                ordinals[at] = len(ordinals) + 1
    ids = encoded.ids + _fast(tokenizer).encode(tail, add_special_tokens=False).ids[_joined(tokenizer) :]
    return Row([*ids, tokenizer.eos_token_id], len(encoded.ids), ordinals, values, [])


def _joined(tokenizer: Any) -> int:
    """Return how many leading tokens a text with a leading space gains if it is encoded apart from its prompt."""
    alone = _fast(tokenizer).encode(" a", add_special_tokens=False).tokens
    return int(alone[0] == "▁")


def _pieces(pattern: str) -> list[str]:
    """Split "x {0} y {1} z" into texts (at even indices) and slot indices (at odd ones)."""
    first, *rest = pattern.split("{")
    return [first, *(part for piece in rest for part in piece.split("}", 1))]


def target_row(rng: random.Random, problem: Problem, tokenizer: Any, noted: bool) -> Row:
    """Make a question in numerals, or with nonsense words in place of some numbers, and its answer.

    Args:
        rng: draws the row.
        problem: the problem.
        tokenizer: the target's.
        noted: whether a note precedes the question; it may give the missing numbers.
    """
    encode = _encoder(tokenizer)
    u = rng.random()
    readable, unreadable = ((u >= 0.32), 0.2 <= u < 0.92) if noted else (False, u >= 0.8)
    missing: list[int] = []
    if unreadable:
        number = rng.choices((1, 2, 3), (70, 25, 5))[0]
        missing = sorted(rng.sample(range(len(problem.slots)), min(number, len(problem.slots))))
    ask = prompt(problem.word(lambda s: nonsense_words.phrase(rng, s) if s.index in missing else s.numeral()))
    ids: list[int] = []
    kinds: list[int] = []
    if noted:
        tokens: list[int] = []
        if readable and not unreadable:
            ask, tokens = SOFT_ONLY_PROMPT, encode(problem.word())
        elif readable:
            tokens = context_notes.payload(rng, problem, missing, encode)
        room = (
            rng.randint(len(tokens), context_notes.MAX_NOTE) - len(tokens)
            if len(tokens) < context_notes.MAX_NOTE
            else 0
        )
        if rng.random() < 0.3:
            room = max(0, 64 - len(tokens))
        ids, kinds = context_notes.note(rng, tokens, rng.random() < 0.65, room, len(tokenizer))
    ids = [tokenizer.bos_token_id, *ids, *encode(ask)]
    kinds = [context_notes.HARD, *kinds] + [context_notes.HARD] * (len(ids) - 1 - len(kinds))
    answer_from = len(ids)
    return Row([*ids, *encode(" " + problem.answer), tokenizer.eos_token_id], answer_from, {}, {}, kinds)


def _encoder(tokenizer: Any) -> context_notes.Encode:
    fast = _fast(tokenizer)
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def shard(stream: Stream, folder: Path, n: int, seed: int) -> dict[str, np.ndarray]:
    """Make a block of n rows.

    Returns:
        (n, length) matrices: X token ids; W whether each is pad, question or answer; V and T the source's labels; K the
        kinds of a note's tokens.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = random.Random(f"{stream}-{seed}")
    length = LENGTH[stream]
    block: dict[str, np.ndarray] = {
        "X": np.full((n, length), tokenizer.pad_token_id, np.int16),
        "W": np.full((n, length), PAD, np.int8),
        "V": np.full((n, length), -1, np.int8),
        "T": np.zeros((n, length), np.int8),
        "K": np.zeros((n, length), np.int8),
    }
    i = 0
    for problem in problems("pretraining", rng):
        if i == n:
            return block
        if stream == "source":
            row = source_row(rng, problem, tokenizer)
        else:
            row = target_row(rng, problem, tokenizer, stream == "target-noted")
        end = len(row.ids)
        if end > length:
            continue
        block["X"][i, :end] = row.ids
        block["W"][i, 1 : row.answer_from] = QUESTION
        block["W"][i, row.answer_from : end] = ANSWER
        block["K"][i, : len(row.kinds)] = row.kinds
        if stream == "target-noted":  # notes and nonsense words cannot be predicted
            block["W"][i, 1 : row.answer_from] = PAD
        for at, value in row.values.items():
            block["V"][i, at] = value % 100
        for at, ordinal in row.ordinals.items():
            block["T"][i, at] = min(ordinal, 2)
        i += 1
    raise AssertionError("the stream of problems is endless")


def _shard(job: tuple[Stream, Path, int, int]) -> dict[str, np.ndarray]:
    return shard(*job)


class Feed:
    """Makes rows in forked processes, which start before the GPU is used, and collects them on the device.

    Args:
        stream: which kind of rows.
        folder: of the tokenizer.
        total: number of rows, rounded up to whole blocks.
        processes: number of processes.
        seed: of the rows.
    """

    def __init__(self, stream: Stream, folder: Path, total: int, processes: int, seed: int) -> None:
        self.size = min(10000, max(200, total // (processes * 2)))
        self.total = -(-total // self.size) * self.size
        self.filled = 0
        self.queue: queue.Queue[dict[str, np.ndarray]] = queue.Queue()
        self.pool = mp.get_context("fork").Pool(processes)
        jobs = [(stream, folder, self.size, seed * 1000 + k) for k in range(self.total // self.size)]
        self.results = self.pool.imap(_shard, jobs)
        self.stream = stream
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        for block in self.results:
            self.queue.put(block)

    def place(self, device: str) -> None:
        """Allocate memory for all rows on the device; call it after the processes were forked."""
        import torch

        dtypes = {"X": torch.int16, "W": torch.int8}
        dtypes |= {"V": torch.int8, "T": torch.int8} if self.stream == "source" else {"K": torch.int8}
        self.data = {k: torch.empty(self.total, LENGTH[self.stream], dtype=t, device=device) for k, t in dtypes.items()}

    def pull(self, least: int = 0, patience: float = 120) -> int:
        """Move finished rows to the device, and return how many there are by now.

        Args:
            least: wait until there are this many.
            patience: seconds to wait at most.

        Raises:
            TimeoutError: if the processes did not make them in time.
        """
        import torch

        end = time.monotonic() + patience
        while True:
            try:
                block = self.queue.get_nowait()
            except queue.Empty:
                if self.filled >= min(least, self.total):
                    return self.filled
                if time.monotonic() > end:
                    raise TimeoutError(f"{self.stream}: only {self.filled} rows in {patience} s") from None
                time.sleep(0.05)
                continue
            for name, rows in self.data.items():
                rows[self.filled : self.filled + self.size] = torch.from_numpy(block[name]).to(rows.device)
            self.filled += self.size

    def batch(self, size: int, generator: Any) -> dict[str, Any]:
        """Draw random rows from those that are on the device, as int64 matrices by name."""
        import torch

        device = self.data["X"].device
        index = torch.randint(self.filled, (size,), device=device, generator=generator)
        return {name: rows[index].long() for name, rows in self.data.items()}

    def close(self) -> None:
        """Terminate this feed's processes."""
        self.pool.terminate()
