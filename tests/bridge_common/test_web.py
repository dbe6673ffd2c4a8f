"""What is said of a request that got no answer: one line without control characters or another protocol's bytes."""

from email.message import Message
from http.client import BadStatusLine, IncompleteRead
from urllib.error import HTTPError, URLError

import pytest

from bridge_common.web import NO_ANSWER, has_password, why

NO_HTTP = "what answers there does not speak HTTP"
CERTIFICATE = (
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in chain (_ssl.c:1006)"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BadStatusLine("\x00\x18\x04"), NO_HTTP),
        (IncompleteRead(b"ab", 10), NO_HTTP),
        (URLError(OSError(CERTIFICATE)), CERTIFICATE),
        (URLError("what answers there is another program"), "what answers there is another program"),
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (HTTPError("http://h", 404, "Not\x1b[31m Found\n", Message(), None), "HTTP Error 404: Not\u241b[31m Found"),
        (ValueError("it names no host"), "it names no host"),
    ],
)
def test_the_reason_in_a_line(error: Exception, said: str) -> None:
    assert isinstance(error, NO_ANSWER)
    assert why(error) == said


@pytest.mark.parametrize(
    ("address", "has"),
    [
        ("http://user:SECRET@host/", True),
        ("http://user:SECRET/part@host:5000", True),
        ("http://user:SE@CRET@host", True),
        ("postgresql://user:SE?CRET@host/db", True),
        ("docker://registry:5000/team/image@sha256:0123", False),
        ("https://hub:443/api/@scope", False),
        ("https://host/a:b@c", False),
        ("http://host:5000?next=a:b@c", False),
        ("postgresql://host/db?user=u&password=SECRET", True),
        ("http://user@host:5000/path", False),
        ("http://host:5000/path?q=1", False),
        ("/a folder/of:mine@home", False),
        ("INFO", False),
    ],
)
def test_a_password_is_seen_whatever_its_letters_are(address: str, has: bool) -> None:
    assert has_password(address) == has
