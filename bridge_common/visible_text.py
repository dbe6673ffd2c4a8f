"""Text of models, data and failed processes as people may see it: its control characters show, and do nothing."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Replace control characters, such as those of ANSI codes, by their pictures (U+2400 on); lines and tabs stay.

    Those from U+0080 to U+009F have no pictures and become `\x9b` and so on: some terminals run them, too. Those that
    turn the direction of writing around become `\u202e` and so on: text could be read as other text (CVE-2021-42574).
    """
    return _CONTROL.sub(_picture, text)


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code > 0xFF:
        return f"\\u{code:04x}"
    return f"\\x{code:02x}" if code > 0x7F else chr(0x2421 if code == 0x7F else 0x2400 + code)
