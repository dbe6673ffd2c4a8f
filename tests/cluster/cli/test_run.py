"""What `run_campaign` decides before Ray starts."""

import socket
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.cli.run import _check_tracking
from ray_bridge import tiny, tiny_run
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import phase1


@pytest.mark.slow
def test_a_tracking_server_that_hangs_refuses_a_new_campaign_and_not_a_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        base = tiny()
        campaign = Campaign(phase1(base), base, tiny_run(), storage=tmp_path, request={"tracking_uri": uri})
        with pytest.raises(UserError, match="no MLflow server"):
            _check_tracking(campaign)
        campaign._record_start([], {})
        _check_tracking(campaign)
    assert "Points are kept in" in capsys.readouterr().out
