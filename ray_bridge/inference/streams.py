"""Turn the steps of a batch that is being decoded into pieces of text, question by question."""

from collections.abc import Iterator, Sequence

from ray_bridge.evaluation.answerer import Output, generated
from ray_bridge.generation.stopping import Stopping
from ray_bridge.generation.text_stream import TextStream

TextPiece = tuple[int, str, Output | None]
"""A row's index, its new text, and, with the last piece, its whole output."""


def stream_outputs(
    steps: Iterator[Sequence[tuple[int, int]]], stopping: Stopping, rows: int
) -> Iterator[list[TextPiece]]:
    """Yield, for each decoding step, the new text of the rows that have some and the outputs of those that ended.

    Args:
        steps: as `eager_steps` yields them: the index and the new token of each row that is still open.
        stopping: what ends a row.
        rows: how many there are.
    """
    texts = {row: TextStream(stopping) for row in range(rows)}  # of the rows that are still open

    def end(row: int) -> TextPiece:
        text = texts.pop(row)
        piece = text.close()
        return row, piece, generated(stopping, stopping.cut(text.ids)[0])

    for step in steps:
        new = dict(step)
        pieces = [end(row) for row in [*texts] if row not in new]  # a stop text ended them in the step before
        for row, token in new.items():
            piece = texts[row].push([token])
            if token in stopping.ends:
                _, rest, output = end(row)
                pieces.append((row, piece + rest, output))
            elif piece:
                pieces.append((row, piece, None))
        if pieces:
            yield pieces
    if texts:
        yield [end(row) for row in [*texts]]
