"""HotpotQA (Yang et al. 2018), distractor setting: multi-hop questions with their paragraphs in the prompt."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from ray_bridge.tasks.data.hub import HubData
from ray_bridge.tasks.data.rows import DataRow, RowError, field, group_field, shown, text_field, whole_text
from ray_bridge.tasks.end_tokens import INVISIBLE, without_tokens
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.scoring import cut
from ray_bridge.tasks.task import Example, Score

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TYPEWRITTEN = str.maketrans(
    dict.fromkeys("‘’‛′", "'")
    | dict.fromkeys("“”„″", '"')
    | dict.fromkeys("‐‑‒–—−", "-")
    | dict.fromkeys(INVISIBLE, "")
)


class HotpotQA(HubTask):
    """HotpotQA from the hub, or from a folder; rows have `question`, `answer` and `context`."""

    name = "hotpotqa"
    max_new_tokens = 32
    num_fewshot = 2  # each has ten paragraphs, about 1,400 tokens
    instruction = "Answer the question above.\nAnswer:"
    stops: tuple[str, ...] = ("\n",)
    # The answers of the hub's test split are not public.
    hub = HubData(name="hotpotqa/hotpot_qa", config="distractor", split_names={"test": "validation"})

    def score(self, output: str, example: Example) -> Score:
        """Score exact match in normal form strictly, a token F1 of at least one half flexibly."""
        answer = self.answer_text(output, example).strip()
        exact, f1 = exact_match(answer, example.gold), token_f1(answer, example.gold)
        return Score(answer=answer or None, correct=exact, flexible=exact or f1 >= 0.5, valid=bool(answer), f1=f1)

    def answer_text(self, output: str, example: Example) -> str:
        """Return the first line that is not blank, without tokens that a tokenizer wrote out."""
        return without_tokens(cut(without_tokens(output), self.stops))

    def example(self, row: DataRow, split: str, index: int) -> Example:
        """Return the example of a row, with its paragraphs before the question."""
        question, answer = text_field(row.fields, "question"), text_field(row.fields, "answer")
        return Example(
            id=f"hotpotqa-{split}-{index:05d}",
            index=index,
            question=f"{_paragraphs(field(row.fields, 'context'))}\n{question}",
            answer=answer,
            gold=answer,
            groups={name: group_field(row.fields, name) for name in ("type", "level") if name in row.fields},
        )


def _paragraphs(context: Any) -> str:
    if isinstance(context, str) and context.strip():
        return whole_text(context, "context")
    if isinstance(context, Mapping):
        titles, texts = context.get("title"), context.get("sentences")
        if _are_texts(titles) and all(title.strip() for title in titles) and isinstance(texts, list | tuple):
            paragraphs = ["".join(text).strip() for text in texts if _are_texts(text)]
            if len(titles) == len(texts) == len(paragraphs) and any(paragraphs):
                pairs = zip(titles, paragraphs, strict=True)
                return whole_text("\n".join(f"{title}: {paragraph}" for title, paragraph in pairs), "context")
    raise RowError(
        "context is neither text nor titles with sentences, as many of one as of the other, but "
        f'{shown(context)}; write {{"title": ["Paris"], "sentences": [["It is old."]]}}'
    )


def _are_texts(values: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def normalised(text: str) -> str:
    """Return SQuAD's normal form: lower case, no punctuation, no articles, single spaces (Rajpurkar et al. 2016).

    Curly quotes and dashes are those of a keyboard. A text that consists of nothing but articles or punctuation keeps
    them, so that the answer "A" can be given.
    """
    lowered = text.translate(_TYPEWRITTEN).lower()
    bare = lowered.translate(_PUNCTUATION)
    for candidate in (_ARTICLE.sub(" ", bare), bare, lowered):
        if words := candidate.split():
            return " ".join(words)
    return ""


def exact_match(answer: str, gold: str) -> bool:
    """Return whether both are equal in normal form; an empty answer never is."""
    return bool(normalised(answer)) and normalised(answer) == normalised(gold)


def token_f1(answer: str, gold: str) -> float:
    """Return the harmonic mean of token precision and recall; yes, no and noanswer count only as a whole (official)."""
    given, expected = normalised(answer), normalised(gold)
    if given != expected and {given, expected} & {"yes", "no", "noanswer"}:
        return 0.0
    a, b = given.split(), expected.split()
    shared = sum((Counter(a) & Counter(b)).values())
    return 0.0 if not shared else 2 * shared / (len(a) + len(b))
