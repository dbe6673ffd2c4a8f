"""HotpotQA (Yang et al. 2018), distractor setting: multi-hop questions with their paragraphs in the prompt."""

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bridge_common.errors import UserError
from ray_bridge.tasks.datasets import load_rows
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.scoring import cut
from ray_bridge.tasks.task import Example, Score

HUB_NAME = "hotpotqa/hotpot_qa"


class HotpotQA(HubTask):
    """HotpotQA from the hub, or from a folder; rows have `question`, `answer` and `context`."""

    name = "hotpotqa"
    instruction = "Answer the question above.\nAnswer:"
    stops: tuple[str, ...] = ("\n",)

    def score(self, output: str, example: Example) -> Score:
        """Normalised exact match; flexible asks for a token F1 of at least one half."""
        answer = cut(output.strip(), self.stops).strip()
        exact, f1 = exact_match(answer, example.gold), token_f1(answer, example.gold)
        return Score(answer=answer or None, correct=exact, flexible=exact or f1 >= 0.5, valid=bool(answer), f1=f1)

    def _load(self, split: str) -> list[Example]:
        rows, place = load_rows(
            split,
            folder=self.data,
            hub=HUB_NAME,
            config="distractor",
            hub_split={"test": "validation"}.get(split),  # the test split's answers are not public
            revision=self.revision,
            fields=("question", "answer", "context"),
        )
        return [
            Example(
                id=f"hotpotqa-{split}-{index:05d}",
                index=index,
                question=f"{_paragraphs(row['context'], place, index)}\n{row['question']}",
                answer=str(row["answer"]),
                gold=str(row["answer"]),
                groups={name: str(row[name]) for name in ("type", "level") if name in row},
            )
            for index, row in enumerate(rows)
        ]


def _paragraphs(context: Any, place: str, index: int) -> str:
    if isinstance(context, str):
        return context
    if isinstance(context, Mapping) and {"title", "sentences"} <= context.keys():
        pairs = zip(context["title"], context["sentences"], strict=True)
        return "\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in pairs)
    raise UserError(f"{place}, example {index}: context is neither text nor titles with sentences")


def normalised(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces (Rajpurkar et al. 2016)."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def exact_match(answer: str, gold: str) -> bool:
    """Equal in normal form; nothing against nothing is not."""
    return bool(normalised(answer)) and normalised(answer) == normalised(gold)


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of token precision and recall, 0 to 1; yes, no and noanswer count only as a whole (official)."""
    found, expected = normalised(answer), normalised(gold)
    if found != expected and {found, expected} & {"yes", "no", "noanswer"}:
        return 0.0
    a, b = found.split(), expected.split()
    shared = sum((Counter(a) & Counter(b)).values())
    return 0.0 if not shared else 2 * shared / (len(a) + len(b))
