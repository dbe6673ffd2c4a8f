"""Heat maps of attention weights on one fixed scale, so that equal colours mean the same in every picture.

A weight is shown as a multiple of the uniform share, which every one of n tokens would have if all were read alike:
1/n. A scale that is fitted to each picture would show structure in weights that are all but equal.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

DOUBLINGS = 3
"""The scale goes from 2^-3 to 2^3 times the uniform share; what lies beyond has the colours of its ends."""
LABEL = "weight as a multiple of the uniform share (white: all tokens alike)"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One heat map.

    Attributes:
        title: what it shows.
        rows: what its rows are, such as `head`; they are numbered from 1.
        tokens: labels of its columns.
        weights: (rows, tokens), each row a distribution over the tokens.
    """

    title: str
    rows: str
    tokens: Sequence[str]
    weights: Tensor


def multiples(weights: Tensor) -> Tensor:
    """Return weights (..., n) as multiples of the uniform share 1/n."""
    return weights * weights.shape[-1]


def heat_maps(panels: Sequence[Panel], columns: int = 1) -> bytes:
    """Draw a PNG of panels, filled row by row, with one colour bar.

    Args:
        panels: at least one.
        columns: panels beside one another.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    lines = -(-len(panels) // columns)
    longest = max(len(panel.tokens) for panel in panels)
    tallest = [max(len(p.weights) for p in panels[i : i + columns]) for i in range(0, len(panels), columns)]
    size = (1.2 + columns * max(4.0, 0.16 * longest), sum(1.2 + 0.11 * rows for rows in tallest))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid: Any = figure.subplots(lines, columns, squeeze=False)
    norm = LogNorm(2.0**-DOUBLINGS, 2.0**DOUBLINGS)
    image: Any = None
    for place, panel in zip(grid.flat, panels, strict=False):
        values = multiples(panel.weights.float()).clamp(min=2.0 ** -(DOUBLINGS + 1)).numpy()
        image = place.imshow(values, aspect="auto", cmap="RdBu_r", norm=norm, interpolation="nearest")
        place.set_xticks(range(len(panel.tokens)), [_label(token) for token in panel.tokens], rotation=90, fontsize=6)
        place.set_yticks(*_numbers(len(values)), fontsize=6)
        place.set_ylabel(panel.rows, fontsize=7)
        place.set_title(panel.title, fontsize=7, loc="left")
    for place in list(grid.flat)[len(panels) :]:
        place.set_axis_off()
    bar = figure.colorbar(image, ax=grid, pad=0.01, extend="both")
    ticks = [2.0**power for power in range(-DOUBLINGS, DOUBLINGS + 1)]
    bar.set_ticks(ticks, labels=[f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=6)
    bar.set_label(LABEL, fontsize=7)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _numbers(count: int) -> tuple[list[int], list[str]]:
    """Return places and labels of rows numbered from 1, at most about 16 of them."""
    places = list(range(0, count, -(-count // 16)))
    return places, [str(place + 1) for place in places]


def _label(token: str) -> str:
    printable = "".join(c if ord(c) < 0x3000 else "▯" for c in token)  # the default font has no glyphs above
    return printable.replace("\n", "↵").replace("$", r"\$").strip() or "␣"
