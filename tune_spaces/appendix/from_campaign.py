"""The appendix of a campaign, from its folder alone: every trial that finished, with all fields of its spec."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bridge_common.errors import UserError
from bridge_common.metric_names import accuracy
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, build, fingerprint
from tune_spaces.analysis.analyse import Appendix, analyse
from tune_spaces.analysis.families import MOST_PAIRED
from tune_spaces.analysis.kv_cache_savings import kv_cache_saved
from tune_spaces.analysis.scored_trials import Trials, read_trials
from tune_spaces.appendix.attention import METRICS
from tune_spaces.appendix.plots import Curve
from tune_spaces.appendix.write import write_appendix
from tune_spaces.design.sweep import SWEEP
from tune_spaces.design.toggles import OFF, ON, all_toggles
from tune_spaces.design.variants import full
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.results_table import STOPPED_EARLY, trial_table
from tune_spaces.records.reuse import finished_trials

CURVE = f"validation/{accuracy('bridged')}"  # comparable between variants, whose losses have different terms
VALIDATION = "validation/best_accuracy"
MOST_POINTS = 1_000  # of a curve; more cannot be seen


def campaign_appendix(
    campaign: Path,
    out: Path | None = None,
    *,
    phases: Collection[str] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    reference: str = "full",
) -> dict[str, Path]:
    """Write the attribution appendix of a campaign.

    Args:
        campaign: STORAGE/CAMPAIGN.
        out: folder to write into; `appendix` in the campaign's folder by default.
        phases: phases to read; all by default.
        pairs: variants to compare, as (a, b), if the plan declared them.
        reference: the variant that others are compared with.

    Returns:
        Paths of the files by their names, as from `write_appendix`.

    Raises:
        UserError: no trial of these phases has finished.
    """
    folder = CampaignFolder(Path(campaign))
    analysed = analyse_campaign(folder, phases=phases, pairs=pairs, reference=reference)
    trials = analysed.appendix.trials
    return write_appendix(
        folder.path / "appendix" if out is None else out,
        analysed.appendix,
        title=f"Attribution appendix of {folder.path.resolve().name}",
        curves=curves(trials, CURVE),
        curve_name=CURVE,
        gate=gate if (gate := folder.gate()) and gate.get("decisions") else None,
        notes=analysed.notes,
        attention={kind: curves(trials, metric) for kind, metric in METRICS.items()},
    )


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """A campaign's trials and what they show.

    Attributes:
        table: one row a trial, those without a result included.
        toggles: fields that are on or off in every trial.
        appendix: everything that is computed from the trials.
        notes: paragraphs of Markdown on how the trials ran.
    """

    table: pd.DataFrame
    toggles: list[str]
    appendix: Appendix
    notes: list[str]


def analyse_campaign(
    folder: CampaignFolder,
    *,
    phases: Collection[str] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    reference: str = "full",
) -> Analysed:
    """Compute what a campaign's trials show; the arguments are those of `campaign_appendix`.

    Raises:
        UserError: no trial of these phases has finished.
    """
    record = (folder.campaign() or {}).get("phase", {})
    controls, twins = ([variant["name"] for variant in record.get(name, ())] for name in ("controls", "contexts"))
    table = _table(folder, phases, last=(*controls, *twins))
    fields = _two_position_toggles(table)
    settings = [name for name in map(str, table) if name in JobSpec.model_fields or name.startswith("extra.")]
    context = [name for name in settings if name not in (*fields, "seed", "text_budgets")]
    trials = read_trials(table, fields, reference=reference, context=context)
    asks = [(question, a, b) for question, a, b in record.get("asks", ())]
    appendix = analyse(
        trials, fields, pairs=pairs, margin=record.get("margin"), asks=asks, controls=controls, twins=twins
    )
    return Analysed(table=table, toggles=fields, appendix=appendix, notes=_notes(table))


def _table(campaign: CampaignFolder, phases: Collection[str] | None, last: Collection[str]) -> pd.DataFrame:
    """Build the table of a campaign's trials, in the order of phase, variant and seed, the variants of `last` last."""
    table = trial_table([*TrialFolder.begun_in(campaign.path), *_reference_elsewhere(campaign)])
    if phases is not None and not table.empty:
        table = table[table["phase"].isin(list(phases))]
    if table.empty:
        which = "" if phases is None else f" of {', '.join(phases)}"
        raise UserError(f"{campaign.path} has no trial{which} yet: run a phase first")
    table = table.copy()
    table["kv_saved"] = [_kv_saved(row) for row in table.to_dict("records")]
    table["beside"] = table["variant"].isin(list(last))
    return table.sort_values(["beside", "phase", "variant", "seed"], ignore_index=True)


