"""Notices of a campaign by HTTP: each thing once, and a failure to deliver hurts nothing."""

import http.client
import http.server
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from cluster.cli.request import parse_phase
from cluster.monitoring.notify import Notices, check_url, notified, shown_place
from cluster.variables import NOTIFY, unsent_note
from ray_bridge import tiny, tiny_run
from tests.support.no_http import speaks_no_http
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    base = tiny()
    campaign = Campaign(phases.phase1(base), base, tiny_run(), storage=tmp_path, name="c")
    campaign.freeze()
    return campaign


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    received: list[dict[str, Any]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signed = self.headers["Authorization"]
            received.append(notice if signed is None else {**notice, "authorization": signed})
            refused = self.path == "/no-decisions" and notice["event"] == "decision"
            self.send_response(422 if refused else 204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/hook", received
    httpd.shutdown()
    httpd.server_close()


def finish(campaign: Campaign, variant: str, accuracy: float) -> None:
    name = next(name for name, trial in campaign.plan.trials.items() if trial.variant == variant)
    folder = campaign.records.begin(campaign.plan.trials[name], campaign.run_spec)
    folder.write_result({"metrics": {"accuracy/bridged": accuracy, "n": 1000, "correct/bridged": accuracy * 1000}})


def fail(campaign: Campaign, variant: str, attempt: str) -> None:
    name = next(name for name, trial in campaign.plan.trials.items() if trial.variant == variant)
    folder = campaign.records.begin(campaign.plan.trials[name], campaign.run_spec)
    folder.write_error({"attempt": attempt, "error": "RuntimeError: no", "traceback": "..."})


def test_a_decision_a_failure_and_the_end(campaign: Campaign, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = server
    fail(campaign, "B", "an earlier start")
    with notified(campaign, url):
        finish(campaign, "full", 0.67)
        fail(campaign, "C", "this start")
    events = {notice["event"]: notice for notice in received}
    assert [notice["event"] for notice in received] == ["decision", "failure", "end"]
    assert all(notice["campaign"] == "c" and notice["phase"] == "phase1" for notice in received)
    assert events["decision"]["branch"] == "attribute"
    assert events["decision"]["accuracy"] == 0.67
    assert events["failure"] | {"variant": "C", "error": "RuntimeError: no"} == events["failure"]
    assert events["end"]["trials"] == {"finished": 1, "failed": 2, "left": 0}
    assert events["end"]["finished"] is False


def test_an_error_of_the_campaign_is_an_end_too(campaign: Campaign, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = server
    with pytest.raises(KeyboardInterrupt), notified(campaign, url):
        raise KeyboardInterrupt
    assert [notice["event"] for notice in received] == ["end"]


def test_who_does_not_listen_hurts_nothing(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    with notified(campaign, "http://127.0.0.1:1/hook"):
        finish(campaign, "full", 0.72)
    assert capsys.readouterr().out.count("warning: --notify http://127.0.0.1:1/***: ") == 1
    with speaks_no_http() as address, notified(campaign, address):
        pass
    assert (
        f"warning: --notify {address}: what answers there does not speak HTTP; the run goes on"
        in capsys.readouterr().out
    )


def test_a_user_and_password_in_the_address_are_sent_and_not_printed(
    campaign: Campaign, server: tuple[str, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, received = server
    with notified(campaign, url.replace("://", "://me:p%40ss@")):
        pass
    assert received[0]["authorization"] == f"Basic {b64encode(b'me:p@ss').decode()}"
    with notified(campaign, "http://secret:secret@127.0.0.1:1/secret?token=secret"):
        pass
    printed = capsys.readouterr().out
    assert "warning: --notify http://127.0.0.1:1/***: " in printed
    assert "secret" not in printed


@pytest.mark.parametrize("status", [403, 302])
def test_no_redirect_is_followed_and_no_words_of_a_server_are_printed(
    campaign: Campaign, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    asked: list[str] = []

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(status, f"no access for {self.path}")
            self.send_header("Location", f"ftp://127.0.0.1{self.path}" if asked[1:] else f"/other{self.path}")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        with notified(campaign, f"http://127.0.0.1:{httpd.server_port}/secret?token=secret"):
            pass
        httpd.shutdown()
    printed = capsys.readouterr().out
    assert f"/***: HTTP Error {status}: {http.client.responses[status]}; the run goes on" in printed
    assert "secret" not in printed
    assert asked == ["/secret?token=secret"]


def test_messages_show_no_part_of_an_address_that_may_be_a_secret() -> None:
    shown = {
        "http://host:80/": "http://host:80",
        "https://host/a/b?c": "https://host/***",
        "http://me:pass@host": "http://host",
        "http://me:pa/ss@host": "http://***",
        "host.org/secret": "host.org/***",
    }
    assert {url: shown_place(url) for url in shown} == shown


def test_the_address_is_that_of_the_environment_and_may_be_a_secret_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOTIFY, "https://me:secret@host/x?token=secret")
    assert parse_phase("phase1", ["--storage", str(tmp_path)]).notify == "https://me:secret@host/x?token=secret"
    assert parse_phase("phase1", ["--notify", "http://host/hook"]).notify == "http://host/hook"
    assert str(unsent_note([])).startswith(f"note: ${NOTIFY} stays here")
    assert unsent_note([NOTIFY]) is unsent_note([f"{NOTIFY}=http://other"]) is None


def test_a_notice_that_was_refused_is_sent_again_before_the_next(
    campaign: Campaign, server: tuple[str, list[dict[str, Any]]]
) -> None:
    url, received = server
    notices = Notices(campaign, "http://127.0.0.1:1/hook")
    finish(campaign, "full", 0.67)
    notices.send_new()
    fail(campaign, "C", "this start")
    notices.url = url
    notices.send_new()
    assert received == [], "a while passes between two tries"
    notices.end()
    assert [notice["event"] for notice in received] == ["decision", "failure", "end"]


def test_a_notice_that_the_server_never_takes_holds_back_no_other(
    campaign: Campaign, server: tuple[str, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, received = server
    with notified(campaign, url.replace("/hook", "/no-decisions")):
        finish(campaign, "full", 0.67)
        fail(campaign, "C", "this start")
    assert [notice["event"] for notice in received] == ["decision", "failure", "end"]
    assert "HTTP Error 422: Unprocessable Entity: decision is not sent again" in capsys.readouterr().out


def test_what_is_no_address_is_refused() -> None:
    check_url("https://example.org/a?b=c")
    for url in ("example.org", "ftp://example.org", "http://"):
        with pytest.raises(UserError, match="--notify"):
            check_url(url)
