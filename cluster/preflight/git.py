"""Check of the code's git state: a result counts only if it can be tied to a commit that others can fetch."""

from typing import Any

from bridge_common.git import GIT_FACTS, git_facts
from cluster.preflight.check import Check, Status
from cluster.preflight.settings import PreflightSettings


def judge_git(facts: dict[str, Any], *, branch: str, strict: bool) -> Check:
    """Return whether a result of this code could be tied to a commit that others can fetch.

    Args:
        facts: as `git_facts` returns them.
        branch: the remote's branch that the code should be on.
        strict: fail, rather than warn, if the code has changes or is not at the remote's latest commit.

    Returns:
        A pass for clean code at the remote's latest commit; a warning if the remote cannot be read.
    """
    bad: Status = "fail" if strict else "warn"
    remote = facts["remote"]
    if facts["commit"] is None:
        return Check(
            name="git",
            status=bad,
            detail=facts["problem"],
            remedy=f"run from a checkout, or submit from one (its state is then sent in ${GIT_FACTS})",
        )
    at = f"{facts['branch']} at {facts['commit'][:10]}"
    if facts["changed"]:
        detail = f"{at}, {facts['changed']} changed or untracked files"
        return Check(name="git", status=bad, detail=detail, remedy="commit them or add them to .gitignore")
    if facts["latest"] is None:
        remedy = f"git remote add {remote} URL" if "no remote" in facts["problem"] else f"git fetch {remote}"
        return Check(name="git", status="warn", detail=f"{at}, clean; {facts['problem']}", remedy=remedy)
    if facts["latest"] == facts["commit"]:
        return Check(name="git", status="pass", detail=f"{at}, clean, latest {branch} of {remote}")
    if facts["behind"] == 0:
        detail = f"{at}, clean, {facts['ahead']} commits ahead of {remote}/{branch}"
        return Check(name="git", status=bad, detail=detail, remedy=f"git push {remote} HEAD:{branch}")
    behind = "behind" if facts["behind"] is None else f"{facts['behind']} commits behind"
    detail = f"{at}, clean, {behind} {remote}/{branch}"
    return Check(name="git", status=bad, detail=detail, remedy=f"git pull --rebase {remote} {branch}")


def check_git(settings: PreflightSettings) -> list[Check]:
    """Check the checkout's state; in a submitted job, that of the checkout it was submitted from."""
    facts = git_facts(
        settings.repository, remote=settings.remote, branch=settings.branch, timeout_s=min(10, settings.timeout_s / 2)
    )
    return [judge_git(facts, branch=settings.branch, strict=settings.strict_git)]
