"""Reports can be generated again at any time, in files that people edit too."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge_common import files
from bridge_common.errors import UserError
from mlflow_utils.reports import editable_sections, markdown
from tests.support.campaign_folder import make_campaign, make_trial

NAMES = (markdown.REPORT, markdown.LOG, markdown.SUMMARY)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return make_campaign(tmp_path / "runs", variants=["full", "B"])


def test_every_run_has_its_metrics_and_the_paths_of_its_files(campaign: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper"
    assert markdown.update(campaign, out) == [out / name for name in NAMES]
    full, log, summary = ((out / name).read_text() for name in NAMES)
    for folder in (campaign / "trials").iterdir():
        metrics = files.read_json(folder / "metrics.json")
        for condition in ("bridged", "target_alone", "shuffled_soft"):
            low, high = (100 * metrics[f"accuracy_{end}/{condition}"] for end in ("low", "high"))
            name, accuracy = condition.replace("_", " "), 100 * metrics[f"accuracy/{condition}"]
            assert f"| {name} | {accuracy:.1f} % | [{low:.1f}, {high:.1f}] |" in full
        relative = f"../runs/demo/trials/{folder.name}/samples.jsonl"
        for text in (full, log, summary):
            assert text.count(f"`{relative}`") == 1
        assert (out / relative).resolve() == (folder / "samples.jsonl").resolve()
    assert "`decode_aware` off" in full


def test_gain_and_information_stand_under_their_own_names(campaign: Path, tmp_path: Path) -> None:
    """The gain is over the target alone, the information over shuffled soft tokens."""
    markdown.update(campaign, tmp_path)
    full, log, summary = ((tmp_path / name).read_text() for name in NAMES)
    head = next(line for line in summary.splitlines() if line.startswith("| phase |"))
    assert head.endswith("| target alone | gain | information | samples |")
    for folder in (campaign / "trials").iterdir():
        metrics = files.read_json(folder / "metrics.json")
        gain, information = (f"{100 * metrics[name]:+.1f}" for name in ("gain", "information"))
        assert gain != information
        said = (
            f"gain (bridged − target alone) {gain} points; information (bridged − shuffled soft) {information} points."
        )
        assert said in full
        assert f"gain {gain} points" in next(line for line in log.splitlines() if folder.name in line and "·" in line)
        row = next(line for line in summary.splitlines() if folder.name in line)
        assert f"| {gain} | {information} | `" in row


def test_a_second_update_changes_nothing(campaign: Path, tmp_path: Path) -> None:
    markdown.update(campaign, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    assert markdown.update(campaign, tmp_path) == []
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before


def test_reports_updated_run_by_run_equal_reports_generated_at_once(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "runs", variants=["full"])
    markdown.update(campaign, tmp_path / "grown")
    make_trial(campaign, "B", steps=60)
    markdown.update(campaign, tmp_path / "grown")
    markdown.update(campaign, tmp_path / "fresh")
    for name in NAMES:
        assert (tmp_path / "grown" / name).read_text() == (tmp_path / "fresh" / name).read_text()


def test_text_that_people_write_is_kept_in_its_place(campaign: Path, tmp_path: Path) -> None:
    markdown.update(campaign, tmp_path)
    for name in NAMES:
        path = tmp_path / name
        text = path.read_text().replace("<!-- begin run", "My note.\n<!-- begin run", 1)
        path.write_text("Before.\n" + text + "\n## After\n\nno newline at the end")
    notes = {name: (tmp_path / name).read_text() for name in NAMES}
    assert markdown.update(campaign, tmp_path) == []
    make_trial(campaign, "C")
    markdown.update(campaign, tmp_path)
    for name in NAMES:
        text = (tmp_path / name).read_text()
        assert text.startswith("Before.\n")
        assert "My note.\n<!-- begin run" in text
        assert "\n## After\n\nno newline at the end" in text
        if name != markdown.SUMMARY:
            assert text.startswith(notes[name])


def test_a_section_edited_by_hand_is_never_overwritten(campaign: Path, tmp_path: Path) -> None:
    markdown.update(campaign, tmp_path)
    path = tmp_path / markdown.SUMMARY
    path.write_text(path.read_text().replace("## demo\n", "## demo, with the odd seed\n\nSee the lab book.\n"))
    edited = path.read_text()
    assert markdown.update(campaign, tmp_path) == [], "nothing new: the edited section is the section"
    assert path.read_text() == edited

    make_trial(campaign, "C")
    markdown.update(campaign, tmp_path)
    text = path.read_text()
    assert "## demo, with the odd seed\n\nSee the lab book.\n" in text
    assert text.count("<!-- begin run demo ") == 1
    new = text[text.index("<!-- begin run demo ") :]
    assert "| C |" in new
    assert "lab book" not in new
    assert markdown.update(campaign, tmp_path) == []


def test_windows_line_ends_and_a_missing_end_comment_are_kept(campaign: Path, tmp_path: Path) -> None:
    markdown.update(campaign, tmp_path)
    path = tmp_path / markdown.LOG
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert markdown.update(campaign, tmp_path) == []
    make_trial(campaign, "C")
    markdown.update(campaign, tmp_path)
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")

    first_end = next(line for line in path.read_bytes().splitlines(keepends=True) if line.startswith(b"<!-- end"))
    path.write_bytes(b"mine" + path.read_bytes().replace(first_end, b"", 1))
    before = path.read_bytes()
    markdown.update(campaign, tmp_path)
    after = path.read_bytes()
    assert after.startswith(before)
    assert markdown.update(campaign, tmp_path) == []


@given(
    text=st.lists(
        st.sampled_from(["note", "", "<!-- begin run a 0123456789ab -->", "<!-- end run a -->", "<!-- end run b -->"])
    ).map("\n".join),
    bodies=st.dictionaries(st.sampled_from(["a", "b", "c/d-1"]), st.sampled_from(["x", "x\n\ny", "", "é | z"])),
)
def test_merging_keeps_every_line_and_is_idempotent(text: str, bodies: dict[str, str]) -> None:
    once = editable_sections.merge(text, bodies)
    assert editable_sections.merge(once, bodies) == once
    assert once.count("note") == text.count("note")
    for key in bodies:
        assert f"<!-- end run {key} -->" in once


WRITER = """
import sys
from pathlib import Path
from mlflow_utils.reports import markdown
while not (Path(sys.argv[2]) / "go").exists():
    pass
