"""Reports that cannot be written: a warning, said once however often it is tried."""

from pathlib import Path

import pytest

from cluster.monitoring import reports
from tests.support.card_campaigns import make_ended
from tests.support.waiting import wait_for


def test_a_reason_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign, out = make_ended(tmp_path / "runs"), tmp_path / "reports"
    out.write_text("a file where the folder would be")
    monkeypatch.setattr(reports, "POLL", 0.05)
    tried: list[None] = []
    write = reports._write

    def count(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        tried.append(None)

    monkeypatch.setattr(reports, "_write", count)
    with reports.reported(campaign, out):
        wait_for(lambda: tried, 30, "a trial that has ended is reported")
    assert len(tried) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: the reports in {out} were not updated: ")
    out.unlink()
    with reports.reported(campaign, out):
        pass
    assert (out / "LOG.md").exists()
    assert capsys.readouterr().out == ""
