"""A trial's folder from before its first file to its result."""

import os
from pathlib import Path

import pytest

from bridge_common import files, trial_files
from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder


def trial(tmp_path: Path, name: str = "full-1a2b3c4d") -> TrialFolder:
    return TrialFolder.of(tmp_path / "runs" / "demo", name)


def test_a_trial_that_has_not_begun_says_nothing_and_makes_nothing(tmp_path: Path) -> None:
    folder = trial(tmp_path)
    assert folder.path == tmp_path / "runs" / "demo" / "trials" / "full-1a2b3c4d"
    assert folder.name == "full-1a2b3c4d"
    assert (folder.begun, folder.finished, folder.failed, folder.status, folder.samples) == (False,) * 3 + (None,) * 2
    assert (folder.spec(), folder.result(), folder.error(), folder.fingerprint()) == (None,) * 4
    assert folder.events() == []
    assert folder.events_from(0) == ([], 0)
    assert not list(tmp_path.iterdir())


def test_status_follows_the_files_of_a_trial(tmp_path: Path) -> None:
    folder = trial(tmp_path)
    folder.begin({"variant": "full", "fingerprint": "f" * 16, "spec": {}})
    assert folder.begun
    assert folder.status is None
    folder.append_status(trial_files.RUNNING)
    folder.write_error({"attempt": "1", "error": "RuntimeError: out of memory", "traceback": "..."})
    assert folder.status == trial_files.FAILED
    assert folder.error() == {"attempt": "1", "error": "RuntimeError: out of memory", "traceback": "..."}
    folder.write_result({"metrics": {"accuracy/bridged": 0.5}})
    assert folder.status == trial_files.FINISHED, "a result counts more than the error of an earlier attempt"
    assert not folder.failed
    folder.clear_error()
    folder.clear_error()
    assert folder.error() is None
    assert folder.result() == {"metrics": {"accuracy/bridged": 0.5}}
    files.write_jsonl(folder.samples_file, [{"id": "0"}])
    assert folder.samples == folder.path / "samples.jsonl"


def test_the_fingerprint_is_the_results_or_else_the_specs(tmp_path: Path) -> None:
    folder = trial(tmp_path)
    folder.begin({"fingerprint": "a" * 16, "spec": {}})
    assert folder.fingerprint() == "a" * 16
    folder.write_result({"fingerprint": "b" * 16, "metrics": {}})
    assert folder.fingerprint() == "b" * 16
    folder.spec_file.write_text("{}")
    assert folder.fingerprint() == "b" * 16


def test_events_are_read_whole_or_from_where_the_last_reading_ended(tmp_path: Path) -> None:
    folder = trial(tmp_path)
    folder.append_status(trial_files.RUNNING)
    first, position = folder.events_from(0)
    assert [event["status"] for event in first] == [trial_files.RUNNING]
    folder.append_status(trial_files.KILLED)
    assert [event["status"] for event in folder.events_from(position)[0]] == [trial_files.KILLED]
    assert [event["status"] for event in folder.events()] == [trial_files.RUNNING, trial_files.KILLED]
    assert list(folder.stream_events(until=position)) == first


def test_trials_are_listed_by_campaign_and_by_storage(tmp_path: Path) -> None:
    late, early = trial(tmp_path, "full-1a2b3c4d"), trial(tmp_path, "B-00000000")
    for folder in (late, early):
        folder.begin({})
    trial(tmp_path, "C-11111111").append_status(trial_files.RUNNING)
    late.write_result({"metrics": {}})
    assert TrialFolder.begun_in(tmp_path / "runs" / "demo") == [early, late]
    assert TrialFolder.finished_under(tmp_path / "runs") == [late]


@pytest.mark.parametrize("left", [0, 1, 30])
def test_half_a_result_counts_as_none_and_half_a_spec_is_named(tmp_path: Path, left: int) -> None:
    folder = trial(tmp_path)
    folder.begin({"variant": "full", "fingerprint": "f" * 16, "spec": {}})
    folder.write_result({"metrics": {"accuracy/bridged": 0.5}, "seconds": 3.0})
    os.truncate(folder.result_file, left)
    assert not folder.finished
    assert folder.status is None
    assert folder.fingerprint() == "f" * 16
    os.truncate(folder.spec_file, left)
    with pytest.raises(UserError, match=rf"^{folder.spec_file} is damaged .*: resume its campaign"):
        folder.spec()


def test_files_of_another_form_are_damaged(tmp_path: Path) -> None:
    folder = trial(tmp_path)
    folder.begin({})
    for content in ("[]", "{}", '{"metrics": 5}', '{"metrics": {"a": "x"}}', '{"metrics": {}, "timings": 5}'):
        folder.result_file.write_text(content)
        assert not folder.finished, content
    for content, reason in (("5", "no JSON object"), ("{}", "no spec"), ('{"spec": []}', "no spec")):
        folder.spec_file.write_text(content)
        with pytest.raises(UserError, match=rf"spec\.json is damaged \({reason}\): resume its campaign"):
            folder.spec()
