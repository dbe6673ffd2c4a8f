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
    from tune_spaces.analysis.paired_tests import discordant, mcnemar_exact, paired_interval

    rows = files.read_jsonl(trial.samples)
    lines = []
    for name, first, second, meaning in DIFFERENCES:
        if not rows or f"{first}_correct" not in rows[0] or f"{second}_correct" not in rows[0]:
            continue
        n10, n01 = discordant([r[f"{first}_correct"] for r in rows], [r[f"{second}_correct"] for r in rows])
        low, high = paired_interval(n10, n01, len(rows))
        p = mcnemar_exact(n10, n01)
        lines.append(
            f"{name} ({meaning}): {(n10 - n01) / len(rows):+.1%}, paired 95 % interval [{low:+.1%}, {high:+.1%}], "
            f"exact McNemar p = {p:.3g}"
        )
    return lines
