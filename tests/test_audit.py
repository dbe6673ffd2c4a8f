"""What `make audit` says of a report, and that it says in one line when nobody answers."""

from pathlib import Path

import pytest

from tests.support.audit import main, verdict

CLEAN = {"name": "click", "version": "8.1", "vulns": []}
FAULTY = {
    "name": "flask",
    "version": "0.5",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["1.0", "0.12.3"]},
        {"id": "PYSEC-2", "fix_versions": []},
    ],
}
UNKNOWN = {"name": "ray", "skip_reason": "Dependency not found on PyPI and could not be audited: ray (2.60.0)"}


def test_each_vulnerability_is_a_line() -> None:
    lines, number = verdict({"dependencies": [CLEAN, FAULTY, UNKNOWN], "fixes": []})
    assert number == 2
    assert lines == [
        "flask 0.5: PYSEC-1, fixed in 1.0, 0.12.3",
        "flask 0.5: PYSEC-2, fixed in none yet",
        "2 known vulnerabilities in 2 of 3 packages; the index knows nothing of ray",
    ]
    assert verdict({"dependencies": [CLEAN]}) == (["0 known vulnerabilities in 1 packages"], 0)


def test_an_index_without_answers_is_not_reported_as_no_vulnerabilities() -> None:
    assert verdict({"dependencies": [UNKNOWN]}) == (
        ["the index does not answer questions about vulnerabilities: nothing was audited"],
        0,
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'ConnectionError: no route' >&2; exit 1", "the index does not answer (ConnectionError: no route)"),
        (None, "pip-audit is not installed and the index does not give it"),
    ],
)
def test_no_answer_is_one_line(
    script: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if script is not None:
        (tmp_path / "pip-audit").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "pip-audit").chmod(0o755)
    assert main(["--tools", str(tmp_path), "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"audit: {said}: nothing was audited"
    assert len(lines) == 2, "the other one is about the list of packages"
