"""Git: a result that cannot be tied to a commit others can fetch does not count."""

import json
import os
from typing import Any

from bridge_common.git import GIT_FACTS, git_facts
from cluster.preflight.check import Check, PreflightSettings, Status


def judge_git(facts: dict[str, Any], *, branch: str, strict: bool) -> Check:
    """Clean and at the remote's latest commit passes; where that cannot be known, it warns."""
    bad: Status = "fail" if strict else "warn"
    remote = facts["remote"]
    if facts["commit"] is None:
        return Check(
            name="git",
            status=bad,
            detail=facts["problem"],
            remedy=f"run from a checkout, or submit from one (its state then travels in ${GIT_FACTS})",
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
    """The checkout's state; in a submitted job, that of the checkout it was submitted from."""
    facts = git_facts(
        settings.repository, remote=settings.remote, branch=settings.branch, timeout_s=min(10, settings.timeout_s / 2)
    )
    told = os.environ.get(GIT_FACTS)
    if facts["commit"] is None and told:
        facts = json.loads(told)
    return [judge_git(facts, branch=settings.branch, strict=settings.strict_git)]
