"""Options of the command line: what they are parsed to."""

from typing import Any

import click
import pytest

from bridge_common.errors import UserError
from cluster.cli.options import (
    PhaseRequest,
    StartRequest,
    ablation_options,
    parse_seeds,
    parse_settings,
    phase_options,
    start_options,
)


@pytest.mark.parametrize("nothing", ["none", "None", "NONE", " null ", "Null"])
def test_none_stands_for_no_value_in_any_case(nothing: str) -> None:
    assert parse_settings((f"source_layer={nothing}",)) == {"source_layer": None}


def test_settings_are_names_and_texts() -> None:
    assert parse_settings((" depth = 3 ", "note=a=b", "empty=")) == {"depth": "3", "note": "a=b", "empty": ""}
    for wrong in ("depth", "=3", " =3"):
        with pytest.raises(UserError, match=f"--set {wrong}: give field=value"):
            parse_settings((wrong,))


def test_seeds_are_whole_numbers() -> None:
    assert parse_seeds("4") == (4,)
    assert parse_seeds("0, 7") == (0, 7)
    with pytest.raises(UserError, match="--seeds 0;1: give whole numbers with commas"):
        parse_seeds("0;1")


def parse(options: Any, *arguments: str) -> tuple[PhaseRequest, dict[str, Any]]:
    """Return what a command with an option of its own receives."""

    @click.command("phase")
    @click.option("--own", default="default")
    @options
    def command(request: PhaseRequest, **own: Any) -> tuple[PhaseRequest, dict[str, Any]]:
        """Show this."""
        return request, own

    assert command.help == "Show this."
    assert [option.name for option in command.params][:4] == ["own", "preset", "settings", "source"]
    result: tuple[PhaseRequest, dict[str, Any]] = command.main(list(arguments), standalone_mode=False)
    return result


def test_a_command_receives_the_request_and_its_own_options() -> None:
    request, own = parse(phase_options, "--preset", "paper", "--own", "mine")
    assert (request.preset, own) == ("paper", {"own": "mine"})
    assert (request.design, request.toggle, request.campaign) == ((), (), None)
    request, own = parse(ablation_options, "--toggle", "kl", "--toggle", "decode", "--design", "factorial")
    assert (request.toggle, request.design, own) == (("kl", "decode"), ("factorial",), {"own": "default"})


def test_options_of_a_start_reach_a_command_as_one_request() -> None:
    @click.command("resume")
    @start_options
    @click.option("--own", default="default")
    def command(start: StartRequest, own: str) -> tuple[StartRequest, str]:
        """Show this."""
        return start, own

    assert command.help == "Show this."
    assert [option.name for option in command.params] == [
        "parallel",
        "max_gpu_hours",
        "until",
        "notify",
        "verbose",
        "allow_changed_code",
        "own",
    ]
    result = command.main([], standalone_mode=False)
    assert result == (StartRequest(), "default")
    arguments = ["--parallel", "2", "--max-gpu-hours", "1.5", "--notify", "http://x", "--own", "mine"]
    start, own = command.main(arguments, standalone_mode=False)
    assert start == StartRequest(parallel="2", max_gpu_hours=1.5, until=None, notify="http://x")
    assert own == "mine"
