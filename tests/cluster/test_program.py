"""Messages name commands as the user calls them."""

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.program import as_called, command, program
from tests.support.command_line import ROOT

ABLATE = Path(sys.executable).with_name("ablate")


def test_the_module_is_named_unless_the_installed_script_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/cluster/__main__.py", "status"])
    assert as_called("try `python -m cluster status`") == "try `python -m cluster status`"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ablate", "status"])
    assert program() == "ablate"
    assert as_called("try `python -m cluster status`") == "try `ablate status`"


def test_a_command_can_be_pasted_whatever_its_path_holds() -> None:
    for path in (Path("/runs/plain"), Path("/a b/Größe ß 模型"), Path("/it's $HOME/`ls`;#")):
        assert shlex.split(command("ui", "--storage", path))[-2:] == ["--storage", str(path)]
    assert command("ui", "--storage", "/runs/plain").endswith(" ui --storage /runs/plain")


@pytest.mark.skipif(not ABLATE.is_file(), reason="the package is not installed")
def test_the_installed_script_names_itself_in_errors(tmp_path: Path) -> None:
    done = subprocess.run(
        [ABLATE, "compare", "--storage", str(tmp_path), "--no-such-option"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("`ablate compare --help`")) == (2, 1)


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupt_while_modules_load_prints_nothing(ignored: bool) -> None:
    code = f"""
import os, signal, sys
if {ignored}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
class Interrupting:
    def find_spec(name, path, target=None):
        if name == "cluster.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
from cluster.__main__ import main
sys.argv = ["ablate", "toggles"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == ((0, "") if ignored else (-signal.SIGINT, ""))