markdown.update(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_several_writers_at_once_all_appear(tmp_path: Path) -> None:
    out = tmp_path / "paper"
    campaigns = [make_campaign(tmp_path / "runs", name, variants=["full", "B"]) for name in ("one", "two", "three")]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(c), str(out)], cwd=ROOT) for c in campaigns]
    time.sleep(2)
    files.write_text(out / "go", "")
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for name in (markdown.REPORT, markdown.LOG):
        text = (out / name).read_text()
        for campaign in campaigns:
            assert text.count(f"<!-- begin run {campaign.name}/") == 2
    summary = (out / markdown.SUMMARY).read_text()
    assert all(summary.count(f"<!-- begin run {campaign.name} ") == 1 for campaign in campaigns)


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow_utils.reports import markdown
real = os.replace
def dies(*paths):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = dies
markdown.update(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_writer_killed_while_writing_leaves_the_old_file_intact(campaign: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper"
    markdown.update(campaign, out)
    before = {name: (out / name).read_bytes() for name in NAMES}
    make_trial(campaign, "C")
    done = subprocess.run([sys.executable, "-c", KILLED, str(campaign), str(out)], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert {name: (out / name).read_bytes() for name in NAMES} == before
    markdown.update(campaign, out)
    assert "| C |" in (out / markdown.SUMMARY).read_text()


def test_failed_trials_and_the_gate_are_reported(campaign: Path, tmp_path: Path) -> None:
    failed = make_trial(campaign, "C", status="FAILED")
    files.write_json(failed / "error.json", {"attempt": "1", "error": "RuntimeError: out of memory"})
    decision = {"branch": "some", "accuracy": 0.68, "low": 0.6, "high": 0.75, "n": 200, "uncertain": True}
    files.write_json(campaign / "gate.json", {"decisions": [decision], "settings": {"passes": 0.7, "attribute": 0.65}})
    markdown.update(campaign, tmp_path)
    assert "It failed: `RuntimeError: out of memory`" in (tmp_path / markdown.REPORT).read_text()
    summary = (tmp_path / markdown.SUMMARY).read_text()
    assert "at 68.0 % [60.0, 75.0] on 200 items (interval over items, seeds left out); *uncertain*" in summary
    assert "(boundaries 70.0 % and 65.0 %)" in summary


def test_a_report_that_is_not_text_and_a_missing_campaign_are_errors(campaign: Path, tmp_path: Path) -> None:
    (tmp_path / markdown.LOG).write_bytes(b"\xff\xfe not text")
    with pytest.raises(UserError, match="UTF-8"):
        markdown.update(campaign, tmp_path)
    with pytest.raises(UserError, match="no campaign"):
        markdown.update(tmp_path / "absent", tmp_path)
