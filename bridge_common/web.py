"""What can go wrong when a server is asked something over HTTP, and how to say it in a line."""

import re
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit

from bridge_common.visible_text import visible

NO_ANSWER = (OSError, ValueError, HTTPException)
"""Errors of `urllib.request.urlopen`; HTTP's own, as from a port where another protocol is spoken, are no OSError."""
_HOST = re.compile(r"[^/:@]*(:\d+)?[/?]")
"""A host, whose path or query holds the `@` that comes next."""


def is_web_address(url: str) -> bool:
    """Return whether a text is the address of something that speaks HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is none, such as a part of a password with a slash, or of an open bracket
        return False


def has_password(address: str) -> bool:
    """Return whether an address may hold a password: before an `@`, with a `/` or `?` in it, too, or in its query."""
    _, scheme_ends, rest = address.partition("://")
    login = rest.rpartition("@")[0]
    in_login = ":" in login and not _HOST.match(login)
    return bool(scheme_ends) and (in_login or "password" in parse_qs(address.partition("?")[2]))


def why(error: BaseException) -> str:
    """Return in a line why a request got no answer, without the bytes that came instead of one."""
    if isinstance(error, HTTPException):
        return "what answers there does not speak HTTP"
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return visible(" ".join(str(reason).split()))
