"""The pair's pretraining rows: token matrices with their loss weights and labels, made by background workers."""

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

# What a row of the matrices W and T means.
PAD, QUESTION, ANSWER = 0, 1, 2
# T: 0 none; 1, 2: a first, a second number word ends here. V: value of the number that ends here, -1 none.


@dataclass(slots=True)
class Row:
    """One pretraining row before padding."""

    ids: list[int]
    answer_from: int
    ordinals: dict[int, int]
    values: dict[int, int]
    kinds: list[int]


def _fast(tokenizer: Any) -> Any:
    return tokenizer._tokenizer


def source_row(rng: random.Random, problem: Problem, tokenizer: Any) -> Row:
    """A question with or without number words, answered, or restated in numerals."""
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
    """How many leading tokens a text that begins with a space gains when it is encoded apart from its prompt."""
    alone = _fast(tokenizer).encode(" a", add_special_tokens=False).tokens
    return int(alone[0] == "▁")


def _pieces(pattern: str) -> list[str]:
    """Splits "x {0} y {1} z" into texts (even places) and slot indices (odd places)."""
    first, *rest = pattern.split("{")
    return [first, *(part for piece in rest for part in piece.split("}", 1))]


def target_row(rng: random.Random, problem: Problem, tokenizer: Any, noted: bool) -> Row:
    """Numerals only; unreadable words in place of numbers, with or without a note that holds them."""
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
    """A block of rows: X tokens, W what each token is, V and T the source's labels, K the kinds of a note's places."""
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
        if stream == "target-noted":  # what stands in a note, and unreadable words, are not worth predicting
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
    """Rows made in forked processes (started before the GPU is touched) and kept on the device as they come."""

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
        """Reserves room on the device; call it once the processes are forked."""
        import torch

        kinds = {"X": torch.int16, "W": torch.int8}
        kinds |= {"V": torch.int8, "T": torch.int8} if self.stream == "source" else {"K": torch.int8}
        self.data = {k: torch.empty(self.total, LENGTH[self.stream], dtype=t, device=device) for k, t in kinds.items()}

    def pull(self, least: int = 0, patience: float = 120) -> int:
        """Takes over what is ready, waiting for `least` rows; returns how many there are.

        Raises:
            TimeoutError: The workers did not make them in time.
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
            for name, room in self.data.items():
                room[self.filled : self.filled + self.size] = torch.from_numpy(block[name]).to(room.device)
            self.filled += self.size

    def batch(self, size: int, generator: Any) -> dict[str, Any]:
        """Random rows of those there are."""
        import torch

        device = self.data["X"].device
        index = torch.randint(self.filled, (size,), device=device, generator=generator)
        return {name: room[index].long() for name, room in self.data.items()}

    def close(self) -> None:
        """Ends this feed's own processes."""
        self.pool.terminate()
