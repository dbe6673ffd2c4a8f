"""Post notices of a campaign to a URL: a JSON object at each decision of the gate, each failed trial, and the end.

If a delivery fails, a warning is printed, the campaign continues, and the notice is tried again later, unless the
server said that it takes no such notice. At the end of the campaign a server that does not answer is waited for once,
for a few seconds.
"""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import responses
from typing import Any
from urllib.parse import unquote, urlsplit

from bridge_common.errors import UserError
from bridge_common.threads import bounded, repeating
from bridge_common.web import why
from tune_spaces.campaign import Campaign
from tune_spaces.gate.policy import Policy
from tune_spaces.records.usage import Usage

POLL_S = 2.0
ANSWER_S = 5.0
AGAIN_AFTER_S = 30.0
REFUSED = (400, 413, 415, 422)  # status codes that say of one notice what a second try would not change


def check_url(url: str) -> None:
    """Refuse a URL that notices cannot be posted to.

    Raises:
        UserError: if it is not http(s)://HOST..., or its port is not one from 1 to 65535.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # from urlsplit: of such a port, or of an address with an open bracket
        usable = False
    if not usable:
        raise UserError(f"--notify {shown_place(url)}: give http://HOST/PATH or https://HOST/PATH")


def shown_place(url: str) -> str:
    """Return as much of an address as messages show: scheme, host and port. Its other parts may be secrets."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    server = re.split(r"[/?#]", rest, maxsplit=1)[0]
    more = rest[len(server) :]
    if "@" in more:  # a password with a slash, of which the server's part would be the beginning
        return f"{scheme}{mark}***"
    return " ".join(f"{scheme}{mark}{server.rpartition('@')[2]}{'/***' if more.strip('/') else ''}".split())


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: another server would get the password, and by GET, with which the notice is lost."""

    def redirect_request(self, *arguments: Any) -> None:
        """Return no request, so that the redirect is an error."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def _reason(error: BaseException) -> str:
    """Return why a post failed, without the words of a server, which may repeat a token."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP Error {error.code}: {responses.get(error.code, 'no known status')}"
    return why(error)


@contextmanager
def notified(campaign: Campaign, url: str) -> Iterator[None]:
    """Send notices of a campaign to a URL while the body runs it, and one at its end.

    Args:
        campaign: the campaign. Earlier decisions and failures are not sent again.
        url: URL to which each notice is posted, as JSON.
    """
    notices = Notices(campaign, url)
    notices.new()
    try:
        with repeating(POLL_S, notices.send_new, "notices"):
            yield
    finally:
        notices.end()


class Notices:
    """Posts the decisions and failures of a campaign, in their order, each until the server has taken or refused it."""

    def __init__(self, campaign: Campaign, url: str) -> None:
        self.campaign, self.url = campaign, url
        self._decisions = 0
        self._failures: set[tuple[str, str]] = set()
        self._queue: list[dict[str, Any]] = []
        self._again_after = 0.0
        self._warned = False

    def new(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the decisions and failures since the last call."""
        decisions = self.campaign.policy().decisions()
        notices: list[tuple[str, dict[str, Any]]] = []
        for decision in decisions[self._decisions :]:
            evidence = decision.evidence
            values = {"branch": str(decision.branch), "uncertain": decision.uncertain, "accuracy": evidence.accuracy}
            notices.append(("decision", {**values, "low": evidence.low, "high": evidence.high, "n": evidence.n}))
        self._decisions = len(decisions)
        for name, trial in self.campaign.plan.trials.items():
            error = self.campaign.trial(name).error()
            if error is not None and (key := (name, str(error.get("attempt")))) not in self._failures:
                self._failures.add(key)
                about_trial = {"trial": name, "variant": trial.variant, "seed": trial.seed}
                notices.append(("failure", {**about_trial, "error": error["error"]}))
        return notices

    def send_new(self) -> None:
        """Send the decisions and failures since the last call, after those that were not delivered before."""
        self._queue += [self._notice(event, values) for event, values in self.new()]
        if time.monotonic() >= self._again_after:
            self._deliver()

    def end(self) -> None:
        """Send what is left, and the end; the first failure ends it."""
        self._queue += [self._notice(event, values) for event, values in [*self.new(), ("end", self.summary())]]
        self._deliver()

    def summary(self) -> dict[str, Any]:
        """Return the campaign's state: whether it passed, its trials by outcome, accuracies and GPU-hours."""
        policy = self.campaign.policy()
        wanted = policy.wanted()
        failed = [name for name in wanted if self.campaign.trial(name).failed]
        usage = Usage(self.campaign.trial(name) for name in self.campaign.plan.trials)
        return {
            "finished": policy.finished,
            "passed": policy.record()["passed"] if policy.branches else None,
            "trials": {
                "finished": len(policy.outcomes),
                "failed": len(failed),
                "left": len(wanted) + policy.proposals - len(policy.outcomes) - len(failed),
            },
            "accuracy": _accuracies(policy),
            "gpu_hours": usage.gpu_hours(self.campaign.run_spec, ()),
        }

    def _notice(self, event: str, values: Mapping[str, Any]) -> dict[str, Any]:
        about = {"event": event, "campaign": self.campaign.name, "phase": self.campaign.phase.name}
        return {**about, "time": time.time(), "host": socket.gethostname(), **values}

    def _deliver(self) -> None:
        """Post what is queued, until one fails; the first failure prints a warning."""
        while self._queue:
            try:
                # Not only a silent server: also one that answers byte by byte, or a name that is looked up for ever.
                bounded(lambda notice=self._queue[0]: self._post(notice), ANSWER_S)  # type: ignore[misc]
            except Exception as error:  # nothing that the other side does may end the run
                refused = isinstance(error, urllib.error.HTTPError) and error.code in REFUSED
                if not self._warned:
                    then = f": {self._queue[0]['event']} is not sent again" if refused else "; the run goes on"
                    print(f"warning: --notify {shown_place(self.url)}: {_reason(error)}{then}")
                self._warned = True
                if not refused:
                    self._again_after = time.monotonic() + AGAIN_AFTER_S
                    return
            self._queue.pop(0)

    def _post(self, notice: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        parts = urlsplit(self.url)
        user, at, place = parts.netloc.rpartition("@")
        if at:  # urllib would take it for a part of the host's name
            headers["Authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"
        request = urllib.request.Request(
            parts._replace(netloc=place).geturl(), json.dumps(notice).encode(), headers, method="POST"
        )
        _OPENER.open(request, timeout=ANSWER_S).close()


def _accuracies(policy: Policy) -> dict[str, float | None]:
    return {name: outcome.accuracy for name, outcome in policy.outcomes.items()}
