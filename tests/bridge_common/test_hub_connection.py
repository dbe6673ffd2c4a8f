"""What asks the hub says at once that it does not answer, where the hub's own clients try again for half a minute."""

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from huggingface_hub import constants

from bridge_common.errors import UserError
from bridge_common.hub_connection import cache_unless_hub_answers, hub_answers
from ray_bridge import Translator
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.data.hub import HubData
from ray_bridge.tasks.data.hub_rows import hub_rows


class Silent(BaseHTTPRequestHandler):
    """Answers that there is nothing."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.usefixtures("hub")
def test_a_hub_that_answers_anything_is_asked() -> None:
    assert hub_answers()
    with cache_unless_hub_answers():
        assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("no_hub")
def test_without_the_hub_its_clients_are_offline_meanwhile() -> None:
    assert not hub_answers()
    with cache_unless_hub_answers():
        assert constants.HF_HUB_OFFLINE
    with cache_unless_hub_answers(asked=False):
        assert not constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: FrozenLM.load("nobody/nothing"), "cannot load the checkpoint nobody/nothing"),
        (lambda: Translator.load("nobody/nothing"), "it does not answer, and this machine has no copy"),
        (lambda: next(hub_rows(HubData(name="nobody/nothing"), "test", None)), "cannot load nobody/nothing from the"),
    ],
    ids=["model", "translator", "data"],
)
@pytest.mark.usefixtures("no_hub")
def test_what_is_not_on_this_machine_is_refused_at_once(ask: Callable[[], object], message: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=message):
        ask()
    assert time.monotonic() - began < 15  # 23 s and 46 s where the clients try again, on a machine with nothing to do
