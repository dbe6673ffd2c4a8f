"""Whatever is asked wrongly is one line that names the remedy, with exit code 2, before Ray and within seconds."""

import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_bridge.config.checkpoint_names import EMBEDDED
from tests.cluster.cli.wrong_files import CHECKPOINTS, DAMAGED, SPECIAL
from tests.cluster.cli.wrong_requests import NAMES, NUMBERS, PATHS
from tests.cluster.cli.wrong_storages import DAMAGE, TRACKING
from tests.support.card_campaigns import make_ended
from tests.support.command_line import call_here, is_one_error_line
from tests.support.plugin_modules import importable

LIMIT_S = 5.0  # of CPU time, which does not depend on other processes
pytestmark = pytest.mark.timeout(60)  # a case takes a second; what hangs, or starts Ray, takes longer
PHASES = ("plan", "phase1", "phase2", "phase3", "ablate", "sweep", "space", "preflight")
CASES = [*PATHS, *SPECIAL, *DAMAGED, *NAMES, *NUMBERS, *TRACKING]


def title(arguments: Iterable[str]) -> str:
    return " ".join(arguments)[:60].encode("ascii", "backslashreplace").decode()


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a case in which Ray is connected, one of its processes is started, or a session's folder is made."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:  # short: Ray's sockets lie there
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield
        assert list(Path(folder).iterdir()) == [], "a session of Ray"
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    children = [child.name() for child in psutil.Process().children(recursive=True)]
    assert not {"raylet", "gcs_server"} & set(children), children


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the words in braces of the table stand for."""
    base = tmp_path_factory.mktemp("places")
    make_ended(base / "storage", "demo", items=20, seeds=(0,), sizes=(8,))
    (base / "storage" / "afile").write_text("x")
    with sqlite3.connect(base / "storage" / "mlflow.db") as database:
        database.execute("create table x (y)")
    (base / "empty").mkdir()
    (base / "loop").symlink_to(base / "loop")
    contents = {
        "file": "",
        "text": "no json\n",
        "empty.toml": "",
        "broken.toml": "= [",
        "deep.toml": f"a = {'[' * 100_000}",
        "outputs": '{"id": "1", "gold": "3", "output": "#### 3"}\n',
    }
    for name, content in contents.items():
        (base / name).write_text(content)
    for end in ("", ".toml"):
        os.mkfifo(base / f"pipe{end}")
        _make_socket(base / f"socket{end}")
        (base / f"device{end}").symlink_to("/dev/zero")
    with (base / "zeros").open("wb") as file:
        file.truncate(1 << 40)  # takes no room
    for name, (file, content) in CHECKPOINTS.items():
        shutil.copytree(EMBEDDED["source"], base / name)
        (base / name / file).write_bytes(content or (base / name / file).read_bytes()[:5000])
    trial = next((base / "storage" / "demo" / "trials").iterdir())
    shutil.copy(trial / "samples.jsonl", base / "samples")
    names = "storage file text empty loop broken deep outputs samples missing pipe socket device zeros"
    paths = {name: str(base / name) for name in (*names.split(), *CHECKPOINTS)}
    return paths | {"tmp": str(base), "trial": str(trial), "closed": "/sys/kernel"}  # where root may not write either


def _make_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # an address of a socket has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


def filled(arguments: list[str], places: dict[str, str]) -> list[str]:
    return [re.sub(r"\{(\w+)\}", lambda word: places[word[1]], argument) for argument in arguments]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[title(arguments) for arguments, _ in CASES])
def test_a_wrong_request_is_one_line(
    arguments: list[str], message: str, places: dict[str, str], tmp_path: Path
) -> None:
    asked = filled(arguments, places)
    if "--storage" not in asked and asked[0] in PHASES:
        asked += ["--storage", str(tmp_path / "storage")]
    there = set(Path(places["tmp"]).iterdir())
    began = time.process_time()
    done = call_here(*asked, HF_HUB_OFFLINE="1")
    assert is_one_error_line(done), done.stderr + done.stdout
    assert message in done.stderr
    assert "SECRET" not in done.stderr + done.stdout
    assert time.process_time() - began < LIMIT_S
    assert set(Path(places["tmp"]).iterdir()) == there, "nothing is written"


@pytest.mark.parametrize(
    ("file", "content", "arguments", "message"), DAMAGE, ids=[f"{c[0]} {c[2][0]} {title(c[1][:2])}" for c in DAMAGE]
)
def test_a_damaged_file_is_named(
    file: str, content: str, arguments: list[str], message: str, places: dict[str, str], tmp_path: Path
) -> None:
    storage = shutil.copytree(places["storage"], tmp_path / "storage")
    (storage / "demo" / file.format(trial=f"trials/{Path(places['trial']).name}")).write_text(
        content, errors="surrogateescape"
    )
    done = call_here(*filled(arguments, {"storage": str(storage)}))
    assert is_one_error_line(done), done.stderr + done.stdout
    assert message in done.stderr


@pytest.mark.parametrize("command", ["status", "results", "report", "resume"])
@pytest.mark.parametrize(
    ("file", "made", "said"),
    [
        *((file, Path.mkdir, "a folder") for file in ("campaign.json", "plan.json")),
        *((file, os.mkfifo, "a pipe") for file in ("campaign.json", "plan.json")),
        ("plan.json", lambda path: None, "missing"),  # without campaign.json there is no campaign
    ],
)
def test_a_record_that_is_gone_or_no_file_is_named(
    file: str, command: str, made: Any, said: str, places: dict[str, str], tmp_path: Path
) -> None:
    storage = shutil.copytree(places["storage"], tmp_path / "storage")
    path = storage / "demo" / file
    path.unlink()
    made(path)
    done = call_here(command, "--storage", str(storage))
    assert is_one_error_line(done), done.stderr + done.stdout
    assert f"{path} is {said}: restore it from a copy" in done.stderr


def test_a_campaign_whose_plan_is_gone_is_not_planned_anew(places: dict[str, str], tmp_path: Path) -> None:
    storage = shutil.copytree(places["storage"], tmp_path / "storage")
    (storage / "demo" / "plan.json").unlink()
    done = call_here("plan", "phase1", "--name", "demo", "--storage", str(storage))
    assert is_one_error_line(done), done.stderr + done.stdout
    assert "plan.json is missing: restore it from a copy" in done.stderr
    assert not (storage / "demo" / "plan.json").exists()


@pytest.mark.parametrize(
    ("file", "keys", "value", "command"),
    [
        ("plan.json", ("trials", 0, "name"), None, "status"),
        ("plan.json", ("trials", 0, "name"), "../../../outside", "status"),
        ("plan.json", ("trials", 0, "fingerprint"), "/../../outside", "status"),
        ("plan.json", ("branches",), {}, "resume"),
        ("plan.json", ("first",), ["nobody"], "resume"),
        ("campaign.json", ("phase", "asks"), [["two", "of three"]], "resume"),
        ("{trial}/result.json", ("metrics",), {}, "status"),
        ("{trial}/spec.json", ("code",), 5, "results"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named_with_its_file(
    file: str, keys: tuple[str | int, ...], value: object, command: str, places: dict[str, str], tmp_path: Path
) -> None:
    storage = shutil.copytree(places["storage"], tmp_path / "storage")
    path = storage / "demo" / file.format(trial=f"trials/{Path(places['trial']).name}")
    record = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(record))
    done = call_here(command, "--storage", str(storage), "--name", "demo")
    assert is_one_error_line(done), done.stderr + done.stdout
    assert path.name in done.stderr


@pytest.mark.parametrize(
    "content", ["raise SystemExit(7)", "raise RuntimeError('two\\nlines')", "x = (", "import absent"]
)
@pytest.mark.parametrize("request_of", [("phase1", "--job"), ("ablate", "--campaign")])
def test_a_module_that_fails_is_one_line(tmp_path: Path, request_of: tuple[str, str], content: str) -> None:
    command, option = request_of
    (tmp_path / "broken_module.py").write_text(content)
    with importable(tmp_path):
        done = call_here(command, option, "broken_module:function", "--storage", str(tmp_path / "storage"))
    assert is_one_error_line(done), done.stderr
    assert f"{option} broken_module:function: " in done.stderr


def test_pages_that_are_open_to_other_machines_come_with_a_warning(places: dict[str, str]) -> None:
    with socket.create_server(("", 0)) as taken:
        ui = ("ui", "--storage", places["storage"], "--port", str(taken.getsockname()[1]), "--host")
        there, here = call_here(*ui, "0.0.0.0"), call_here(*ui, "127.0.0.1")
    assert "cannot listen on port" in there.stderr
    assert "cannot listen on port" in here.stderr
    assert "everyone who reaches this machine can read and change all records" in there.stdout
    assert here.stdout == ""


def test_a_temporary_folder_too_long_for_rays_sockets_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR")
    done = call_here("phase1", "--storage", str(tmp_path), TMPDIR=f"/tmp/{'x' * 83}")
    assert is_one_error_line(done), done.stderr
    assert "TMPDIR has 88 bytes" in done.stderr
    assert "RAY_TMPDIR=/tmp" in done.stderr
