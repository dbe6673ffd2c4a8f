"""The first screens of the appendix: how long they are, and what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge_common.files import read_jsonl, write_jsonl
from tests.support.made_samples import write_samples
from tune_spaces.analysis.analyse import Appendix, analyse
from tune_spaces.analysis.scored_trials import read_trials
from tune_spaces.appendix.summary import MOST_ROWS, summary
from tune_spaces.appendix.write import write_appendix

WIDTH = 80


def appendix_of(
    folder: Path, rates: dict[str, float], seeds: int = 1, items: int = 300, cluster: int = 1, **options: Any
) -> Appendix:
    rng, rows = np.random.default_rng(0), []
    difficulty = rng.beta(1.3, 0.7, items)
    for variant, shift in rates.items():
        for seed in range(seeds):
            verdicts = {
                "bridged": rng.random(items) < difficulty + shift,
                "target_alone": rng.random(items) < difficulty - 0.2,
                "shuffled_soft": rng.random(items) < difficulty - 0.3,
            }
            path = write_samples(folder / f"{variant}-{seed}.jsonl", verdicts)
            if cluster > 1:
                write_jsonl(path, [row | {"cluster": f"c{i // cluster}"} for i, row in enumerate(read_jsonl(path))])
            rows.append({"variant": variant, "seed": seed, "samples": path.name, "K": list(rates).index(variant)})
    return analyse(read_trials(pd.DataFrame(rows), (), root=folder), **options)


def height(text: str) -> int:
    """Return the number of lines that a text takes at 80 columns."""
    return sum(max(1, -(-len(line) // WIDTH)) for line in text.splitlines())


@pytest.mark.parametrize(("variants", "seeds"), [(4, 3), (9, 2), (40, 1)])
def test_what_stands_before_the_details_fits_two_screens(tmp_path: Path, variants: int, seeds: int) -> None:
    rates = {"full": 0.1, **{f"a-variant-of-some-length-{i}": -0.3 + i / 100 for i in range(1, variants)}}
    question = "Does this setting help against another one"
    asks = [(f"{question}, number {i}?", name, "full") for i, name in enumerate(list(rates)[1:9])]
    appendix = appendix_of(tmp_path, rates, seeds, asks=asks)
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text()
    first = text.split("## What the data support")[0]
    assert height(first) <= 100
    table, sentences = first.split("\n\n")[1:3] if variants <= MOST_ROWS else first.split("\n\n")[1:4:2]
    assert table.count("\n") == min(variants, MOST_ROWS) + 1
    assert sentences.count(". ") == 2, "three sentences"
    if variants > MOST_ROWS:
        assert f"and {variants - MOST_ROWS} more variants below" in first
    assert first.count("Does this setting help") == min(8, variants - 1)


def test_the_three_sentences(tmp_path: Path) -> None:
    appendix = appendix_of(tmp_path, {"full": 0.15, "B": -0.15}, cluster=3)
    _, sentences = summary(appendix)
    by = 100 * appendix.pairs[0].difference
    assert sentences.startswith(f"1 of 1 differences between variants shown (*): full above B by {by:.1f} points. ")
    gains = {gain.b: gain for gain in appendix.gains if gain.a == "full"}
    gain, information = (f"{100 * gains[name].difference:+.1f}" for name in ("target_alone", "shuffled_soft"))
    assert (
        f" A gain is shown over the target alone for full ({gain}); over shuffled soft tokens for full (" in sentences
    )
    assert information in sentences
    assert sentences.endswith(
        "2 runs of 2 variants on the same 300 items in 100 clusters; no configuration ran twice, so the noise floor is "
        "not known."
    )


def test_a_loss_is_said_and_gains_are_called_so(tmp_path: Path) -> None:
    """B is below the target alone. Its target is another one, so that gains are compared, whatever the accuracies."""
    made = appendix_of(tmp_path, {"full": 0.15, "B": -0.45})
    loss = next(gain for gain in made.gains if (gain.a, gain.b) == ("B", "target_alone"))
    assert loss.shown
    assert loss.difference < 0
    gain = next(gain for gain in made.gains if (gain.a, gain.b) == ("full", "target_alone"))
    more, less = (f"{100 * one.difference:+.1f}" for one in (gain, loss))
    assert f"for full ({more}), and a loss for B ({less}); over shuffled" in summary(made)[1]
    rows = [{"variant": name, "seed": 0, "samples": f"{name}-0.jsonl", "target": name} for name in ("full", "B")]
    apart = analyse(read_trials(pd.DataFrame(rows), (), root=tmp_path))
    by = 100 * apart.pairs[0].difference
    table, sentences = summary(apart)
    assert f"shown (*): full above B by {by:.1f} points in gain. " in sentences
    assert f"| {more} * | reference |" in table


def test_what_is_not_shown_is_said(tmp_path: Path) -> None:
    appendix = appendix_of(tmp_path, {"full": -0.2, "B": -0.2}, seeds=2)
    sentences = summary(appendix)[1]
    assert sentences.startswith("None of 1 differences between variants is shown (*). ")
    assert "over the target alone for none of 2 variants" in sentences
    assert appendix.noise_floor is not None
    assert f"typically differ by {100 * appendix.noise_floor.typical:.1f} points (noise floor)." in sentences


def test_clusters_stand_beside_n_in_every_table(tmp_path: Path) -> None:
    text = write_appendix(tmp_path / "o", appendix_of(tmp_path, {"full": 0.1, "B": 0.0}, cluster=3))["appendix.md"]
    lines = text.read_text().splitlines()
    for heading in (
        "Accuracy by variant and condition",
        "Variants against variants",
        "Baselines and controls",
    ):
        table = [line for line in lines[lines.index(f"## {heading}") :] if line.startswith("|")]
        columns = [name.strip() for name in table[0].split("|")]
        row = dict(zip(columns, (cell.strip() for cell in table[2].split("|")), strict=True))
        assert (row.get("items") or row.get("n"), row["clusters"]) == ("300", "100")
