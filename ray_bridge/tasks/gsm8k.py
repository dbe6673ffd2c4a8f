"""GSM8K (Cobbe et al. 2021): grade-school problems whose answers end in `#### number`."""

from ray_bridge.tasks.data.hub import HubData
from ray_bridge.tasks.data.rows import DataRow, RowError, shown, text_field
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.scoring import gold_number, normalise_number, score_number
from ray_bridge.tasks.task import Example, Score


class GSM8K(HubTask):
    """GSM8K from the hub, or from a folder; rows have `question` and `answer`."""

    name = "gsm8k"
    max_new_tokens = 256
    num_fewshot = 8
    hub = HubData(name="openai/gsm8k", config="main")

    def score(self, output: str, example: Example) -> Score:
        """Score the number after `####` strictly, the last number flexibly."""
        return score_number(self.answer_text(output, example), example.gold)

    def gold_of(self, text: str, example: Example) -> str:
        """Return the number of a gold answer or solution in its one written form."""
        return gold_number(text)

    def example(self, row: DataRow, split: str, index: int) -> Example:
        """Return the example of a row; gold is the number in its one written form."""
        question, answer = text_field(row.fields, "question"), text_field(row.fields, "answer")
        _, mark, number = answer.rpartition("####")
        gold = normalise_number(number) if mark else None
        if gold is None:
            remedy = "write a plain number, as 1,000" if mark else "add the number as a last line, as #### 1,000"
            end = shown(number.strip() if mark else answer[-30:])
            raise RowError(f"the answer does not end with '#### number' but with {end}; {remedy}")
        return Example(id=f"gsm8k-{split}-{index:05d}", index=index, question=question, answer=answer, gold=gold)
