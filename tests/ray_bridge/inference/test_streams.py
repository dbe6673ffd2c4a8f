"""Answers that are decoded together and end at different steps: by an end id, by a stop text, at the limit."""

from itertools import zip_longest

from ray_bridge import Translator
from ray_bridge.evaluation.answerer import generated
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inference.streams import stream_outputs


def test_rows_end_at_their_own_step(translator: Translator) -> None:
    lm = translator.pair.target
    stopping = Stopping.of(lm, ["\nQuestion:"])

    def ids_of(text: str) -> list[int]:
        return list(lm.tokenizer.encode(text, add_special_tokens=False))

    ids = [
        [*ids_of("seven #### 7"), min(lm.ends)],
        ids_of("five and two\nQuestion: more that was decoded"),
        ids_of("no end in sight, ever, until the limit of new tokens is reached and even a little after that"),
    ]
    steps = zip_longest(*ids)  # one token a row; None for a row that has ended
    rows = stream_outputs(([(i, t) for i, t in enumerate(step) if t is not None] for step in steps), stopping, len(ids))
    texts, outputs = ["", "", ""], {}
    for number, pieces in enumerate(rows):
        for row, text, output in pieces:
            assert row not in outputs
            texts[row] += text
            if output is not None:
                outputs[row] = (number, output)
    assert texts == ["seven #### 7", "five and two", lm.tokenizer.decode(ids[2])]
    for row, (_, output) in outputs.items():
        assert output == generated(stopping, stopping.cut(ids[row])[0])
    assert [outputs[row][1]["truncated"] for row in range(3)] == [False, False, True]
    assert outputs[0][0] < outputs[1][0] < outputs[2][0], "an answer is complete once its row has ended"
