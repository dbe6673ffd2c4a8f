"""Every file of a storage cut in half, emptied, or filled with zeros, as full disks and crashes leave them.

Whatever the file, each command works or ends in one line with the file's name. What `resume` can mend is mended, with
the numbers of an undisturbed campaign.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge_common import files, trial_files
from bridge_common.trial_folder import TrialFolder
from tests.support.card_campaigns import make_ended
from tests.support.command_line import call_here, is_one_error_line
from tune_spaces.campaign import Campaign
from tune_spaces.ray_tune.searcher import VariantSearcher

pytestmark = pytest.mark.slow
NAME, OTHER = "spring", "autumn"
ASKED = {
    "status": ("--name", NAME),
    "results": ("--name", NAME),
    "card": (NAME,),
}
DAMAGE = {
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@dataclass(frozen=True)
class Cell:
    """A file, and what becomes of a campaign that has it damaged.

    Attributes:
        file: its path in the storage; TRIAL stands for the folder of the campaign's trial.
        refused: the commands that end in one line; the others work.
        resumes: whether a start of the campaign goes on; if so, all commands work afterwards.
    """

    file: str
    refused: tuple[str, ...] = ()
    resumes: bool = True


EVERYTHING = tuple(ASKED)
CELLS = (
    Cell("spring/campaign.json", refused=EVERYTHING, resumes=False),
    Cell("spring/plan.json", refused=EVERYTHING, resumes=False),
    Cell("spring/gate.json", refused=("card",)),
    Cell("spring/schedule.json"),
    Cell("spring/driver.json"),
    Cell("spring/git_diff.patch"),
    Cell("spring/results.csv"),
    Cell("spring/card.html"),
    Cell(".claims/CLAIM"),
    Cell("spring/trials/TRIAL/spec.json", refused=("results",)),
    Cell("spring/trials/TRIAL/events.jsonl"),
    Cell("spring/trials/TRIAL/metrics.json"),
    Cell("spring/trials/TRIAL/samples.jsonl", refused=("status",), resumes=False),
    Cell("spring/trials/TRIAL/result.json"),
    Cell("spring/trials/TRIAL/error.json"),
    Cell("spring/trials/TRIAL/stopped.json"),
    Cell("spring/trials/TRIAL/heartbeats/rank-0.json"),
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a storage of two ended campaigns of one trial, with every file that a campaign may have."""
    storage = tmp_path_factory.mktemp("runs")
    campaign = make_ended(storage, NAME, items=20, seeds=(0,), sizes=(8,))
    make_ended(storage, OTHER, items=20, seeds=(1,), sizes=(8,))
    for name in list(campaign.plan.trials)[1:]:  # `full` passes the gate, so that nothing else is asked for
        shutil.rmtree(campaign.trial(name).path)
    folder = campaign.trial(campaign.plan.first[0])
    files.write_json(folder.metrics_file, (folder.result() or {})["metrics"])
    folder.write_error({"attempt": "", "error": "lost", "traceback": "", "refused": False})
    files.write_json(folder.path / "heartbeats" / "rank-0.json", {"name": "rank-0"})
    claim = storage / ".claims" / f"{folder.fingerprint()}.json"
    files.write_json(claim, {"campaign": OTHER, "host": "h", "pid": 1})
    os.utime(claim, (0, 0))  # of a process that has died
    (campaign.folder / "git_diff.patch").write_text("diff --git a/x b/x\n")
    campaign.run(job="nothing:runs")
    campaign.records.write_schedule({"running": {}, "slots": 1, "without_place": 0, "ready": 0, "elsewhere": {}})
    for command in ("results", "card"):
        assert call_here(command, *ASKED[command], "--storage", str(storage)).returncode == 0
    return storage


@pytest.fixture
def copy(storage: Path, tmp_path: Path) -> Path:
    return shutil.copytree(storage, tmp_path / "runs")


def asked(command: str, storage: Path) -> "tuple[int, str]":
    done = call_here(command, *ASKED[command], "--storage", str(storage), folder=storage.parent)
    assert done.returncode == 0 or is_one_error_line(done), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def trial_of(storage: Path) -> TrialFolder:
    (trial,) = TrialFolder.begun_in(storage / NAME)
    return trial


def start(storage: Path) -> None:
    """Start a campaign; its trial, if it has to run, goes on from a checkpoint and ends as before."""
    campaign = Campaign.load(storage, NAME)
    if campaign.policy().finished:
        campaign.run(job="nothing:runs")
        return
    policy, (name,) = campaign.policy(), campaign.plan.first
    searcher = VariantSearcher(policy, campaign.plan.trials, campaign.records, campaign.run_spec)
    suggested = searcher.suggest("t")
    assert isinstance(suggested, dict)
    assert suggested["name"] == name
    trial = campaign.trial(name)
    trial.write_result(files.read_json(storage.parent / "whole result.json"))
    searcher.on_trial_complete("t", {**(trial.result() or {})["metrics"], "final": True})
    campaign.records.write_gate(policy.record())


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("cell", CELLS, ids=[cell.file for cell in CELLS])
def test_a_torn_file_is_one_line_or_does_not_matter(cell: Cell, damage: str, copy: Path) -> None:
    trial, gate = trial_of(copy), copy / NAME / trial_files.GATE
    shutil.copy(trial.result_file, copy.parent / "whole result.json")
    path = copy / cell.file.replace("TRIAL", trial.name).replace("CLAIM", f"{trial.fingerprint()}.json")
    metrics, decided = (trial.result() or {})["metrics"], gate.read_bytes()
    if path.name == trial_files.STOPPED:  # of a trial that a sweep's scheduler has stopped
        trial.write_stopped({"step": 3, "validation_accuracy": 0.5})
        trial.result_file.unlink()
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    unfinished = path.name in (trial_files.RESULT, trial_files.STOPPED)
    for command in ASKED if damage == "half" else ("status", "results"):  # a card takes a second
        code, said = asked(command, copy)
        if command in cell.refused:
            assert code == 2, command
            assert path.name in said
        else:
            assert code == 0 or (unfinished and command == "card"), said
    others = call_here("status", "--storage", str(copy))
    assert others.returncode == 0, others.stderr
    assert f"{OTHER}: finished" in others.stdout, "it hides no other campaign"
    if cell.resumes:
        start(copy)
        for command in ("status", "results"):
            assert asked(command, copy)[0] == 0
        assert (trial_of(copy).result() or {})["metrics"] == metrics
        assert gate.read_bytes() == decided
