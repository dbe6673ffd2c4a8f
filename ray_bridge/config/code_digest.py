"""A digest of the code that trains and measures, by which a resumed trial notices that the code has changed."""

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


@cache
def code_digest() -> str:
    """Return a digest of this package's Python files, 16 hexadecimal digits.

    Plug-ins are not part of it: their content is part of a spec's fingerprint.
    """
    content = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return content.hexdigest()[:16]
