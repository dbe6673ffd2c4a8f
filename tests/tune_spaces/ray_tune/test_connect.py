"""One way to reach Ray: an address is asked within seconds, a local Ray is started and ended."""

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from ray_bridge import tiny_run
from tune_spaces.ray_tune import connect
from tune_spaces.ray_tune.connect import cluster_address, connected, require_ray_at


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def test_the_address_is_the_argument_or_else_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_address() is None
    assert cluster_address("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address() == "10.0.0.1:6379"
    assert cluster_address("10.0.0.2:6379") == "10.0.0.2:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert cluster_address() is None


def test_a_local_ray_does_not_watch_for_the_loss_of_its_only_node_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(connect.WATCHER, raising=False)
    with connect._local_environment():
        assert os.environ[connect.WATCHER] == "0"
    assert connect.WATCHER not in os.environ
    monkeypatch.setenv(connect.WATCHER, "1")
    with connect._local_environment():
        assert os.environ[connect.WATCHER] == "1"


@pytest.mark.timeout(60)
def test_an_address_without_ray_is_refused(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for address, message in [
        (f"127.0.0.1:{closed_port}", "no Ray at"),
        ("somewhere", "no Ray address"),
        ("ray://127.0.0.1:10001", "Ray Client"),
    ]:
        with pytest.raises(UserError, match=message), connected(address=address):
            pass
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    with pytest.raises(UserError, match="no Ray at"), connected(tiny_run()):
        pass


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_server_that_is_no_ray_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "GCS_TIMEOUT_S", 6.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="is no Ray head"):
            require_ray_at(f"127.0.0.1:{server.server_port}")
        server.shutdown()


def test_more_gpus_than_this_machine_has_are_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run = tiny_run(use_gpu=True, workers=4)
    with pytest.raises(UserError, match="4 workers need 4 GPUs on one node; this machine has 1"), connected(run):
        pass
    assert not ray.is_initialized()


def test_a_local_ray_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    message = r"^no Ray starts on this machine: .*Not a directory: '.*/file/ray' \(.*\)$"
    with pytest.raises(UserError, match=message), connected(tiny_run()):
        pass


@pytest.mark.slow
def test_a_local_ray_is_started_joined_and_ended() -> None:
    import ray

    with connected(tiny_run()):
        resources, session = ray.cluster_resources(), ray.get_runtime_context().get_node_id()
        assert resources["CPU"] >= tiny_run().workers * tiny_run().cpus_per_worker
        head = ray.get_runtime_context().gcs_address
        require_ray_at(head)
        with connected():
            assert ray.get_runtime_context().get_node_id() == session, "a connected Ray is used as it is"
        assert ray.is_initialized()
    assert not ray.is_initialized()
    with pytest.raises(UserError, match=f"no Ray at {head}"):
        require_ray_at(head)
