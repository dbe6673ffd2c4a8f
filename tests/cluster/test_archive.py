"""The archive loses nothing: not across file systems, not on a kill in the middle, not on equal names."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.archive import archive
from tests.support.command_line import call_here
from tune_spaces.records.campaign_folder import CampaignFolder

ROOT = Path(__file__).resolve().parents[2]
WHEN = datetime(2026, 11, 22, 15, 30, 12)


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def check_manifest(folder: Path) -> dict:
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        path = folder / entry["name"]
        assert path.stat().st_size == entry["bytes"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    return manifest


@pytest.fixture
def elsewhere():
    """A folder on another file system."""
    if not Path("/dev/shm").is_dir() or os.stat("/dev/shm").st_dev == os.stat(tempfile.gettempdir()).st_dev:
        pytest.skip("no second file system here")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="archive-test-"))
    yield folder
    shutil.rmtree(folder)


def test_files_and_folders_move_under_a_date_with_their_manifest(tmp_path):
    run = fill(tmp_path / "run", {"events.jsonl": "{}\n", "train/step-1/weights": "w" * 1000, "empty.log": ""})
    (run / "void").mkdir()
    log = fill(tmp_path, {"phase1.log": "started\n"}) / "phase1.log"
    log.chmod(0o640)
    os.utime(log, (1_000_000_000, 1_000_000_000))

    folder = archive([run, log], tmp_path / "archive", when=WHEN)

    assert folder == tmp_path / "archive" / "2026-11-22-153012"
    assert not run.exists()
    assert not log.exists()
    assert (folder / "run" / "void").is_dir()
    moved = folder / "phase1.log"
    assert (moved.stat().st_mode & 0o777, moved.stat().st_mtime) == (0o640, 1_000_000_000)
    manifest = check_manifest(folder)
    assert {e["name"]: e["moved_from"] for e in manifest["files"]} == {
        "run/events.jsonl": str(run / "events.jsonl"),
        "run/train/step-1/weights": str(run / "train/step-1/weights"),
        "run/empty.log": str(run / "empty.log"),
        "phase1.log": str(log),
    }
    assert manifest["bytes"] == 3 + 1000 + 8
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "phase1.log", "run"]


def test_across_file_systems_every_byte_and_time_arrives(tmp_path, elsewhere):
    run = fill(tmp_path / "run", {"a.bin": "x" * 3_000_000, "b/c.log": "c"})
    os.utime(run / "b/c.log", (1_000_000_000, 1_000_000_000))
    before = tree(run)
    folder = archive([run], elsewhere / "archive")
    assert tree(folder / "run") == before
    assert (folder / "run/b/c.log").stat().st_mtime == 1_000_000_000
    assert not run.exists()
    check_manifest(folder)


def test_equal_names_are_all_kept(tmp_path):
    one = fill(tmp_path / "one", {"train.log": "1"}) / "train.log"
    two = fill(tmp_path / "two", {"train.log": "2"}) / "train.log"
    deep = fill(tmp_path / "three" / "train.log", {"x": "3"})
    folder = archive([one, two, deep], tmp_path / "archive")
    assert tree(folder).keys() == {"manifest.json", "train.log", "train-2.log", "train-3.log/x"}
    assert (folder / "train.log").read_text() == "1"
    assert (folder / "train-2.log").read_text() == "2"
    check_manifest(folder)


def test_two_archives_in_one_second_get_two_folders(tmp_path):
    first = archive([fill(tmp_path, {"a.log": "a"}) / "a.log"], tmp_path / "archive", when=WHEN)
    second = archive([fill(tmp_path, {"a.log": "b"}) / "a.log"], tmp_path / "archive", when=WHEN)
    assert (first / "a.log").read_text() == "a"
    assert (second / "a.log").read_text() == "b"


def test_links_move_as_links_and_their_targets_stay(tmp_path):
    target = fill(tmp_path, {"model.bin": "m"}) / "model.bin"
    run = fill(tmp_path / "run", {"a.log": "a"})
    (run / "model").symlink_to(target)
    (run / "gone").symlink_to("nowhere")
    folder = archive([run], tmp_path / "archive")
    assert (folder / "run/model").readlink() == target
    assert (folder / "run/gone").is_symlink()
    assert target.read_text() == "m"
    links = {e["name"]: e["target"] for e in json.loads((folder / "manifest.json").read_text())["links"]}
    assert links == {"run/model": str(target), "run/gone": "nowhere"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: ([t / "missing.log"], t / "archive"), "missing.log"),
        (lambda t: ([], t / "archive"), "nothing to archive"),
        (lambda t: ([t / "run"], t / "run" / "archive"), "inside"),
        (lambda t: ([t / "archive"], t / "archive"), "inside"),
    ],
)
def test_wrong_requests_move_nothing(tmp_path, make, message):
    fill(tmp_path / "run", {"a.log": "a"})
    fill(tmp_path / "archive", {"old/b.log": "b"})
    before = tree(tmp_path)
    logs, into = make(tmp_path)
    with pytest.raises(UserError, match=message):
        archive([tmp_path / "run", *logs] if logs else [], into)
    assert tree(tmp_path) == before


def test_a_log_named_twice_or_inside_another_moves_once(tmp_path):
    run = fill(tmp_path / "run", {"a.log": "a"})
    folder = archive([run / "a.log", run, run], tmp_path / "archive")
    assert tree(folder).keys() == {"manifest.json", "run/a.log"}


KILLED = """
import sys
from pathlib import Path
from cluster.archive import archive
from tests.support.command_line import call_here
print("go", flush=True)
archive([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]))
"""


@pytest.mark.parametrize("other_disk", [False, True])
def test_killed_at_any_moment_a_second_call_completes_it(tmp_path, elsewhere, other_disk):
    into = (elsewhere if other_disk else tmp_path) / "archive"
    rng = random.Random(7)
    files = {f"part{i % 7}/f{i}.log": rng.randbytes(200).hex() * rng.randrange(1, 400) for i in range(300)}
    run = fill(tmp_path / "run", files)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    kills = 0
    for goal in (0, 1, 40, 41, 150, 151, 280):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(into), str(run)], stdout=subprocess.PIPE, env=environment, cwd=tmp_path
        )
        assert child.stdout is not None
        child.stdout.readline()
        while child.poll() is None and sum(1 for _ in into.rglob("f*.log")) < goal:
            time.sleep(0.0005)
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child.stdout.close()
        held = list(into.rglob("f*.log")) + list(run.rglob("f*.log"))
        assert {p.name for p in held} == {Path(name).name for name in files}, "a file is in neither place"
        if not run.exists():
            break
    assert kills >= 2
    folder = archive([run] if run.exists() else [], into) if list(into.glob("*/.plan.json")) else next(into.glob("2*"))
    assert tree(folder / "run") == files
    assert not run.exists()
    assert len(check_manifest(folder)["files"]) == len(files)
    assert [p.name for p in into.iterdir() if not p.name.startswith(".")] == [folder.name], "one folder, not one a try"


def test_a_source_that_changed_after_its_copy_is_kept_beside_it(tmp_path, elsewhere):
    """Copied, killed before the source was removed, then the run wrote on: both versions stay."""
    log = fill(tmp_path, {"a.log": "old"}) / "a.log"
    from cluster import archive as module

    folder = elsewhere / "archive" / "2026-11-22-153012"
    fill(folder, {"a.log": "old"})
    module.write_json(
        folder / module.PLAN, {"created": "x", "moves": [[str(log), "a.log"]], "folders": [], "roots": [], "left": []}
    )
    log.write_text("old and new")
    assert archive([], elsewhere / "archive") == folder
    assert (folder / "a.log").read_text() == "old"
    assert (folder / "a-2.log").read_text() == "old and new"
    assert not log.exists()
    check_manifest(folder)


GROWS = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    print("go", flush=True)
    while True:
        file.write(b"one more line\\n")
"""


