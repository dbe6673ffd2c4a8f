"""Controls and contexts in the appendix: in sections and families of their own, never among the plan's effects."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge_common import files
from ray_bridge import tiny
from tests.support.made_samples import write_samples
from tune_spaces.analysis.analyse import Appendix, analyse
from tune_spaces.analysis.scored_trials import Trials, read_trials
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.appendix.markdown import markdown
from tune_spaces.design.phases import phase1
from tune_spaces.records.plan_file import phase_record

TOGGLES = ("kl",)
RATES = {"full": 0.9, "no-kl": 0.6, "constant": 0.35, "random_source": 0.34, "full-soft_only": 0.8}
CONTROLS, TWINS = ("constant", "random_source"), ("full-soft_only",)


def trials_of(folder: Path, names: list[str], items: int = 400) -> Trials:
    rng = np.random.default_rng(1)
    difficulty, alone = rng.random(items), rng.random(items) < 0.33
    rows: list[dict[str, Any]] = []
    for name in names:
        for seed in (0, 1):
            bridged = difficulty < RATES[name] + rng.normal(0, 0.01, items)
            verdicts = {"bridged": bridged, "target_alone": alone, "shuffled_soft": alone}
            path = write_samples(folder / f"{name}-{seed}.jsonl", verdicts)
            rows.append({"variant": name, "seed": seed, "kl": name != "no-kl", "samples": path.name})
            layout = "soft_only" if name.endswith("soft_only") else "soft_plus_text"
            source = "random:s" if name == "random_source" else "s"
            bridge = "constant" if name == "constant" else "dit"
            rows[-1] |= {"layout": layout, "source": source, "target": "t", "bridge": bridge}
    return read_trials(pd.DataFrame(rows), TOGGLES, root=folder)


@pytest.fixture(scope="module")
def with_and_without(tmp_path_factory: pytest.TempPathFactory) -> tuple[Appendix, Appendix]:
    folder = tmp_path_factory.mktemp("samples")
    alone = analyse(trials_of(folder, ["full", "no-kl"]), TOGGLES)
    return alone, analyse(trials_of(folder, list(RATES)), TOGGLES, controls=CONTROLS, twins=TWINS)


def test_no_family_claim_or_effect_of_the_plan_changes(with_and_without: tuple[Appendix, Appendix]) -> None:
    alone, beside = with_and_without
    for part in ("pairs", "gains", "attribution", "noise_floor", "claims", "changed", "by_soft_tokens"):
        assert getattr(beside, part) == getattr(alone, part), part
    assert {row["variant"] for row in beside.outcomes} == set(RATES)


def test_controls_are_a_family_of_their_own(with_and_without: tuple[Appendix, Appendix]) -> None:
    alone, beside = with_and_without
    assert (alone.controls.names, alone.controls.contexts) == ([], [])
    found = beside.controls
    assert (found.names, found.twins) == (list(CONTROLS), list(TWINS))
    assert [(pair.a, pair.b, pair.quantity) for pair in found.against] == [
        ("full", "constant", "accuracy"),
        ("full", "random_source", "gain"),
    ]
    assert all(pair.shown and 0.45 < pair.difference < 0.65 for pair in found.against)
    assert found.against[0].p_adjusted <= 2 * found.against[0].p
    assert {(gain.a, gain.b) for gain in found.gains} == {
        (name, baseline) for name in CONTROLS for baseline in ("target_alone", "shuffled_soft")
    }


def test_contexts_are_found_by_what_differs(with_and_without: tuple[Appendix, Appendix]) -> None:
    found = with_and_without[1].controls
    assert [pair.names() for pair in found.contexts] == [{"reads_prompt": "full", "soft_only": "full-soft_only"}]
    (between,) = found.between_contexts
    assert (between.a, between.b) == ("full-soft_only", "full")
    assert between.shown
    assert -0.15 < between.difference < -0.05


def test_what_the_markdown_says_of_them(with_and_without: tuple[Appendix, Appendix]) -> None:
    alone, beside = (markdown(each, title="T", quoted=0, pictures=[]) for each in with_and_without)
    assert "## Controls" not in alone
    assert "## Contexts" not in alone
    overview = beside[: beside.index("## What the data support")]
    assert "| no-kl |" in overview
    assert "constant" not in overview
    section = beside[beside.index("## Controls") : beside.index("## Contexts")]
    assert "- constant: a learned prompt of the same K without a source" in section
    assert "| random_source |" in section
    contexts = beside[beside.index("## Contexts") : beside.index("## Effects of toggles")]
    lines = [line for line in contexts.splitlines() if line.startswith("| full |")]
    assert [line.split(" | ")[1] for line in lines] == ["reads_prompt", "soft_only"]
    assert "*" in lines[1].split(" | ")[-1]


def test_a_campaign_without_full_is_not_compared_with_a_control(tmp_path: Path) -> None:
    """The names of controls come before others in the alphabet; the record says which variants they are."""
    base, campaign = tiny(), tmp_path / "c"
    phase = phase1(base).with_controls(base)
    files.write_json(campaign / "campaign.json", {"phase": phase_record(phase), "base": base.model_dump()})
    rng = np.random.default_rng(0)
    for variant in phase.variants():
        if variant.name in ("B", "C", "constant"):
            spec = variant.spec(base, 0)
            folder = campaign / "trials" / f"{variant.name}-00000000"
            about = {"variant": variant.name, "phase": "phase1", "fingerprint": "0" * 16, "seed": 0, "run": {}}
            files.write_json(folder / "spec.json", {**about, "spec": spec.model_dump()})
            flags = rng.random(50) < 0.5
            write_samples(folder / "samples.jsonl", {"bridged": flags, "target_alone": ~flags})
            files.write_json(folder / "result.json", {"metrics": {"accuracy/bridged": float(flags.mean())}})
    paths = campaign_appendix(campaign)
    record = files.read_json(paths["appendix.json"])
    assert record["reference"] == "B"
    assert record["controls"]["names"] == ["constant"]
    assert [(pair["a"], pair["b"]) for pair in record["pairs"]] == [("C", "B")], "as the plan asks"
    families = pd.read_csv(paths["pairs.csv"]).groupby("family").size().to_dict()
    assert families == {"baselines": 2, "controls": 2, "questions": 1}
