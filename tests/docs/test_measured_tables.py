"""The tables of the pages about the embedded pair have the numbers of the files of results that they name."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks import effects_figure, embedded_ablations, rivals
from benchmarks.effects_figure import FIGURE, TOGGLES
from benchmarks.embedded_ablations import random_twin_of
from bridge_common.metric_names import BRIDGE_PARAMETERS, cost
from tests.support.documents import ROOT
from tests.support.markdown_tables import Table, tables

HYBRIDS = {
    "full: soft tokens before the prompt": "full",
    "hybrid-adapter: adapters in layers 2, 4, gates start at 1 (phase 2's variant)": "hybrid-adapter",
    "adapters in layers 1, 2, 3, gates start at 1": "hybrid-adapter-early",
    "adapters in layers 1, 2, 3, gates start at 0": "hybrid-adapter-closed-early",
    "hybrid-residual: gate starts at 0": "hybrid-residual",
    "residual, gate starts at 1": "hybrid-residual-open",
    "constant: no source": "constant",
    "random_source: a source of random weights": "random_source",
}
SOFT = {
    "soft tokens and the prompt": "soft_plus_text",
    "soft tokens and the prompt, 400 steps": "soft_plus_text",
    "soft tokens instead of the prompt, 1,600 steps": "soft_only",
}
TEXT = {
    "the prompt and the source's answer, cut": "text_bridge",
    "the source's summary": "source_summary",
    "the source's summary instead of the prompt": "source_summary",
    "the question cut": "question_cut",
}


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks/results" / name).read_text())
    return found


def by_variant(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in rows}


def table_of(page: str, heads: set[str]) -> Table:
    """Return the only table of a page with these columns."""
    (table,) = (t for t in tables((ROOT / page).read_text()) if heads <= next(iter(t.values())).keys())
    return table


def numbers(cell: str) -> list[str]:
    """Return a cell's numbers as written; those without a decimal as if it were 0."""
    return [found if "." in found else f"{found}.0" for found in re.findall(r"[+-]?\d+(?:\.\d+)?", cell)]


def accuracy(row: Mapping[str, Any], key: str = "bridged") -> list[str]:
    return [f"{100 * row[name]:.1f}" for name in (key, "low", "high")]


def difference(gap: Mapping[str, float] | None) -> list[str]:
    return [] if gap is None else [f"{100 * gap[name]:+.1f}" for name in ("estimate", "low", "high")]


def test_rivals() -> None:
    page = table_of("docs/rivals.md", {"method", "passed, bytes"})
    rows = by_variant(results("rivals.json")["rows"])
    texts = {row["tokens"]: row for row in results("text-budgets.json")["rows"] if row["way"] == "text_bridge"}
    assert {name for name in page if not name.startswith("text")} == rows.keys() - {random_twin_of(n) for n in rows}
    for name, cells in page.items():
        if name.startswith("text"):
            text = texts[int(numbers(name)[0].removesuffix(".0"))]
            assert numbers(cells["bridged"]) == accuracy(text, "accuracy"), name
            gain = text["accuracy"] - rows["full"]["target_alone"]
            less = text["accuracy"] - rows["full"]["bridged"]
            assert numbers(cells["gain"]) == [f"{100 * gain:+.1f}"], name
            assert numbers(cells["− full"]) == [f"{100 * less:+.1f}"], name
            assert cells["MFLOP"] == f"{text['flops'] / 1e6:.1f}", name
            assert cells["passed, bytes"] == f"{text['passed_bytes']:,.0f}", name
            continue
        row, twin = rows[name], rows.get(random_twin_of(name))
        assert numbers(cells["bridged"]) == accuracy(row), name
        for head, other in (("gain", "target_alone"), ("information", "shuffled_soft"), ("− full", "full")):
            assert numbers(cells[head]) == difference(row.get(f"minus_{other}")), (name, head)
        assert numbers(cells["− random source"]) == difference(row.get("minus_random_source")), name
        assert numbers(cells["random source"]) == ([] if twin is None else [f"{100 * twin['bridged']:.1f}"]), name
        assert cells["MFLOP"] == f"{row['costs'][cost('flops', 'bridged')] / 1e6:.1f}", name
        assert cells["passed, bytes"] == f"{row['costs'][cost('passed_bytes', 'bridged')]:,.0f}", name
        assert cells["trained, thousands"].split(",")[0] == f"{row['costs'][BRIDGE_PARAMETERS] / 1e3:.0f}", name


def test_one_change_a_row() -> None:
    page = table_of("docs/embedded-study.md", {"variant", "numerals"})
    rows = by_variant(results("embedded-ablations.json")["rows"])
    assert page.keys() <= rows.keys()
    for name, cells in page.items():
        assert numbers(cells["bridged"] + cells["95 % interval"]) == accuracy(rows[name]), name


