"""The table of effects at the end of a campaign is whole at 80 columns."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from cluster.monitoring.toggle_effects import print_effects
from ray_bridge import JobSpec
from tune_spaces.design.toggles import all_toggles


def test_every_toggle_and_interval_is_whole_at_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "appendix").mkdir()
    row = {"status": "estimated", "given": "", "kind": "leave one out", "estimate": -0.101, "low": -0.242, "high": 0.04}
    row |= {"p_adjusted": 0.0123, "noise_floor": 0.021, "shown": True}
    fields = [toggle.field for toggle in all_toggles() if toggle.field in JobSpec.model_fields]
    assert len(fields) >= 4
    pd.DataFrame([row | {"toggles": field} for field in fields]).to_parquet(tmp_path / "appendix" / "effects.parquet")
    print_effects(SimpleNamespace(folder=tmp_path), verbose=True)  # type: ignore[arg-type]
    printed = capsys.readouterr().out.splitlines()
    for field in fields:
        (line,) = [line for line in printed if line.startswith(field)]
        assert line.split()[1:] == "leave one out -10.1 [-24.2, +4.0] 0.0123 2.1 yes".split()
    assert max(len(line.rstrip()) for line in printed if "appendix" not in line) <= 80
