"""Write the attribution appendix: Markdown for people, tables and a JSON object for programs, plots for both.

Deterministic: equal trials give equal bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from bridge_common.files import write_bytes, write_json, write_text
from tune_spaces.analysis.analyse import Appendix
from tune_spaces.analysis.changed_items import COLUMNS
from tune_spaces.analysis.claims import effect_name
from tune_spaces.analysis.families import MOST_PAIRED
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.appendix import compression_plots, plots
from tune_spaces.appendix.attention import NAMES, Shares
from tune_spaces.appendix.markdown import markdown
from tune_spaces.gate.decision import STRADDLES
from tune_spaces.records.csv_text import csv_text

MOST_DRAWN = 60  # lines of a forest plot


def write_appendix(
    out: Path,
    appendix: Appendix,
    *,
    title: str = "Attribution appendix",
    quoted: int = 20,
    curves: Mapping[str, Sequence[plots.Curve]] | None = None,
    curve_name: str = "validation/accuracy/bridged",
    gate: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    attention: Shares | None = None,
) -> dict[str, Path]:
    """Write the appendix into a folder; each file is replaced atomically.

    Args:
        out: the folder, which is made if it does not exist.
        appendix: what `analyse` returned.
        title: heading of the Markdown.
        quoted: number of changed items quoted in the Markdown; the CSV has all.
        curves: steps and values of `curve_name` of each run, by variant, for the plot of training.
        curve_name: name of the metric that the curves show.
        gate: content of `gate.json`: `settings` with `passes` and `attribute`, `branch`, `uncertain`.
        notes: paragraphs of Markdown for the beginning: what a reader must know of how the trials ran.
        attention: entropy of attention weights over training, by kind of attention and variant.

    Returns:
        Paths of the files by their names: appendix.md, appendix.json, effects.csv, effects.parquet, pairs.csv,
        changed_items.csv, and the plots for which there are data.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths = _pictures(out, appendix, curves, curve_name, gate)
    shown = {
        f"{name}, {NAMES[kind]}": runs for kind, known in (attention or {}).items() for name, runs in known.items()
    }
    if shown:
        paths["attention.png"] = plots.entropy_curves(out / "attention.png", shown)
    tables = {
        "effects.csv": _effects_table(appendix),
        "pairs.csv": _pairs_table(appendix),
        "changed_items.csv": pd.DataFrame(appendix.changed, columns=list(COLUMNS)),
    }
    for name, table in tables.items():
        write_text(out / name, csv_text(table))
    buffer = BytesIO()
    tables["effects.csv"].to_parquet(buffer, index=False)
    write_bytes(out / "effects.parquet", buffer.getvalue())
    write_json(out / "appendix.json", appendix.as_json())
    text = markdown(appendix, title=title, quoted=quoted, pictures=list(paths), notes=notes, attention=attention)
    write_text(out / "appendix.md", text)
    for name in ("appendix.md", "appendix.json", *tables, "effects.parquet"):
        paths[name] = out / name
    return paths


def _effects_table(appendix: Appendix) -> pd.DataFrame:
    columns = [
        "kind", "toggles", "given", "status", "estimate", "low", "high", "n10", "n01", "p", "p_adjusted", "correction",
        "test", "noise_floor", "shown", "reason",
    ]  # fmt: skip
    kinds = {"n10": "Int64", "n01": "Int64", "shown": "boolean"}
    numbers = dict.fromkeys(("estimate", "low", "high", "p", "p_adjusted", "noise_floor"), "float64")
    return pd.DataFrame(appendix.effects(), columns=columns).astype({**kinds, **numbers})


def _pairs_table(appendix: Appendix) -> pd.DataFrame:
    floor = None if appendix.noise_floor is None else appendix.noise_floor.typical
    beside = appendix.controls
    families = {
        "questions": [asked.pair for asked in appendix.asked if asked.pair is not None],
        "variants": [pair for pair in appendix.pairs if not pair.asked],
        "baselines": appendix.gains,
        "controls": [*beside.against, *beside.gains],
        "contexts": [*beside.between_contexts, *beside.context_gains],
    }
    rows = [
        {"family": family, **asdict(pair), "noise_floor": floor} for family, pairs in families.items() for pair in pairs
    ]
    fields = [name for name in PairedComparison.__dataclass_fields__ if name not in ("floor", "asked")]
    return pd.DataFrame(rows, columns=["family", *fields, "noise_floor"])


def _pictures(
    out: Path,
    appendix: Appendix,
    curves: Mapping[str, Sequence[plots.Curve]] | None,
    curve_name: str,
    gate: Mapping[str, Any] | None,
) -> dict[str, Path]:
    floor = None if appendix.noise_floor is None else appendix.noise_floor.typical
    paths: dict[str, Path] = {}
    rows: list[dict[str, Any]]
    if appendix.attribution is not None:
        ran = {effect.kind for effect in appendix.attribution.effects if effect.ran}
        rows = [
            {"label": effect_name(effect), "estimate": effect.estimate, "low": effect.low, "high": effect.high,
             "shown": effect.shown(appendix.noise_floor)}
            for effect in appendix.attribution.effects
            if effect.kind in ran
        ][:MOST_DRAWN]  # fmt: skip
        if rows:
            path = out / "effects.png"
            paths[path.name] = plots.forest(path, rows, noise_floor=floor, title="Effects of toggles")
    if appendix.pairs:
        rows = [
            {"label": f"{pair.a} − {pair.b}", "estimate": pair.difference, "low": pair.ci_low, "high": pair.ci_high,
             "shown": pair.shown}
            for pair in appendix.pairs
        ][:MOST_DRAWN]  # fmt: skip
        paths["pairs.png"] = plots.forest(out / "pairs.png", rows, noise_floor=floor, title="Variants against variants")
    if any(row["prompt_kv_bytes"] is not None for row in appendix.compression):
        paths["compression.png"] = compression_plots.compression(out / "compression.png", appendix.compression)
    elif appendix.by_soft_tokens:
        alone = [row["accuracy"] for row in appendix.outcomes if row["condition"] == "target_alone"]
        paths["soft_tokens.png"] = compression_plots.accuracy_by_soft_tokens(
            out / "soft_tokens.png", appendix.by_soft_tokens, baseline=alone[0] if alone else None
        )
    costed = [row for row in appendix.costs if row["flops"] is not None]
    if costed:
        paths["pareto.png"] = plots.pareto(out / "pareto.png", costed[:MOST_DRAWN])
    if curves:
        paths["curves.png"] = plots.training_curves(out / "curves.png", curves, value=curve_name)
    if gate:
        last = (gate.get("decisions") or [{}])[-1]
        doubt = f" (uncertain: {last.get('doubt') or STRADDLES})" if gate.get("uncertain") else ""
        decision = f"gate: {gate.get('branch') or 'open'}{doubt}"
        paths["gate.png"] = plots.gate(
            out / "gate.png", gate_points(appendix, last), passes=gate["settings"]["passes"],
            attribute=gate["settings"]["attribute"], decision=decision,
        )  # fmt: skip
    return paths


def gate_points(appendix: Appendix, decision: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the picture of the gate shows: what it decided on, then the accuracies of the variants.

    The decision has an interval of its own: over items alone, and at the level of its look.

    Args:
        appendix: the appendix.
        decision: the last one, as `gate.json` has it.
    """
    points = [{**row, "label": row["variant"]} for row in appendix.outcomes if row["condition"] == "bridged"]
    if {"accuracy", "low", "high"} <= set(decision):
        points.insert(0, {**decision, "label": "as decided"})
    return points[:MOST_PAIRED]