def test_the_figure_of_effects_is_drawn_from_the_table() -> None:
    drawn = FIGURE.read_text(encoding="utf-8")
    assert drawn == effects_figure.figure(results("embedded-ablations.json")["rows"]), "draw it again"
    page = table_of("docs/embedded-study.md", {"variant", "numerals"})
    for key in TOGGLES:
        estimate, low, high = (-float(number) + 0.0 for number in numbers(page[f"no-{key}"]["− full"]))
        assert f"{key} {estimate:+.1f} [{high:+.1f}, {low:+.1f}]" in drawn


def test_hybrids() -> None:
    page = table_of("docs/embedded-study.md", {"bridged, %", "gain, points"})
    rows = by_variant(results("hybrid-conditioning.json")["rows"])
    assert {HYBRIDS[label] for label in page} == rows.keys()
    for label, cells in page.items():
        row = rows[HYBRIDS[label]]
        assert numbers(cells["bridged, %"]) == accuracy(row), label
        assert numbers(cells["gain, points"]) == difference(row["minus_target_alone"]), label
        assert numbers(cells["− full"]) == difference(row.get("minus_full")), label
        assert numbers(cells["shuffled soft, %"]) == [f"{100 * row['shuffled_soft']:.1f}"], label


def test_the_pair_exchanged() -> None:
    page = table_of("docs/embedded-study.md", {"random soft", "the source's answer as text"})
    rows = by_variant(results("embedded-phases.json")["rows"])
    assert set(page) == {"swap", "swap-random_source"}
    heads = {"shuffled soft": "shuffled_soft", "random soft": "random_soft"}
    heads |= {"the source's answer as text": "text_bridge"}
    for name, cells in page.items():
        assert numbers(cells["bridged"]) == accuracy(rows[name]), name
        assert numbers(cells["gain"]) == difference(rows[name]["minus_target_alone"]), name
        for head, condition in heads.items():
            assert numbers(cells[head]) == [f"{100 * rows[name][condition]:.1f}"], (name, head)


@pytest.mark.parametrize("page", ["docs/embedded-study.md", "docs/compression.md"])
def test_accuracy_at_k_tokens(page: str) -> None:
    measured = results("embedded-phases.json")
    rows = {(row["way"], row["tokens"]): row for row in measured["compression"]}
    texts = {(row["way"], row["tokens"]): row for row in results("text-budgets.json")["rows"]}
    instead = by_variant(measured["without_the_prompt"]["rows"])
    for label, cells in table_of(page, {"the target reads", "K = 4", "64"}).items():
        if label == "the whole prompt":
            assert numbers(cells["16"]) == accuracy(rows["target_alone", None], "accuracy")
            continue
        way = (SOFT | TEXT)[label]
        for head, cell in list(cells.items())[1:]:
            k = int(head.removeprefix("K = "))
            by_seed = instead["soft_only-long" if k == 16 else f"soft_only-long-k{k}"]["bridged_by_seed"]
            with_seeds = way == "soft_only" and ":" in cell
            seeds = [f"{100 * value:.1f}" for value in by_seed] if with_seeds else []
            expected = accuracy(rows[way, k], "accuracy")
            assert numbers(cell) == seeds + (expected if "[" in cell else expected[:1]), (label, k)
            assert label in SOFT or expected == accuracy(texts[way, k], "accuracy"), (label, k)


def test_files_for_reading_have_the_rows_of_the_json_files() -> None:
    def text(name: str) -> str:
        return (ROOT / "benchmarks/results" / f"{name}.md").read_text()

    phases = results("embedded-phases.json")
    assert text("rivals") == rivals.markdown(results("rivals.json")["rows"])
    assert text("hybrid-conditioning") == embedded_ablations.markdown(results("hybrid-conditioning.json")["rows"])
    beside, instead = text("embedded-phases").split("\nWithout the prompt, 1,600 steps:\n\n")
    assert beside == embedded_ablations.markdown(phases["rows"])
    assert instead == embedded_ablations.markdown(phases["without_the_prompt"]["rows"])


def test_the_page_about_serving_has_the_measured_numbers() -> None:
    measured, page = results("serving-cpu.json"), " ".join((ROOT / "docs/using.md").read_text().split())
    assert (measured["lost"], measured["other_than_alone"]) == (0, 0)
    assert f"the first answer came after {measured['first_answer_s']:.1f} s" in page
    assert f"the minute gave {measured['answered']} answers, none lost and each as alone" in page
    assert f"half of them within {measured['median_s']:.1f} s of their request" in page
