"""Without locks and hard links of the file system: one driver a campaign and one sender, also after a kill."""

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ROOT
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from pathlib import Path
from bridge_common.errors import UserError
from tune_spaces.records.campaign_folder import CampaignFolder
folder = CampaignFolder(Path(sys.argv[1]) / "demo")
try:
    with folder.locked():
        print("held", folder.is_driven(), flush=True)
        time.sleep(float(sys.argv[2]))
except UserError as error:
    print("error:", error, flush=True)
print("driven", folder.is_driven(), flush=True)
"""
SEND = """
import sys
from pathlib import Path
from mlflow_utils.tracker import Tracker
from mlflow_utils.reports import markdown
storage = Path(sys.argv[1])
print(Tracker.replay(f"sqlite:///{storage}/mlflow.db", "demo", storage / "demo"))
print(len(markdown.update(storage / "demo", storage / "paper")))
"""


def start(error: int, script: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Run a script whose file systems answer a lock with an error."""
    command = [sys.executable, "-m", "tests.support.without_locks", str(error), str(script), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_campaign_has_one_driver_and_a_killed_one_leaves_it_free(tmp_path: Path, error: int) -> None:
    script = tmp_path / "hold.py"
    script.write_text(HOLD)
    with start(error, script, str(tmp_path), "60") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held True\n"
        other, _ = start(error, script, str(tmp_path), "0").communicate(timeout=60)
        assert other.splitlines() == [
            f"error: campaign demo is being run by process {first.pid} on {socket.gethostname()}: "
            "wait for it, or `stop` it",
            "driven True",
        ]
        first.kill()
    wait_for(
        lambda: start(error, script, str(tmp_path), "0").communicate()[0] == "held True\ndriven False\n", 30, "free"
    )


def test_records_are_sent_and_reports_written(storage: Path) -> None:
    from tests.support import mlflow_records
    from tests.support.campaign_folder import make_campaign

    make_campaign(storage, variants=["full"])
    script = storage / "send.py"
    script.write_text(SEND)
    out, _ = start(errno.ENOLCK, script, str(storage)).communicate(timeout=120)
    assert out.splitlines()[-2:] == ["None", "3"], out
    assert {run.info.status for run in mlflow_records.trials(f"sqlite:///{storage}/mlflow.db").values()} == {"FINISHED"}
