"""The comparison from files alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge_common.errors import UserError
from cluster.cli.app import app
from cluster.cli.compare_files import appendix_from_files, parse_samples

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data" / "reference_runs"


def foreign(path: Path, answers: list[str | None]) -> Path:
    rows = [
        {"index": i, "gold": "18", "bridged_answer": a, "target_answer": "18", "question": f"question {i}"}
        for i, a in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_names_and_files() -> None:
    assert parse_samples(["full=a.jsonl", "B=dir/x=y.jsonl"]) == {"full": Path("a.jsonl"), "B": Path("dir/x=y.jsonl")}
    for wrong in ("a.jsonl", "=a.jsonl", "full="):
        with pytest.raises(UserError, match="NAME=FILE"):
            parse_samples([wrong])
    with pytest.raises(UserError, match="twice"):
        parse_samples(["a=1", "a=2"])


def test_json_is_one_object_of_exactly_three_parts(tmp_path: Path) -> None:
    files = {
        "full": foreign(tmp_path / "a.jsonl", ["18.", "$18", None, "17", "18.0"]),
        "B": foreign(tmp_path / "b.jsonl", ["18", "19", "", "17", "18"]),
    }
    found = json.loads(appendix_from_files(files, as_json=True))
    assert list(found) == ["runs", "pairs", "verdict"]
    assert set(found["runs"]["full"]) == {"n", "correct", "accuracy", "ci_low", "ci_high", "invalid"}
    assert (found["runs"]["full"]["correct"], found["runs"]["B"]["correct"]) == (3, 2)
    assert (found["runs"]["full"]["invalid"], found["runs"]["B"]["invalid"]) == (1, 1)
    assert (found["pairs"][0]["n10"], found["pairs"][0]["n01"]) == (1, 0)
    assert len(found["verdict"]) == 1


def test_text_and_folder(tmp_path: Path) -> None:
    files = {
        "full": foreign(tmp_path / "a.jsonl", ["18"] * 6 + ["1"] * 4),
        "B": foreign(tmp_path / "b.jsonl", ["18"] * 5 + ["1"] * 5),
    }
    text = appendix_from_files(files, out=tmp_path / "out")
    assert "full  6/10 correct, 60.0 %" in text
    assert "no difference was shown" in text
    assert str(tmp_path / "out" / "appendix.md") in text
    written = (tmp_path / "out" / "appendix.md").read_text()
    assert "target alone" in written
    assert "## Effects of toggles" not in written
    assert "question 5" in (tmp_path / "out" / "changed_items.csv").read_text()


def test_one_file_alone(tmp_path: Path) -> None:
    found = appendix_from_files({"only": foreign(tmp_path / "a.jsonl", ["18"])}, as_json=True, out=tmp_path / "out")
    assert json.loads(found)["pairs"] == []
    assert (tmp_path / "out" / "appendix.md").exists()


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    good = foreign(tmp_path / "a.jsonl", ["18", "18"])
    with pytest.raises(UserError, match="at least one"):
        appendix_from_files({})
    with pytest.raises(UserError, match="no such file"):
        appendix_from_files({"a": tmp_path / "absent.jsonl"})
    with pytest.raises(UserError, match="name a folder"):
        appendix_from_files({"a": good}, out=good)
    with pytest.raises(UserError, match="not the same items"):
        appendix_from_files({"a": good, "b": foreign(tmp_path / "b.jsonl", ["18"])}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_importing_the_command_is_light() -> None:
    code = (
        "import sys, cluster.cli.compare_files\n"
        "heavy = {'scipy', 'pandas', 'matplotlib', 'statsmodels', 'torch'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not REFERENCE.exists(), reason="reference runs are not beside this checkout")
def test_the_reference_runs(tmp_path: Path) -> None:
    files = {name: REFERENCE / f"{name}.jsonl" for name in ("full", "ablation_b")}
    found = json.loads(appendix_from_files(files, as_json=True, out=tmp_path))
    (pair,) = found["pairs"]
    assert (pair["n10"], pair["n01"]) == (14, 10)
    assert pair["p_mcnemar"] == pytest.approx(0.541, abs=5e-4)
    assert "no difference was shown" in found["verdict"][0]
    assert len((tmp_path / "appendix.md").read_text()) > 5_000


def test_json_of_a_campaign_is_refused_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["appendix", "--json", "--storage", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "--json goes with --samples" in str(done.exception)
