"""Claims on trials: one campaign of a storage runs a measurement, and what died holds nothing."""

import os
import socket
import subprocess
import time
from pathlib import Path

from bridge_common import files
from tests.support.planned_trials import campaign, of_variant, plan
from tune_spaces.records import claims
from tune_spaces.records.claims import Claims

FULL, B = of_variant(plan(), "full"), of_variant(plan(), "B")


def other_owner(storage: Path, *, pid: int, host: str = socket.gethostname()) -> Path:
    """Write the claim of another process on the trial `full`, as campaign `a`."""
    path = storage / claims.CLAIMS / f"{FULL.fingerprint}.json"
    files.write_json(path, {"campaign": "a", "host": host, "pid": pid, "trial": FULL.name, "since": 0.0})
    return path


def test_a_trial_is_claimed_by_one_campaign_until_it_is_released(tmp_path: Path) -> None:
    one, two = Claims(campaign(tmp_path, "a")), Claims(campaign(tmp_path, "b"))
    assert one.take(FULL) is None
    assert one.take(FULL) is None, "its own claim, as after a resume, is no other's"
    assert (two.take(FULL), two.elsewhere(FULL)) == ("a", "a")
    assert two.take(B) is None, "of another fingerprint"
    one.release(FULL)
    assert two.take(FULL) is None
    assert one.elsewhere(FULL) == "b"


def test_claims_of_the_dead_are_void(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = Claims(campaign(tmp_path, "b"))
    other_owner(tmp_path, pid=gone.pid)
    assert mine.elsewhere(FULL) is None, "a dead process of this host"
    claim = other_owner(tmp_path, pid=gone.pid, host="elsewhere")
    assert mine.elsewhere(FULL) == "a", "of another host only the heartbeat tells"
    os.utime(claim, (0, time.time() - claims.DEAD_AFTER_S - 1))
    assert mine.take(FULL) is None
    claim.write_text('{"campa')
    assert mine.take(FULL) is None, "a torn claim is none"


def test_a_heartbeat_keeps_a_claim(tmp_path: Path) -> None:
    claim = other_owner(tmp_path, pid=1, host="elsewhere")
    os.utime(claim, (0, 0))
    Claims(campaign(tmp_path, "a")).renew([FULL, B])
    assert Claims(campaign(tmp_path, "b")).elsewhere(FULL) == "a"
