"""Messages name commands as the user calls them."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.program import as_called, command, program

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
