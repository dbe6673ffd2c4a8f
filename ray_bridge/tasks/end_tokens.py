"""End tokens that a tokenizer wrote out as text, such as `</s>`, `<|im_end|>` or `<｜end▁of▁sentence｜>`."""

import re

END_TOKEN = r"(?:</s>|<[|｜][^\s<>|｜]{1,40}[|｜]>|<(?:eos|end_of_turn)>|\[EOS\])"
"""Pattern of one end token."""

_AT_END = re.compile(rf"(?:\s*{END_TOKEN})+\s*$")
_REACH = 200  # characters from the end of a text in which end tokens are looked for


def without_end_token(text: str) -> str:
    """Return a text without the end tokens that it may end in."""
    return text[:-_REACH] + _AT_END.sub("", text[-_REACH:])
