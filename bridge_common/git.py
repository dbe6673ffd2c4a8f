"""Facts from git about the code that runs: its commit, its branch, and how many files were changed without a commit.

A submitted job runs in a copy of the code without `.git`. Its submitter therefore sends the facts of its own checkout
in the variable `GIT_FACTS`, and the functions here return those in the job. The changes themselves are not sent: a
variable holds at most 128 KiB, and Ray's dashboard shows it to everyone.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GIT_FACTS = "ABLATE_GIT"
DIFF_LIMIT = 4 << 20  # characters
_NONE = {
    **dict.fromkeys(("commit", "branch", "changed", "root", "remote", "latest", "behind", "ahead")),
    "problem": "not a git checkout",
}


def code_facts(folder: Path, *, timeout_s: float = 10) -> dict[str, Any]:
    """Return commit, branch and number of changed files of the code in a folder, without reading the remote.

    A checkout counts only if the folder is its root: code that is installed below another project's checkout, as in its
    virtual environment, is not part of that project.

    Args:
        folder: root of the code.
        timeout_s: limit of each git command, in seconds.

    Returns:
        As `git_facts`; what concerns the remote is None for a checkout.
    """
    facts = _read_checkout(folder, timeout_s)
    if _is_root(folder, facts):
        return facts
    return _sent_facts() or {**_NONE, "problem": facts["problem"] or _NONE["problem"]}


def git_facts(folder: Path, *, remote: str = "origin", branch: str = "main", timeout_s: float = 10) -> dict[str, Any]:
    """Return the state of the checkout that contains a folder, compared with its remote.

    In a submitted job's copy of the code, return the state of the checkout that the job was submitted from.

    Args:
        folder: any folder of the checkout, or the root of the copy.
        remote: name of the remote to compare with.
        branch: the remote's branch to compare with.
        timeout_s: limit of each git command, in seconds.

    Returns:
        `commit` (None outside a checkout), `branch`, `changed` (number of changed or untracked files), `root` (the
        checkout's folder), `remote`, `latest` (the remote's commit; None if it cannot be read), `behind` and `ahead`
        (commits; None if `latest` has not been fetched), and `problem` (empty if there was none).
    """
    facts = _read_checkout(folder, timeout_s)
    sent = None if _is_root(folder, facts) else _sent_facts()
    if sent:
        return sent
    facts["remote"] = remote
    if facts["commit"] is None:
        return facts
    try:
        facts["latest"], facts["problem"] = _latest(folder, remote, branch, timeout_s)
        if facts["latest"]:
            counted = _git(folder, ["rev-list", "--left-right", "--count", f"HEAD...{facts['latest']}"], timeout_s)
            if counted.returncode == 0:
                facts["ahead"], facts["behind"] = map(int, counted.stdout.split())
    except subprocess.TimeoutExpired:
        facts["problem"] = f"{remote} does not answer within {timeout_s:g} s"
    return facts


def uncommitted_diff(folder: Path, *, limit: int = DIFF_LIMIT, timeout_s: float = 10) -> str:
    """Return the uncommitted changes of tracked files as a patch, cut at `limit` characters.

    The patch is empty if there are none, or if the folder is not the root of a checkout.
    """
    if not _is_root(folder, _read_checkout(folder, timeout_s)):
        return ""
    try:
        patch = _git(folder, ["diff", "HEAD"], timeout_s).stdout
    except subprocess.TimeoutExpired:
        return ""
    return patch if len(patch) <= limit else patch[:limit] + "\n(cut)\n"


def _read_checkout(folder: Path, timeout_s: float) -> dict[str, Any]:
    """Return the facts that need no remote."""
    try:
        head = _git(folder, ["rev-parse", "--show-toplevel", "HEAD"], timeout_s)
        if head.returncode:
            return dict(_NONE)
        root, _, commit = head.stdout.strip().rpartition("\n")
        branch = _git(folder, ["rev-parse", "--abbrev-ref", "HEAD"], timeout_s).stdout.strip()
        changed = len(_git(folder, ["status", "--porcelain"], timeout_s).stdout.splitlines())
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return {**_NONE, "problem": "git is not installed" if missing else f"git cannot be run: {error}"}
    except subprocess.TimeoutExpired:
        return {**_NONE, "problem": f"git does not answer within {timeout_s:g} s"}
    return {**_NONE, "commit": commit, "branch": branch, "changed": changed, "root": root, "problem": ""}


def _is_root(folder: Path, facts: dict[str, Any]) -> bool:
    return facts["root"] is not None and Path(facts["root"]).resolve() == Path(folder).resolve()


def _sent_facts() -> dict[str, Any] | None:
    """Return the facts that this job's submitter sent, or None outside a submitted job."""
    text = os.environ.get(GIT_FACTS)
    if not text:
        return None
    try:
        return {**_NONE, **json.loads(text)}
    except (ValueError, TypeError):
        return {**_NONE, "problem": f"${GIT_FACTS} is not a JSON object"}


def _git(folder: Path, arguments: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    ssh = {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=5"}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        errors="replace",  # a diff may contain files that are not UTF-8
        timeout=timeout_s,
        # Never ask for a password: nobody may be there to answer.
        env={**ssh, **os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _latest(folder: Path, remote: str, branch: str, timeout_s: float) -> tuple[str | None, str]:
    """Return the remote's commit of a branch, or None and why it cannot be read."""
    if remote not in _git(folder, ["remote"], timeout_s).stdout.split():
        return None, f"no remote {remote}"
    try:
        listed = _git(folder, ["ls-remote", remote, f"refs/heads/{branch}"], timeout_s)
    except subprocess.TimeoutExpired:
        return None, f"{remote} does not answer within {timeout_s:g} s"
    if listed.returncode or not listed.stdout.strip():
        reason = (listed.stderr.strip().splitlines() or [f"it has no branch {branch}"])[-1]
        return None, f"cannot read {remote}: {reason}"
    return listed.stdout.split()[0], ""