def _notes(table: pd.DataFrame) -> list[str]:
    """Return what a reader must know of where the trials ran: nothing if all ran on one kind of GPU, or on none."""
    kinds: dict[str, list[str]] = {}
    notes = _sweep_note(table)
    for row in table.to_dict("records"):
        if isinstance(row.get("gpu"), str):
            kinds.setdefault(row["gpu"], []).append(row["name"])
    if len(kinds) < 2:
        return notes
    ran = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in sorted(kinds.items()))
    return [
        *notes,
        f"**Different kinds of GPU** ({ran}). They round differently, so a difference between trials on two kinds is "
        "not due to their settings alone; `--parallel 1` keeps the trials on one node.",
    ]


def _reference_elsewhere(campaign: CampaignFolder) -> list[TrialFolder]:
    """Return the finished trials of `full` on this campaign's base from other campaigns of the storage.

    Phases 2 and 3 ask how their variants compare with phase 1's `full`, which they do not run again.
    """
    record = campaign.campaign() or {}
    asked = {name for _, a, b in record.get("phase", {}).get("asks", ()) for name in (a, b)}
    own = {trial.name.rpartition("-")[0] for trial in TrialFolder.begun_in(campaign.path)}
    if "full" not in asked - own:
        return []
    base = build(JobSpec, record["base"])
    contents: dict[str, str] = {}  # data and checkpoints are read once
    try:
        fingerprints = [fingerprint(full().spec(base, seed), contents) for seed in record.get("seeds", [0])]
    except UserError:  # a checkpoint that has gone since has no fingerprint: nothing can be recognised by one
        return []
    finished = finished_trials(campaign.storage)
    found: list[TrialFolder] = []
    for wanted in fingerprints:
        found += [t for t in finished.get(wanted[:8], []) if t.fingerprint() == wanted][:1]
    return found


def _sweep_note(table: pd.DataFrame) -> list[str]:
    """Return how many configurations a sweep tried, and which its validation accuracy selects; nothing for others."""
    own = table[table["phase"] == SWEEP]
    if own.empty:
        return []
    finished, stopped = own[own["status"] == "finished"], own[own["status"] == STOPPED_EARLY]
    note = (
        f"**A sweep of {len(own)} trials**: {len(finished)} were trained to the end and met the test items once; "
        f"{len(stopped)} were stopped early on validation accuracy, never met them, and are in no comparison."
    )
    if VALIDATION in finished and not finished.empty:
        best = max(finished.to_dict("records"), key=lambda row: row[VALIDATION])
        note += f" Validation accuracy selects {best['variant']} ({best[VALIDATION]:.1%}), whatever its test accuracy."
    return [note]


def _two_position_toggles(table: pd.DataFrame) -> list[str]:
    """Write the positions of toggles into their fields' columns, and return the fields that are on or off throughout.

    A toggle that has a third value in some trial is a setting like any other. A trial whose bridge or task does not
    have the setting counts as off.
    """
    fields = []
    for toggle in all_toggles():
        if toggle.field not in table:
            continue
        positions = [OFF if _is_missing(value) else toggle.position(value) for value in table[toggle.field]]
        if set(positions) <= {ON, OFF}:
            table[toggle.field] = positions
            fields.append(toggle.field)
    return fields


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _kv_saved(row: Mapping[Hashable, Any]) -> float | None:
    """Return the share of the KV cache that a trial's soft tokens save, or None if its prompts were not measured."""
    prompt_tokens, instruction_tokens = row.get("prompt_tokens"), row.get("instruction_tokens")
    if prompt_tokens is None or pd.isna(prompt_tokens):
        return None
    instruction = 0 if instruction_tokens is None or pd.isna(instruction_tokens) else int(instruction_tokens)
    return kv_cache_saved(row["soft_tokens"], prompt_tokens, layout=row["layout"], instruction_tokens=instruction)


def curves(trials: Trials, metric: str) -> dict[str, list[Curve]]:
    """Return a metric by step of every seed of each variant that has it, for as many as one picture can hold."""
    by_variant = {}
    for name, runs in trials.variants().items():
        found = [_curve(TrialFolder(run.samples.path.parent), metric) for run in runs]
        if any(steps for steps, _ in found):
            by_variant[name] = [curve for curve in found if curve[0]]
        if len(by_variant) == MOST_PAIRED:
            break
    return by_variant


def _curve(trial: TrialFolder, metric: str) -> Curve:
    values: dict[int, float] = {}
    for event in trial.stream_events():
        if event["kind"] == "metrics" and metric in event["values"]:
            values.setdefault(event["step"], event["values"][metric])
    steps = sorted(values)[:: max(1, len(values) // MOST_POINTS)]
    return [float(step) for step in steps], [values[step] for step in steps]
