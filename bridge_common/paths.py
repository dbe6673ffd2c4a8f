"""Say what is wrong with the text of a path or a name before a file system or a library says it in its own words."""

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes that Linux's file systems take."""


def text_problem(text: str, most: int = LONGEST_NAME) -> str | None:
    """Return why a text cannot be a name or an address; None if it can.

    Args:
        text: the text.
        most: bytes that it may have.
    """
    if not text.strip():
        return "it is empty"
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        return f"{short(text)} has a control character, such as a newline"
    if (size := _bytes(text)) is None:
        return f"{short(text)} is no valid UTF-8"
    return None if size <= most else f"{short(text)} has {size} bytes, at most {most} are possible"


def path_problem(path: str) -> str | None:
    """Return why a text cannot be a path; None if it can."""
    if problem := text_problem(path, LONGEST_PATH):
        return problem
    if "://" in path:  # of which a folder with a colon in its name would be made
        return f"{path.partition('://')[0]}://... is an address, no path"
    longest = max(path.split("/"), key=lambda part: len(part.encode()))
    return text_problem(longest) if longest else None


def short(text: str, most: int = 60) -> str:
    """Return a text in quotes, on one line and not too long for a message."""
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")


def plain(text: str) -> str:
    """Return a text as it is if a message can show it so, or else as `short` does."""
    return text if text.isprintable() and len(text) <= 60 else short(text)


def plain_path(path: object) -> str:
    """Return a path as a message names it: whole if it is not too long, since its last part says most."""
    text = str(path)
    return text if text.isprintable() and len(text) <= 300 else repr(text if len(text) <= 300 else f"...{text[-297:]}")


def _bytes(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
