"""The public names of the package, and a campaign run from Python by them alone."""

import subprocess
import sys
from pathlib import Path

import pytest

import ray_bridge
import tune_spaces
from ray_bridge import JobSpec, tiny, tiny_run
from tests.support.campaigns import DIRECT, prepare
from tests.support.ray_clusters import ray_environment
from tune_spaces import Campaign, Phase, full, only, phase1

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_is_there_and_nothing_is_imported_for_it_beforehand() -> None:
    assert all(getattr(tune_spaces, name) is not None for name in tune_spaces.__all__)
    assert set(tune_spaces.__all__) <= set(dir(tune_spaces))
    assert tune_spaces.__version__ == ray_bridge.__version__
    code = "import sys; before = set(sys.modules); import tune_spaces; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) < 20


def test_a_phase_may_be_given_as_the_function_that_returns_it(tmp_path: Path) -> None:
    campaign = Campaign(phase1, tiny(), tiny_run(), storage=str(tmp_path))
    assert campaign.plan.trials == Campaign(phase1(tiny()), tiny(), tiny_run(), storage=tmp_path).plan.trials
    assert campaign.folder == tmp_path / "phase1"
    assert repr(campaign) == f"Campaign('phase1', 4 planned trials, folder='{tmp_path / 'phase1'}')"

    def ladder(base: JobSpec) -> Phase:
        return Phase(name="ladder", goal="what each fix adds", first=(only("kl"), full()))

    assert [trial.variant for trial in Campaign(ladder, tiny(), tiny_run()).plan.trials.values()] == ["kl", "full"]


@pytest.mark.slow
def test_a_campaign_is_run_and_read_from_python(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path, {"full": 0.72})
    campaign = Campaign(phase1, tiny(test_examples=10_000), tiny_run(), storage=tmp_path)
    with ray_environment():
        policy = campaign.run(DIRECT)
    assert policy.finished
    table = campaign.results()
    assert table[["variant", "status", "accuracy/bridged"]].to_numpy().tolist() == [["full", "finished", 0.72]]
    assert Campaign.load(tmp_path, "phase1").results().equals(table)
    captured = capfd.readouterr()
    assert captured.out == ""
