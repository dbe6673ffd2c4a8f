"""Ray's list of checkpoints is kept while Ray can use it, and removed if Ray would refuse the run."""

from pathlib import Path

import pytest

from bridge_common.files import write_json
from ray_bridge.training.ray_snapshot import remove_damaged_snapshot

NAME = "checkpoint_manager_snapshot.json"


def test_a_whole_list_stays(tmp_path: Path) -> None:
    remove_damaged_snapshot(tmp_path)
    (tmp_path / "checkpoint_00000004").mkdir()
    write_json(tmp_path / NAME, {"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_00000004"}]})
    remove_damaged_snapshot(tmp_path)
    assert (tmp_path / NAME).is_file()


@pytest.mark.parametrize(
    "content", ["", '{"checkpoint_results": [', "[]", '{"checkpoint_results": [{"checkpoint_dir_name": "gone"}]}']
)
def test_a_list_that_ray_would_refuse_is_removed(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoint_00000004").mkdir()
    (tmp_path / NAME).write_text(content)
    remove_damaged_snapshot(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_00000004"]
    assert NAME in caplog.text
