"""GSM8K (Cobbe et al. 2021): grade-school problems whose answers end in `#### number`."""

from bridge_common.errors import UserError
from ray_bridge.tasks.datasets import load_rows
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.scoring import cut, normalise_number, score_number
from ray_bridge.tasks.task import Example, Score

HUB_NAME = "openai/gsm8k"


class GSM8K(HubTask):
    """GSM8K from the hub, or from a folder with train.jsonl and test.jsonl."""

    name = "gsm8k"

    def score(self, output: str, example: Example) -> Score:
        return score_number(cut(output, self.stops), example.gold)

    def _load(self, split: str) -> list[Example]:
        rows, place = load_rows(
            split,
            folder=self.data,
            hub=HUB_NAME,
            config="main",
            revision=self.revision,
            fields=("question", "answer"),
        )
        examples = []
        for index, row in enumerate(rows):
            _, mark, number = str(row["answer"]).rpartition("####")
            gold = normalise_number(number) if mark else None
            if gold is None:
                raise UserError(f"{place}, example {index}: the answer does not end with '#### number'")
            examples.append(
                Example(
                    id=f"gsm8k-{split}-{index:05d}",
                    index=index,
                    question=str(row["question"]),
                    answer=str(row["answer"]),
                    gold=gold,
                )
            )
        return examples
