"""What a server may be: open to others only with a token, and refused in one line otherwise."""

import socket
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from cluster.serving.settings import ServerSettings, is_loopback, parse_autoscaling, read_token
from tests.support.ports import free_port

TOKEN = "a-token-of-some-length"


def settings(**changes: Any) -> ServerSettings:
    return ServerSettings(place="runs/x/trials/full-0", **({"port": free_port()} | changes))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.9.9"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    settings(host=host).check()
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_open_interface_needs_a_token(host: str) -> None:
    with pytest.raises(UserError, match="open to other machines: set ABLATE_SERVE_TOKEN") as raised:
        settings(host=host).check()
    assert "\n" not in str(raised.value)
    settings(host="0.0.0.0", token=TOKEN).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": "short"}, "has 5 characters: take 16 or more"),
        ({"token": "a token with blanks in it"}, "characters that a header cannot hold"),
        ({"token": "ein-ganz-schöner-schlüssel"}, "characters that a header cannot hold"),
        ({"host": "nowhere.invalid"}, "--host nowhere.invalid: "),
        ({"host": "192.0.2.77", "token": TOKEN}, "cannot listen on port .* of 192.0.2.77"),
    ],
)
def test_what_cannot_be_served_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        settings(**changes).check()
    assert "\n" not in str(raised.value)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port} of 127.0.0.1 .*: choose others"):
            settings(port=port).check()


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABLATE_SERVE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("ABLATE_SERVE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    (tmp_path / "token").write_text("another-token-of-a-file\n")
    assert read_token(tmp_path / "token") == "another-token-of-a-file"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_token(tmp_path / "token")
    with pytest.raises(UserError, match=r"--token-file: cannot read .*: check the path"):
        read_token(tmp_path / "nothing")


def test_autoscaling_is_ray_serves_own() -> None:
    assert parse_autoscaling(()) == {}
    assert parse_autoscaling(("max_replicas=4", "target_ongoing_requests=8")) == {
        "max_replicas": 4,
        "target_ongoing_requests": 8.0,
    }
    for pairs, message in (
        (("max_replicas",), "give name=value"),
        (("max_replica=4",), "Ray Serve has no such setting, but aggregation_function"),
        (("max_replicas=many",), "--autoscale max_replicas=many: "),
        (("min_replicas=4", "max_replicas=2"), "--autoscale min_replicas=4 max_replicas=2: "),
    ):
        with pytest.raises(UserError, match=message) as raised:
            parse_autoscaling(pairs)
        assert "\n" not in str(raised.value)


def test_a_model_has_the_name_of_its_folder_or_of_its_repository(tmp_path: Path) -> None:
    (tmp_path / "full-0").mkdir()
    assert ServerSettings(place=str(tmp_path / "full-0") + "/").name == "full-0"
    assert ServerSettings(place="somebody/translator").name == "somebody/translator"
    assert ServerSettings(place="x", host="::1", port=9).url == "http://[::1]:9"
