"""Tokens that a tokenizer wrote out as text, such as `<s>`, `</s>`, `<|im_end|>` or `<｜end▁of▁sentence｜>`."""

import re

END_TOKEN = r"(?:</s>|<[|｜][^\s<>|｜]{1,40}[|｜]>|<(?:eos|end_of_turn)>|\[EOS\])"
"""Pattern of one end token."""

START_TOKEN = r"(?:<s>|<bos>|\[BOS\]|<[|｜](?:begin|start|bos)[^\s<>|｜]{0,40}[|｜]>)"
"""Pattern of one token that begins a text."""

INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters of no width."""

_AT_START = re.compile(rf"(?:[\s{INVISIBLE}]*{START_TOKEN})*[\s{INVISIBLE}]*")
_AT_END = re.compile(rf"(?:{END_TOKEN}|[\s{INVISIBLE}])+$")
_REACH = 200  # characters from the end of a text in which end tokens are looked for


def without_tokens(text: str) -> str:
    """Return a text without the tokens, spaces and characters of no width that it begins and ends with."""
    text = text[_AT_START.match(text).end() :]  # type: ignore[union-attr]  # which matches any text
    return text[:-_REACH] + _AT_END.sub("", text[-_REACH:])
