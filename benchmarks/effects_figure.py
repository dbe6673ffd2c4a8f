"""Draw what each toggle adds on the embedded pair, from the measured table, as docs/effects.svg.

python -m benchmarks.effects_figure
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge_common import files

ROOT = Path(__file__).parents[1]
TABLE, FIGURE = ROOT / "benchmarks" / "results" / "embedded-ablations.json", ROOT / "docs" / "effects.svg"
TOGGLES = {
    "kl": "KL against aligned answer tokens",
    "prompt": "weak pull to the prompt's embeddings",
    "decode": "decode-aware step",
    "projection": "geometry projection",
}
LEFT, RIGHT, TOP, ROW = 400, 700, 74, 34  # ends of the scale, first row, height of a row
LOW, HIGH, STEP = -5, 15, 5  # points
FONTS = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
STYLE = (
    ".bg{fill:#fdfcfa}.n{fill:#1f2328;font-size:15px;font-weight:600}.s{fill:#57606a;font-size:13px}"
    ".r{stroke:#d8d4cb}.z{stroke:#57606a}.i{stroke:#57606a;stroke-width:2}.d{fill:#fdfcfa;stroke:#57606a;stroke-width:2}"
    ".shown .i{stroke:#0b5c9e}.shown .d{fill:#0b5c9e;stroke:#0b5c9e}"
)


def figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figure as SVG.

    Args:
        rows: of the measured table; those of the variants `no-TOGGLE` have `minus_full`.
    """
    measured = {row["variant"]: row for row in rows}
    ends = TOP + ROW * len(TOGGLES)
    parts = [
        f'<text class="n" x="24" y="30">What each toggle adds, points of accuracy: full ({_percent(measured["full"])}) '
        "minus full without it</text>"
    ]
    for points in range(LOW, HIGH + 1, STEP):
        x = _place(points)
        name = f"{points:+d}" if points else "0"
        parts.append(f'<path class="{"r" if points else "z"}" d="M{x:g} {TOP - 12}V{ends - 8}"/>')
        parts.append(f'<text class="s" x="{x:g}" y="{ends + 10}" text-anchor="middle">{name}</text>')
    spoken = []
    for number, (key, words) in enumerate(TOGGLES.items()):
        less = measured[f"no-{key}"]["minus_full"]
        estimate, low, high = (_points(-less[end]) for end in ("estimate", "high", "low"))
        y = TOP + ROW * number + 5
        shown = ' class="shown"' if low > 0 or high < 0 else ""
        text = f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"
        spoken.append(f"{key} {text}")
        parts += [
            f'<text class="n" x="24" y="{y + 5}">{key}</text><text class="s" x="126" y="{y + 5}">{words}</text>',
            f'<g{shown}><path class="i" d="M{_place(low):g} {y}H{_place(high):g}"/>'
            f'<circle class="d" cx="{_place(estimate):g}" cy="{y}" r="5"/></g>',
            f'<text class="s" x="{RIGHT + 22}" y="{y + 5}">{text}</text>',
        ]
    seeds = len(measured["full"]["seeds"])
    height = ends + 46
    items = measured["full"]["n"]
    note = f"95 % intervals over {seeds} seeds and {items} items that share number words; "
    note += "filled: 0 is outside"
    parts.append(f'<text class="s" x="24" y="{height - 10}">{note}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {height}" width="880" height="{height}" '
            f'role="img" aria-labelledby="t d" font-family="{FONTS}">',
            f'<title id="t">Effects of the four toggles</title><desc id="d">{"; ".join(spoken)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="bg" width="880" height="{height}" rx="6"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['bridged']:.1f} %"


def _points(difference: float) -> float:
    return round(100 * difference, 1) + 0.0  # no -0.0


def _place(points: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * (points - LOW) / (HIGH - LOW), 1)


if __name__ == "__main__":
    files.write_text(FIGURE, figure(files.read_json(TABLE)["rows"]))
    print(FIGURE)
