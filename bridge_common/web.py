"""What can go wrong when a server is asked something over HTTP, and how to say it in a line."""

from http.client import HTTPException
from urllib.error import HTTPError, URLError

from bridge_common.visible_text import visible

NO_ANSWER = (OSError, ValueError, HTTPException)
"""Errors of `urllib.request.urlopen`; HTTP's own, as from a port where another protocol is spoken, are no OSError."""


def why(error: BaseException) -> str:
    """Return in a line why a request got no answer, without the bytes that came instead of one."""
    if isinstance(error, HTTPException):
        return "what answers there does not speak HTTP"
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return visible(" ".join(str(reason).split()))
