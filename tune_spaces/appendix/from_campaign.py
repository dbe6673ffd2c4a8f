"""The appendix of a campaign, from its folder alone: every trial that finished, with its whole spec."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bridge_common import trial_files
from bridge_common.errors import UserError
from bridge_common.files import read_json
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, import_plugins
from tune_spaces.analysis.analyse import MOST_PAIRED, analyse
from tune_spaces.analysis.kv_cache_savings import kv_cache_saved
from tune_spaces.analysis.scored_trials import Trials, read_trials
from tune_spaces.appendix.write import write_appendix
from tune_spaces.design import toggles

CURVE = "loss/total"
MOST_POINTS = 1_000  # of a curve; more cannot be seen


def trial_table(campaign: Path, phases: Collection[str] | None = None) -> pd.DataFrame:
    """One row a trial of the folder, by phase, variant and seed: every field of its spec, and the path of its samples.

    `samples` is None until the trial has finished. `kv_saved` is there where the job recorded `prompt_tokens`, the mean
    length of the text prompt.

    Args:
        campaign: STORAGE/CAMPAIGN.
        phases: phases to read; all by default.

    Raises:
        UserError: if the folder has no trial of these phases.
    """
    rows = []
    for trial in TrialFolder.begun_in(campaign):
        about, result = trial.spec() or {}, trial.result()
        if phases is not None and about["phase"] not in phases:
            continue
        import_plugins(about["spec"])
        rows.append(
            {
                **about["spec"],
                "variant": about["variant"],
                "phase": about["phase"],
                "seed": about["seed"],
                "folder": str(trial.path),
                "samples": str(trial.samples) if result is not None and trial.samples else None,
                "kv_saved": _kv_saved(about["spec"], {} if result is None else result["metrics"]),
            }
        )
    if not rows:
        which = "" if phases is None else f" of {', '.join(phases)}"
        raise UserError(f"{campaign} has no trial{which} yet: run a phase first")
    return pd.DataFrame(rows).sort_values(["phase", "variant", "seed"], ignore_index=True)


def _kv_saved(spec: dict[str, Any], metrics: dict[str, float]) -> float | None:
    if "prompt_tokens" not in metrics or "soft_tokens" not in spec:
        return None
    instruction = int(metrics.get("instruction_tokens", 0))
    layout = spec.get("layout", "soft_plus_text")
    return kv_cache_saved(spec["soft_tokens"], metrics["prompt_tokens"], layout=layout, instruction_tokens=instruction)


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
        Paths of the files by their names, as `write_appendix`.

    Raises:
        UserError: if no trial has finished.
    """
    table = trial_table(campaign, phases)
    fields = []
    for toggle in toggles.all_toggles():
        positions = [_position(toggle, value) for value in table.get(toggle.field, ["no trial has this setting"])]
        if set(positions) <= {toggles.ON, toggles.OFF}:  # with a third value it is a setting like any other
            table[toggle.field] = positions
            fields.append(toggle.field)
    context = [
        name
        for name in map(str, table)
        if (name in JobSpec.model_fields or name.startswith("extra.")) and name not in (*fields, "seed")
    ]
    trials = read_trials(table, fields, reference=reference, context=context)
    gate = Path(campaign) / trial_files.GATE
    return write_appendix(
        Path(campaign) / "appendix" if out is None else out,
        analyse(trials, fields, pairs=pairs),
        title=f"Attribution appendix of {Path(campaign).resolve().name}",
        curves=_curves(trials),
        curve_name=CURVE,
        gate=read_json(gate) if gate.is_file() else None,
    )


def _position(toggle: toggles.Toggle, value: Any) -> str:
    """Return a toggle's position; a trial whose bridge or task does not have the setting counts as off."""
    absent = isinstance(value, float) and math.isnan(value)
    return toggles.OFF if absent else toggle.position(value)


def _curves(trials: Trials) -> dict[str, tuple[list[float], list[float]]]:
    """Loss by step of the first run of each variant, as many variants as one picture can hold."""
    curves = {}
    for name, group in list(trials.variants().items())[:MOST_PAIRED]:
        values: dict[int, float] = {}
        for event in TrialFolder(group[0].samples.path.parent).events():
            if event["kind"] == "metrics" and CURVE in event["values"]:
                values.setdefault(event["step"], event["values"][CURVE])
        steps = sorted(values)[:: max(1, len(values) // MOST_POINTS)]
        if steps:
            curves[name] = ([float(step) for step in steps], [values[step] for step in steps])
    return curves
