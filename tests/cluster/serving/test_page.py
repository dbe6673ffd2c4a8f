"""The page as a file: nothing from the network, and a policy that holds a browser to that."""

import re

from cluster.serving.page import HEADERS, PAGE


def test_the_page_needs_nothing_but_itself() -> None:
    assert not re.findall(r"(?:https?:)?//[a-z]", PAGE)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", PAGE)
    assert not re.findall(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", PAGE)


def test_the_policy_names_the_pages_own_script_and_style() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2
    assert "unsafe" not in policy
