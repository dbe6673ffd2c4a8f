"""What MkDocs adds to docs/: pages that lie elsewhere in the repository, with their links turned to the site's."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "speed.md",
    "benchmarks/NOTES.md": "speed-notes.md",
    "ray_bridge/embedded_pair/README.md": "embedded-pair.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_turned(text, source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave docs/ to pages that were added."""
    if page.file.src_uri in ELSEWHERE.values():
        return markdown
    return _turned(markdown, f"docs/{page.file.src_uri}")


def _turned(text: str, source: str) -> str:
    return LINK.sub(lambda match: _on_site(match, source), text)


def _on_site(match: re.Match[str], source: str) -> str:
    """Return a link of a file of the repository as it is on the site; one to a file without a page stays plain code."""
    target = match[2]
    if "://" in target or target.startswith("mailto:"):
        return match[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return match[1] + ELSEWHERE.get(path, path.removeprefix("docs/"))
