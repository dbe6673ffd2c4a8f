"""The check of the code's git state, on real checkouts with a real remote."""

import json
import socket
from pathlib import Path

import pytest

from bridge_common.git import GIT_FACTS, git_facts
from cluster.preflight.check import Check
from cluster.preflight.git import check_git
from cluster.preflight.settings import PreflightSettings
from tests.support.git_checkouts import git


@pytest.fixture
def checkout(tmp_path):
    """A clone that is clean and at the latest main of its bare remote; a second clone can move the remote on."""
    bare, one, two = tmp_path / "remote.git", tmp_path / "one", tmp_path / "two"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    for clone in (one, two):
        git(tmp_path, "clone", "-q", str(bare), str(clone))
    (one / "a.py").write_text("a = 1\n")
    git(one, "add", "a.py")
    git(one, "commit", "-q", "-m", "first")
    git(one, "push", "-q", "origin", "HEAD:main")
    git(two, "pull", "-q", "origin", "main")
    return one, two


def advance(clone: Path, text: str) -> None:
    (clone / "a.py").write_text(text)
    git(clone, "commit", "-q", "-a", "-m", text)


def judged(folder: Path, strict: bool = True) -> Check:
    [check] = check_git(PreflightSettings(repository=folder, strict_git=strict))
    return check


def test_git_passes_clean_at_the_remotes_latest(checkout):
    check = judged(checkout[0])
    assert check.status == "pass"
    assert git(checkout[0], "rev-parse", "HEAD")[:10] in check.detail


def test_git_dirty_and_untracked_files_count(checkout):
    one, _ = checkout
    (one / "a.py").write_text("a = 2\n")
    (one / "new.py").write_text("")
    assert (judged(one).status, judged(one, strict=False).status) == ("fail", "warn")
    assert "2 changed or untracked files" in judged(one).detail


def test_git_behind_before_and_after_a_fetch(checkout):
    one, two = checkout
    advance(two, "a = 3\n")
    git(two, "push", "-q", "origin", "HEAD:main")
    assert "behind origin/main" in judged(one).detail
    git(one, "fetch", "-q")
    check = judged(one)
    assert check.status == "fail"
    assert "1 commits behind origin/main" in check.detail
    assert check.remedy == "git pull --rebase origin main"
    advance(one, "a = 4\n")
    assert "1 commits behind" in judged(one).detail, "diverged is behind too"


def test_git_ahead_asks_for_a_push(checkout):
    one, _ = checkout
    advance(one, "a = 5\n")
    check = judged(one)
    assert check.status == "fail"
    assert "1 commits ahead" in check.detail
    assert "git push" in check.remedy


def test_git_without_a_reachable_remote_warns(checkout, tmp_path):
    one, _ = checkout
    git(one, "remote", "set-url", "origin", str(tmp_path / "gone.git"))
    assert judged(one).status == "warn"
    assert "cannot read origin" in judged(one).detail
    git(one, "remote", "remove", "origin")
    assert "no remote origin" in judged(one).detail


@pytest.mark.timeout(60)
def test_git_remote_that_never_answers_is_bounded(checkout):
    one, _ = checkout
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        git(one, "remote", "set-url", "origin", f"http://127.0.0.1:{deaf.getsockname()[1]}/r.git")
        facts = git_facts(one, timeout_s=1)
    assert "does not answer" in facts["problem"]


def test_a_submitted_copy_is_judged_by_the_checkout_it_came_from(checkout, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    copy.mkdir()
    assert judged(copy).detail == "not a git checkout"
    assert judged(copy).status == "fail"
    monkeypatch.setenv(GIT_FACTS, json.dumps(git_facts(checkout[0])))
    assert judged(copy).status == "pass"
