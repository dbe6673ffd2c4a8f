"""The site of the documentation is built strictly: a broken link, a page without a place or a missing anchor fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import ROOT

pytest.importorskip("mkdocs")


def build(into: Path, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", root / "mkdocs.yml", "-d", into],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


def test_the_site_is_built_with_every_page_and_asks_no_other_server(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"changelog", "contributing", "speed", "speed-notes"}
    assert {page for page in pages if not (tmp_path / page / "index.html").is_file()} == set()
    start = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "cross-model translators" in start
    fetched = re.findall(r'(?:<script[^>]*src|<link[^>]*href|<img[^>]*src)="(https?://[^"]+)"', start)
    assert fetched == []


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    for name in ("docs", "benchmarks", "ray_bridge", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    subprocess.run(["cp", "-r", ROOT / "docs", tmp_path / "docs"], check=True)
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text())
    page = tmp_path / "docs" / "gpus.md"
    page.write_text(page.read_text() + "\n[nowhere](no-such-page.md)\n")
    done = build(tmp_path / "site", tmp_path)
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr
