"""The cluster file for `ray up`, read and validated by Ray's own code."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge_common import files
from bridge_common.errors import UserError
from cluster.launchers.ray_up import render, submit_command
from tests.support.launches import paper_launch

ONE = {"site": {"hosts": "gpu-1"}}
THREE = {
    "nodes": 3,
    "profile": "hpc",
    "site": {"hosts": "gpu-1 gpu-2,gpu-3", "auth_mode": "disabled"},
    "variables": {"NOTE": 'it\'s "x"'},
}


@pytest.mark.parametrize("changes", [ONE, THREE])
def test_rays_own_schema_takes_the_cluster_file(changes: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    launch = paper_launch(**changes)
    config = prepare_config(yaml.safe_load(render(launch)))
    validate_config(config)
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert not any("ray stop" in command for command in starts), "Ray's defaults would end other Rays on the host"
    mode = launch.site.auth_mode
    assert all(f"RAY_AUTH_MODE={mode}" in command and "--num-gpus=4" in command for command in starts)
    assert ("~/.ray/auth_token" in config["file_mounts"]) == (mode == "token")
    assert config["max_workers"] == launch.nodes - 1
    [kind] = config["available_node_types"].values()
    assert kind["min_workers"] == launch.nodes - 1, "all hosts are used from the start"
    for command in (*starts, submit_command(launch)):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_phase_is_submitted_with_the_git_facts_of_the_copied_checkout() -> None:
    launch = paper_launch(**THREE, code={"commit": "0123", "branch": "it's main"})
    variables = subprocess.run(
        ["bash", "-c", submit_command(launch).split(" && ")[-2] + '; echo "$ABLATE_GIT"; echo "$NOTE"'],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert json.loads(variables[0]) == {"commit": "0123", "branch": "it's main"}
    assert variables[1] == 'it\'s "x"'
    assert submit_command(launch).endswith(
        "python -m cluster submit phase1 --address http://127.0.0.1:8265 --no-follow --preset paper --storage runs"
    )
    assert "ABLATE_GIT" not in str(yaml.safe_load(render(launch))), "later jobs of that Ray may run other code"


@pytest.mark.parametrize("changes", [ONE, THREE])
def test_the_file_as_it_is_written_follows_the_schema_in_rays_wheel(changes: dict[str, Any]) -> None:
    """Before Ray fills in its defaults, so that a misspelt field cannot hide behind one of them."""
    import jsonschema
    import ray

    schema = files.read_json(Path(ray.__file__).parent / "autoscaler" / "ray-schema.json")
    validator = jsonschema.validators.validator_for(schema)(schema)
    config = yaml.safe_load(render(paper_launch(**changes)))
    validator.validate(config)
    for wrong in ({"max_workers": "3"}, {"head_start_command": []}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**config, **wrong})


@pytest.mark.parametrize(("nodes", "hosts"), [(1, ""), (2, "a"), (1, "a,b")])
def test_every_node_needs_a_host(nodes: int, hosts: str) -> None:
    with pytest.raises(UserError, match=f"ray-up on {nodes} nodes: name as many hosts"):
        render(paper_launch(nodes=nodes, site={"hosts": hosts}))


def test_folders_with_blanks_and_signs_of_the_shell_stay_one_word() -> None:
    site = {"hosts": "gpu-1", "project": "~/my project", "environment": "$(false); venv"}
    command = submit_command(paper_launch(site=site))
    assert command.startswith("cd ~/'my project' && . '$(false); venv'/bin/activate && ")
