"""The lines on gain and information that a campaign prints at its end."""

from pathlib import Path

from bridge_common.files import read_jsonl, write_jsonl
from bridge_common.trial_folder import TrialFolder
from tests.support.made_samples import bits, write_samples
from tune_spaces.analysis.gains import gain_lines
from tune_spaces.analysis.paired_tests import mcnemar_exact, paired_interval
from tune_spaces.analysis.verdicts import points


def test_gain_is_over_the_target_alone_and_information_over_shuffled_tokens(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path)
    assert gain_lines(trial) == []
    verdicts = {"bridged": bits("1111110000"), "target_alone": bits("1100000001"), "shuffled_soft": bits("1111000000")}
    write_samples(trial.samples_file, verdicts)
    low, high = paired_interval(4, 1, 10)
    gain = f"gain (bridged − target alone): +30.0 points, paired 95 % interval [{points(low)}, {points(high)}]"
    low, high = paired_interval(2, 0, 10)
    interval = f"[{points(low)}, {points(high)}]"
    information = f"information (bridged − shuffled soft tokens): +20.0 points, paired 95 % interval {interval}"
    assert gain_lines(trial) == [
        f"{gain}, exact McNemar p = {mcnemar_exact(4, 1):.3g}",
        f"{information}, exact McNemar p = {mcnemar_exact(2, 0):.3g}",
    ]


def test_a_condition_that_was_not_evaluated_has_no_line(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path)
    write_samples(trial.samples_file, {"bridged": bits("10"), "shuffled_soft": bits("01")})
    (line,) = gain_lines(trial)
    assert line.startswith("information")
    trial.samples_file.write_text('{"id": "q0", "target_alone_correct": true}\n')
    assert gain_lines(trial) == []
    trial.samples_file.write_text("")
    assert gain_lines(trial) == []


def test_items_of_one_cluster_count_once(tmp_path: Path) -> None:
    trial = TrialFolder(tmp_path)
    write_samples(trial.samples_file, {"bridged": bits("1111110000"), "target_alone": bits("1100000001")})
    (alone,) = gain_lines(trial)
    rows = read_jsonl(trial.samples_file)
    write_jsonl(trial.samples_file, [row | {"cluster": f"word {i // 5}"} for i, row in enumerate(rows)])
    (clustered,) = gain_lines(trial)
    assert "Student's t" in clustered
    assert clustered.endswith(", 2 clusters")
    assert "exact McNemar" in alone
