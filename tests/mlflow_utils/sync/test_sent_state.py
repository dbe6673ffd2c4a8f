"""State files: what each store has of a trial."""

from pathlib import Path

from mlflow_utils.sync.sent_state import SentState, file_version, store_key


def test_a_state_file_has_one_entry_per_store_and_no_password(tmp_path: Path) -> None:
    path = tmp_path / "events.sent.json"
    uri = "postgresql://me:secret@host/db"
    SentState(run_id="1", position=5).save(path, store_key(uri))
    SentState(run_id="2").save(path, store_key("sqlite:///x"))
    assert SentState.load(path, store_key(uri)) == SentState(run_id="1", position=5)
    assert SentState.load(path, "other") == SentState()
    assert "secret" not in path.read_text()


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("1")
    before = file_version(path)
    assert file_version(path) == before
    path.write_text("12")
    assert file_version(path) != before


def test_a_missing_state_file_is_an_empty_state_and_a_key_is_short(tmp_path: Path) -> None:
    assert SentState.load(tmp_path / "none.json", "x") == SentState()
    assert len(store_key("sqlite:///x")) == 12
    assert store_key("sqlite:///x") == store_key("sqlite:///x") != store_key("sqlite:///y")
