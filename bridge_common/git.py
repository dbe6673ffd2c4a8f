"""One reader of git facts: of a checkout, or, in a submitted job without `.git`, those its submitter handed on."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GIT_FACTS = "ABLATE_GIT"  # a submitted job runs in a copy without .git: the submitter's facts travel in this variable


def git_facts(
    repository: Path, *, remote: str = "origin", branch: str = "main", timeout_s: float = 10
) -> dict[str, Any]:
    """Where a checkout stands: commit, branch, changed files, and the remote's latest commit where it answers.

    Returns:
        `commit` (None outside a repository), `branch`, `changed` (number of files), `remote`, `latest` (None if
        unknown), `behind` and `ahead` (commits; None if the latest one has not been fetched), `problem`.
    """

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _git(repository, arguments, timeout_s)

    facts: dict[str, Any] = {"commit": None, "remote": remote, "latest": None, "behind": None, "ahead": None}
    try:
        head = git("rev-parse", "HEAD")
        if head.returncode:
            return {**facts, "problem": "not a git checkout"}
        name = git("rev-parse", "--abbrev-ref", "HEAD").stdout.strip()
        changed = len(git("status", "--porcelain").stdout.splitlines())
        remotes = git("remote").stdout.split()
    except FileNotFoundError:
        return {**facts, "problem": "git is not installed"}
    except subprocess.TimeoutExpired:
        return {**facts, "problem": f"git does not answer within {timeout_s:g} s"}
    facts.update(commit=head.stdout.strip(), branch=name, changed=changed)
    latest, problem = (
        _latest(repository, remote, branch, timeout_s) if remote in remotes else (None, f"no remote {remote}")
    )
    facts.update(latest=latest, problem=problem)
    if latest:
        counted = git("rev-list", "--left-right", "--count", f"HEAD...{latest}")
        if counted.returncode == 0:
            facts["ahead"], facts["behind"] = map(int, counted.stdout.split())
    return facts


def _git(repository: Path, arguments: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    ssh = {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=5"}
    return subprocess.run(
        ["git", "-C", str(repository), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        # Never ask for a password: nobody may be there to answer.
        env={**ssh, **os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _latest(repository: Path, remote: str, branch: str, timeout_s: float) -> tuple[str | None, str]:
    """The remote's commit of a branch, or None and why."""
    try:
        listed = _git(repository, ["ls-remote", remote, f"refs/heads/{branch}"], timeout_s)
    except subprocess.TimeoutExpired:
        return None, f"{remote} does not answer within {timeout_s:g} s"
    if listed.returncode or not listed.stdout.strip():
        reason = (listed.stderr.strip().splitlines() or [f"it has no branch {branch}"])[-1]
        return None, f"cannot read {remote}: {reason}"
    return listed.stdout.split()[0], ""
