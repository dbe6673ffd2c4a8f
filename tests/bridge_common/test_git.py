"""Git facts of real checkouts, and of copies without `.git` that know them from their submitter."""

import json
from pathlib import Path

import pytest

from bridge_common.git import GIT_FACTS, code_facts, git_facts, uncommitted_diff
from tests.support.git_checkouts import commit_all, git


@pytest.fixture(autouse=True)
def _not_a_submitted_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GIT_FACTS, raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one committed file, without a remote."""
    folder = tmp_path / "checkout"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "a.py").write_text("a = 1\n")
    commit_all(folder)
    return folder


def test_a_clean_checkout(checkout: Path) -> None:
    facts = code_facts(checkout)
    assert facts["commit"] == git(checkout, "rev-parse", "HEAD")
    assert (facts["branch"], facts["changed"], facts["problem"]) == ("main", 0, "")
    assert uncommitted_diff(checkout) == ""


def test_changed_and_untracked_files_are_counted_and_the_diff_has_the_tracked_ones(checkout: Path) -> None:
    (checkout / "package" / "a.py").write_bytes(b"a = 2  # \xff is not UTF-8\n")
    (checkout / "new.py").write_text("")
    assert code_facts(checkout)["changed"] == 2
    assert "+a = 2" in uncommitted_diff(checkout)
    assert "new.py" not in uncommitted_diff(checkout)
    short = uncommitted_diff(checkout, limit=20)
    assert len(short) < 40
    assert short.endswith("(cut)\n")


def test_the_remote_is_not_asked_for_facts_of_the_code(checkout: Path) -> None:
    git(checkout, "remote", "add", "origin", str(checkout.parent / "gone.git"))
    assert code_facts(checkout)["problem"] == ""
    assert "cannot read origin" in git_facts(checkout)["problem"]


def test_a_checkout_that_only_contains_the_code_does_not_count(checkout: Path) -> None:
    assert code_facts(checkout / "package")["commit"] is None
    assert uncommitted_diff(checkout / "package") == ""
    assert git_facts(checkout / "package")["commit"] == git(checkout, "rev-parse", "HEAD")


def test_outside_git_there_are_no_facts(tmp_path: Path) -> None:
    for facts in (code_facts(tmp_path), git_facts(tmp_path)):
        assert (facts["commit"], facts["problem"]) == (None, "not a git checkout")
    assert uncommitted_diff(tmp_path) == ""


@pytest.mark.parametrize("place", ["copy", "checkout/runs/copy"])
def test_a_submitted_copy_has_the_facts_of_its_submitter(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    submitted = tmp_path / "submitted"
    submitted.mkdir()
    (submitted / "b.py").write_text("b = 1\n")
    commit = commit_all(submitted)
    (submitted / "b.py").write_text("b = 2\n")
    monkeypatch.setenv(GIT_FACTS, json.dumps(git_facts(submitted)))
    copy = tmp_path / place  # Ray's folder for working directories may lie inside another project's checkout
    copy.mkdir(parents=True)
    for facts in (code_facts(copy), git_facts(copy)):
        assert (facts["commit"], facts["branch"], facts["changed"]) == (commit, "main", 1)
    assert uncommitted_diff(copy) == ""
    assert code_facts(checkout)["commit"] != commit, "a checkout has its own facts, also inside a job"


@pytest.mark.parametrize("text", ["not JSON", "[1]", '"text"'])
def test_facts_that_cannot_be_read_are_a_problem_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(GIT_FACTS, text)
    assert code_facts(tmp_path)["commit"] is None
    assert GIT_FACTS in code_facts(tmp_path)["problem"]


def test_without_git_that_is_the_problem(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert code_facts(checkout)["problem"] == "git is not installed"
    assert uncommitted_diff(checkout) == ""
