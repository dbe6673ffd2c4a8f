"""Charts with axes, drawn by Vega-Lite (vl-convert) into SVG: they need no script in the page, and print.

Colours are variables of the page's style, so a chart follows light and dark.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tune_spaces.appendix.plots import Curve
from tune_spaces.card.html import Html, tag

INK, MUTED, FAINT, RULE, ACCENT = (f"var(--{name})" for name in ("ink", "muted", "faint", "rule", "accent"))
PANEL_WIDTH, PANEL_HEIGHT = 196, 112
MOST_POINTS = 150  # of a curve in a panel
_CONFIG = {
    "background": None,
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "gridColor": RULE,
        "domainColor": RULE,
        "tickColor": RULE,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "text": {"color": MUTED, "fontSize": 11},
}


def panels(curves: Mapping[str, Sequence[Curve]], what: str, *, percent: bool = False) -> Html:
    """Return one small chart a variant on a common scale: its seeds in colour before all others in grey.

    Args:
        curves: steps and values of every run, by variant.
        what: what the values are.
        percent: whether values are fractions, to be shown in percent.
    """
    scale = 100.0 if percent else 1.0
    rows: dict[str, list[dict[str, Any]]] = {
        name: [
            {"run": f"{name} {number}", "step": step, "value": scale * value}
            for number, (steps, values) in enumerate(runs)
            for step, value in _thinned(steps, values)
        ]
        for name, runs in curves.items()
    }
    everything = [row for own in rows.values() for row in own]
    if not everything:
        return Html("")
    ends = {axis: [min(r[axis] for r in everything), max(r[axis] for r in everything)] for axis in ("step", "value")}
    figures = []
    for name, own in rows.items():
        others = [row for other, theirs in rows.items() if other != name for row in theirs]
        svg = _svg(_panel(others, own, ends, "%" if percent else ""))
        last = own[-1]["value"]
        label = f"{what} of {name} by step: {len(curves[name])} runs, at the end {last:.3g}{' %' if percent else ''}"
        count = len(curves[name])
        title = tag("figcaption", tag("b", name), f" {count} seeds" if count > 1 else "")
        figures.append(tag("figure", title, tag("div", svg, role="img", aria_label=label), class_="panel"))
    return tag("div", *figures, class_="panels")


def accuracy_by_soft_tokens(rows: Sequence[Mapping[str, Any]], baseline: float | None) -> Html:
    """Return accuracy against the number of soft tokens with its intervals.

    Args:
        rows: `K`, `accuracy`, `low`, `high`, as the appendix has them.
        baseline: accuracy of the target alone, or None.
    """
    values = [
        {"K": r["K"], "accuracy": 100 * r["accuracy"], "low": 100 * r["low"], "high": 100 * r["high"]}
        for r in sorted(rows, key=lambda r: r["K"])
    ]
    x = {
        "field": "K",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "nice": False, "padding": 14},
        "axis": {"title": "soft tokens K", "values": [row["K"] for row in values], "grid": False, "format": "d"},
    }
    y = {"field": "accuracy", "type": "quantitative", "scale": {"zero": False}, "axis": _percent("accuracy, %")}
    rule, line = ({"type": name, "color": ACCENT, "strokeWidth": 1.5} for name in ("rule", "line"))
    point = {"type": "point", "filled": True, "color": ACCENT, "size": 60, "opacity": 1}
    layers: list[dict[str, Any]] = [
        {"mark": rule, "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
        {"mark": line, "encoding": {"x": x, "y": y}},
        {"mark": point, "encoding": {"x": x, "y": y}},
    ]
    if baseline is not None:
        of = {"data": {"values": [{"accuracy": 100 * baseline, "text": "target alone"}]}}
        layers += [
            {**of, "mark": {"type": "rule", "color": MUTED, "strokeDash": [4, 3]}, "encoding": {"y": y}},
            {
                **of,
                "mark": {"type": "text", "align": "right", "dy": -6, "color": MUTED},
                "encoding": {"y": y, "x": {"value": 420}, "text": {"field": "text"}},
            },
        ]
    svg = _svg({"data": {"values": values}, "width": 420, "height": 200, "layer": layers})
    spoken = "; ".join(f"K = {row['K']}: {row['accuracy']:.1f} %" for row in values)
    return tag("figure", tag("div", svg, role="img", aria_label=f"Accuracy by soft tokens: {spoken}"), class_="chart")


def _percent(title: str | None) -> dict[str, Any]:
    return {"title": title, "tickCount": 4, "domain": False, "ticks": False}


def _panel(others: list[Any], own: list[Any], ends: Mapping[str, Any], unit: str) -> dict[str, Any]:
    label = {"labelExpr": f"datum.label + ' {unit}'"} if unit else {}
    x = {
        "field": "step",
        "type": "quantitative",
        "scale": {"domain": ends["step"], "nice": False},
        "axis": {"title": None, "grid": False, "tickCount": 3},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": ends["value"], "nice": True},
        "axis": {**_percent(None), "tickCount": 3, **label},
    }
    encoding = {"x": x, "y": y, "detail": {"field": "run"}}
    layers = [
        {
            "data": {"values": rows},
            "mark": {"type": "line", "color": colour, "strokeWidth": width},
            "encoding": encoding,
        }
        for rows, colour, width in ((others, FAINT, 0.8), (own, ACCENT, 1.6))
        if rows
    ]
    return {"width": PANEL_WIDTH, "height": PANEL_HEIGHT, "layer": layers}


def _thinned(steps: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    points = list(zip(steps, values, strict=True))
    every = max(1, -(-len(points) // MOST_POINTS))
    kept = points[::every]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _svg(spec: Mapping[str, Any]) -> Html:
    import vl_convert

    drawn = vl_convert.vegalite_to_svg({**spec, "config": {**_CONFIG, "aria": False}}, vl_version="5.21")
    return Html(drawn.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))
