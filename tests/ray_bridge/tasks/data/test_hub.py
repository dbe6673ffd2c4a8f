"""Names on the hub: the commit that they stand for, from a server that answers as the hub's does, or from the cache."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from huggingface_hub import constants

from bridge_common.errors import UserError
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.presets import paper, tiny
from ray_bridge.tasks.data.check import pin_data
from ray_bridge.tasks.data.hub import HubUnreachableError, hub_commit

FIRST, SECOND = "a" * 40, "b" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers as https://huggingface.co/api/datasets/OWNER/NAME/revision/REVISION does."""

    commits: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        commit = self.commits.get(self.path.removeprefix("/api/datasets/").partition("?")[0].replace("/revision/", "@"))
        body = json.dumps({"id": "x/y", "sha": commit} if commit else {"error": "Repository not found"}).encode()
        self.send_response(200 if commit else 401 if "gated" in self.path else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    Hub.commits = {"openai/gsm8k@main": FIRST, "openai/gsm8k@old": SECOND}
    yield Hub.commits
    server.shutdown()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a connection; returns the folder of its cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_hub_says_which_commit_a_branch_is(hub: dict[str, str]) -> None:
    assert hub_commit("openai/gsm8k", None) == FIRST
    assert hub_commit("openai/gsm8k", "old") == SECOND
    hub["openai/gsm8k@main"] = SECOND
    assert hub_commit("openai/gsm8k", None) == SECOND


@pytest.mark.usefixtures("no_hub")
def test_a_commit_is_itself_without_asking() -> None:
    assert hub_commit("openai/gsm8k", FIRST) == FIRST


def test_without_a_connection_the_cache_says_it(no_hub: Path) -> None:
    with pytest.raises(HubUnreachableError, match=r"no copy of openai/gsm8k: give its files with --data DIR, or"):
        hub_commit("openai/gsm8k", None)
    refs = no_hub / "datasets--openai--gsm8k" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(SECOND)
    assert hub_commit("openai/gsm8k", None) == SECOND


def test_without_a_reference_the_only_snapshot_is_meant(no_hub: Path) -> None:
    snapshots = no_hub / "datasets--openai--gsm8k" / "snapshots"
    (snapshots / FIRST).mkdir(parents=True)
    assert hub_commit("openai/gsm8k", None) == FIRST
    with pytest.raises(HubUnreachableError):
        hub_commit("openai/gsm8k", "old")
    (snapshots / SECOND).mkdir()
    with pytest.raises(HubUnreachableError, match="several copies of openai/gsm8k: give its files"):
        hub_commit("openai/gsm8k", None)


@pytest.mark.parametrize("name", ["no/such", "gated/set"])
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_give_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match=f"the hub has no data set {name}") as caught:
        hub_commit(name, None)
    assert not isinstance(caught.value, HubUnreachableError)


def test_the_commit_is_part_of_the_fingerprint(hub: dict[str, str]) -> None:
    before = pin_data(paper())
    assert before.task_revision == FIRST
    hub["openai/gsm8k@main"] = SECOND
    after = pin_data(paper())
    assert len({fingerprint(spec) for spec in (paper(), before, after)}) == 3
    assert fingerprint(pin_data(before)) == fingerprint(before)


def test_data_that_are_not_on_the_hub_stay_as_they_are(tmp_path: Path) -> None:
    assert pin_data(tiny()) == tiny()
    spec = tiny(task="gsm8k", task_data=str(tmp_path))
    assert pin_data(spec) == spec