def test_a_log_that_is_still_being_written_is_copied_and_compared_but_not_removed(tmp_path, elsewhere):
    """Between the copy and the look at the source the log has grown: lines would be lost with it."""
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 200_000_000)  # long enough for the writer to have its turn on a busy machine
    writer = subprocess.Popen([sys.executable, "-c", GROWS, str(log)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(UserError, match="still being written; stop its run first, then archive again"):
            archive([log], elsewhere / "archive")
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    whole = log.read_bytes()
    folder = archive([log], elsewhere / "archive")
    assert (folder / "a.log").read_bytes() == whole
    assert not log.exists()
    check_manifest(folder)


def test_what_cannot_be_moved_stays_and_is_named(tmp_path):
    run = fill(tmp_path / "run", {"a.log": "a"})
    os.mkfifo(run / "pipe")
    done = call_here("archive", str(run), "--into", str(tmp_path / "archive"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"note: left in their place, as they are no files: {run / 'pipe'} (a pipe)\n"
    assert (run / "pipe").exists()
    folder = Path(done.stdout.strip())
    assert tree(folder).keys() == {"manifest.json", "run/a.log"}
    assert json.loads((folder / "manifest.json").read_text())["left"] == [str(run / "pipe")]


def test_a_pipe_that_is_named_is_refused_before_anything_moves(tmp_path):
    log = fill(tmp_path, {"a.log": "a"}) / "a.log"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: it is a pipe; name files or folders"):
        archive([log, tmp_path / "pipe"], tmp_path / "archive")
    assert log.read_text() == "a"
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("name", [".", "..", "../work"])
def test_the_folder_in_which_one_works_is_not_moved_away(tmp_path, name):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log").write_text("x")
    done = call_here("archive", name, "--into", str(tmp_path.with_name("archive")), folder=tmp_path / "work")
    assert done.returncode == 2
    assert "it is the folder in which you work, or holds it" in done.stderr
    assert (tmp_path / "work" / "log").exists()


@pytest.mark.parametrize("name", ["runs", "runs/demo"])
def test_a_campaign_that_runs_is_not_moved_away(tmp_path, name):
    folder = CampaignFolder(tmp_path / "runs" / "demo")
    with folder.locked():
        (folder.path / "campaign.json").write_text("{}")
        with pytest.raises(UserError, match="campaign demo in it runs"):
            archive([tmp_path / name], tmp_path / "archive")
    assert archive([tmp_path / name], tmp_path / "archive")
