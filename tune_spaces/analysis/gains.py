"""The gain and information of one trial, in words, with paired intervals."""

from bridge_common import files
from bridge_common.trial_folder import TrialFolder

DIFFERENCES = (
    ("gain", "bridged", "target_alone", "bridged − target alone"),
    ("information", "bridged", "shuffled_soft", "bridged − shuffled soft tokens"),
)


def gain_lines(trial: TrialFolder) -> list[str]:
    """Return a line each on gain and information, from the trial's samples; none if it has not recorded them."""
    if trial.samples is None:
        return []
    from tune_spaces.analysis.pairwise import compare_pairs
    from tune_spaces.analysis.samples import load_samples
    from tune_spaces.analysis.verdicts import p_value, points

    rows = files.read_jsonl(trial.samples)
    if not rows or "bridged_correct" not in rows[0]:
        return []
    samples = load_samples(trial.samples)
    lines = []
    for name, first, second, meaning in DIFFERENCES:
        if second not in samples.conditions:
            continue
        cells = {one: samples.conditions[one].correct[None] for one in (first, second)}  # (1, n)
        (pair,) = compare_pairs(cells, [(first, second)], clusters=samples.cluster_numbers())
        grouped = "" if pair.clusters == pair.n else f", {pair.clusters} clusters"
        interval = f"[{points(pair.ci_low)}, {points(pair.ci_high)}]"
        lines.append(
            f"{name} ({meaning}): {points(pair.difference)} points, paired 95 % interval {interval}, "
            f"{pair.test} p = {p_value(pair.p)}{grouped}"
        )
    return lines
