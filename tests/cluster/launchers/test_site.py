"""Sites and profiles, and what is launched on them."""

from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.launchers.launch import plan_launch
from cluster.launchers.site import load_site
from cluster.launchers.submit import RENDERERS, render
from ray_bridge import paper_run, tiny_run
from tests.support.launches import paper_launch


def test_modules_come_from_a_profile_and_are_empty_without_one(tmp_path: Path) -> None:
    assert load_site().modules == ()
    assert load_site("hpc").modules == ("gcc/13.1.0", "conda/24.3.0-0", "stockcuda/12.6.2", "cudnn/cuda12/9.3.0.75")
    own = tmp_path / "site.toml"
    own.write_text('modules = ["cuda/12"]\npartition = "gpu"\nhours = 24\n')
    assert load_site(str(own)).modules == ("cuda/12",)
    assert load_site(str(own), {"hours": "2", "modules": "a b,c"}).modules == ("a", "b", "c")
    assert (load_site(str(own), {"hours": "2"}).hours, load_site(str(own)).partition) == (2, "gpu")


@pytest.mark.parametrize(
    ("profile", "changes", "message"),
    [
        ("nowhere", {}, "no profile nowhere: use hpc, or the path of a TOML file"),
        (None, {"gcs_port": "12000"}, "10002 to 19999 belong to Ray's workers"),
        (None, {"partitoin": "gpu"}, "unknown field 'partitoin': did you mean partition"),
        (None, {"hours": "0"}, "hours='0'"),
        (None, {"partition": "gpu\n#SBATCH --mem=0"}, "partition"),
        (None, {"auth_mode": "none"}, "auth_mode"),
        (None, {"namespace": "Big_Team"}, "namespace"),
    ],
)
def test_an_impossible_site_is_one_clear_line(profile: str | None, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_site(profile, changes)
    assert message in str(caught.value)


def test_a_broken_profile_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("hours = ")
    with pytest.raises(UserError, match=r"site\.toml: "):
        load_site(str(tmp_path / "site.toml"))


def test_a_node_is_as_large_as_a_job_needs() -> None:
    paper = paper_launch()
    assert (paper.gpus, paper.cpus, paper.memory_gb) == (4, 32, 256)
    tiny = plan_launch("phase1", (), tiny_run(), site=load_site())
    assert (tiny.gpus, tiny.cpus, tiny.memory_gb) == (0, 3, 8)
    assert paper_launch(gpus=8).cpus == 64
    assert paper_launch(site={"cpus": 20, "memory_gb": 100}).cpus == 20
    with pytest.raises(UserError, match="--gpus 2: a job has 4 workers on one node; lower them by --set workers=2"):
        paper_launch(gpus=2)
    with pytest.raises(UserError, match="cpus=16: a job needs 17"):
        paper_launch(site={"cpus": 16})


def test_one_launch_reaches_all_three_files() -> None:
    changes = {"phase": "phase3", "gpus": 2, "variables": {"HF_HOME": "/models"}, "run": paper_run(workers=2)}
    for launcher in RENDERERS:
        text = render(launcher, paper_launch(**changes, site={"storage": "campaigns", "hosts": "a"}))
        assert "phase3" in text
        assert "/models" in text
        assert "campaigns" in text
        assert any(asked in text for asked in ("gpu:2", "nvidia.com/gpu: '2'", "--num-gpus=2")), launcher
        named = render(launcher, paper_launch("--preset", "paper", "--storage=/mnt/ablate/x", site={"hosts": "a"}))
        assert "--storage=/mnt/ablate/x" in named
        assert "--storage runs" not in named
    with pytest.raises(UserError, match="unknown launcher 'lsf': use slurm, kuberay, ray-up"):
        render("lsf", paper_launch())
