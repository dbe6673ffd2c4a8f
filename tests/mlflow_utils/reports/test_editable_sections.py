"""Merging sections into a text that people edit, and the files they are in."""

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from bridge_common.errors import UserError
from mlflow_utils.reports import editable_sections
from mlflow_utils.reports.editable_sections import merge, update


def section(key: str, body: str) -> str:
    """Return a section as `merge` writes it into an empty text."""
    return merge("", {key: body})


def test_a_section_has_two_comments_and_a_hash_that_ignores_white_space() -> None:
    text = section("demo/full", "\n\n## A\n\ntext\n\n")
    begin, *body, end = text.splitlines()
    assert begin.startswith("<!-- begin run demo/full ")
    assert begin.endswith(" -->")
    assert (body, end) == (["## A", "", "text"], "<!-- end run demo/full -->")
    digest = begin.split()[4]
    assert len(digest) == 12
    assert f" {digest} " in section("demo/full", "## A  \n\ntext")
    assert f" {digest} " not in section("demo/full", "## A\n\ntexts")


@pytest.mark.parametrize(
    ("before", "gap"), [("", ""), ("a", "\n\n"), ("a\n", "\n"), ("a\n\n", ""), ("a\n\n\n", ""), ("\n", "\n")]
)
def test_an_empty_line_stands_before_a_new_section(before: str, gap: str) -> None:
    assert merge(before, {"k": "body"}) == before + gap + section("k", "body")


def test_new_sections_follow_in_the_order_given() -> None:
    assert merge("", {"b": "1", "a": "2"}) == section("b", "1") + "\n" + section("a", "2")


def test_a_section_is_replaced_in_its_place() -> None:
    text = "before\n" + section("a", "old") + "between\n" + section("b", "kept") + "after"
    new = "before\n" + section("a", "new") + "between\n" + section("b", "kept") + "after"
    assert merge(text, {"a": "new"}) == new
    assert merge(new, {"a": "new", "b": "kept"}) == new


def test_an_edited_section_becomes_text_and_the_new_one_follows() -> None:
    edited = section("a", "old").replace("old", "mine")
    assert merge(edited, {"a": "old"}) == edited, "nothing new"
    assert merge(edited, {"a": "new"}) == "mine\n\n" + section("a", "new")


def test_a_comment_without_its_counterpart_is_text() -> None:
    begin = section("a", "old").splitlines(keepends=True)[0]
    broken = begin + "lost\n" + section("b", "kept")
    assert merge(broken, {"b": "kept"}) == broken
    assert merge(broken, {"b": "new"}) == begin + "lost\n" + section("b", "new")
    assert merge(begin + "x\n<!-- end run other -->\n", {"a": "new"}).endswith("\n" + section("a", "new"))


def test_windows_line_ends_are_kept() -> None:
    assert merge("a\r\n", {"k": "1\n2"}) == "a\r\n\r\n" + section("k", "1\n2").replace("\n", "\r\n")


def test_a_new_or_blank_file_begins_with_its_header(tmp_path: Path) -> None:
    folder = tmp_path / "paper" / "reports"
    headers = {"A.md": "# A\n\n"}
    assert update(folder, {"A.md": {"k": "1"}, "B.md": {"k": "2"}}, headers) == [folder / "A.md", folder / "B.md"]
    assert (folder / "A.md").read_text() == "# A\n\n" + section("k", "1")
    assert (folder / "B.md").read_text() == section("k", "2")
    (folder / "A.md").write_text(" \n")
    assert update(folder, {"A.md": {"k": "1"}}, headers) == [folder / "A.md"]
    assert (folder / "A.md").read_text().startswith("# A\n\n")
    (folder / "A.md").write_text("mine\n")
    update(folder, {"A.md": {"k": "1"}}, headers)
    assert (folder / "A.md").read_text() == "mine\n\n" + section("k", "1")


def test_only_files_that_changed_are_returned_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.md").write_text("")
    (tmp_path / "A.md").symlink_to(tmp_path / "elsewhere.md")
    documents = {"A.md": {"k": "1"}, "B.md": {}}
    assert update(tmp_path, documents, {}) == [tmp_path / "A.md"]
    assert (tmp_path / "A.md").is_symlink()
    assert (tmp_path / "elsewhere.md").read_text() == section("k", "1")
    assert update(tmp_path, documents, {}) == []


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "A.md").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"A\.md is not UTF-8 text .*: save it as UTF-8, or name another folder"):
        update(tmp_path, {"A.md": {"k": "1"}}, {})


def test_a_writer_that_never_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editable_sections, "LOCK_TIMEOUT", 0.2)
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / editable_sections.LOCK):
            ready.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(30)
    try:
        with pytest.raises(UserError, match=r"another process has been writing reports in .* for 0\.2 s: try again"):
            update(tmp_path, {"A.md": {"k": "1"}}, {})
    finally:
        done.set()
        holder.join()
