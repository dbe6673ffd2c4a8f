"""What identifies a job: one text for its values, and the content of the files that it names.

Finished trials are stored under these digests, so their definition is fixed here byte by byte.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ray_bridge.config.fingerprint import canonical, digest, fingerprint, folder_digest
from ray_bridge.config.presets import tiny


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -7,
        10**30,
        0.1,
        1e-5,
        1e22,
        -0.0,
        "",
        'an "é" \\ \n',
        [],
        {},
        {"b": [1, 2.5, None, ["x"]], "a": {"z": False, "é": True}, "": 0},
    ],
    ids=str,
)
def test_the_text_of_a_value_is_json_in_ascii_with_sorted_keys_and_no_spaces(value: Any) -> None:
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))


def test_a_tuple_is_a_list_and_a_number_is_no_text() -> None:
    assert canonical((1, ("2",))) == '[1,["2"]]'
    assert len({canonical(value) for value in (1, 1.0, "1", True, [1])}) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {"a": 1, 2: 3}, {1}, b"x", [object()]])
def test_what_has_no_text_of_its_own_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def blake(content: bytes, size: int) -> str:
    return hashlib.blake2b(content, digest_size=size).hexdigest()


def test_a_digest_is_that_of_the_text() -> None:
    assert digest({"a": [1, "x"]}) == blake(b'{"a":[1,"x"]}', 8)
    assert digest({"a": [1, "x"]}, 12) == blake(b'{"a":[1,"x"]}', 6)


def test_a_folder_is_its_files_names_sizes_and_contents(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"four")
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"x")
    expected = [["a.txt", 0, blake(b"", 16)], ["sub/b.txt", 4, blake(b"four", 16)]]
    assert folder_digest(tmp_path) == digest(expected)


def test_models_are_identified_by_their_content_and_those_of_the_hub_by_their_name(tmp_path: Path) -> None:
    contents: dict[str, str] = {}
    embedded = fingerprint(tiny(), contents)
    assert set(contents) == {"embedded:source", "embedded:target"}
    assert all(value.startswith("content:") for value in contents.values())
    assert fingerprint(tiny(), {**contents, "embedded:source": "content:other"}) != embedded
    hub: dict[str, str] = {}
    assert fingerprint(tiny(target="owner/model"), hub) != fingerprint(tiny(target="owner/other"), hub)
    assert {hub[name] for name in ("owner/model", "owner/other")} == {"owner/model", "owner/other"}
    (tmp_path / "config.json").write_text("{}")
    local = fingerprint(tiny(target=str(tmp_path)), contents)
    assert contents[str(tmp_path)] == f"content:{folder_digest(tmp_path)}"
    assert local not in (embedded, fingerprint(tiny(target="owner/model")))


def test_fields_that_were_added_later_count_only_with_another_value() -> None:
    marks = {fingerprint(tiny(**change)) for change in ({}, {"prompt_format": "chat"}, {"stops": "Q:"})}
    assert len(marks) == 3
    assert fingerprint(tiny()) == fingerprint(tiny(prompt_format="raw", stops=None))


def test_the_parts_of_a_target_do_not_count(tmp_path: Path) -> None:
    """They say where a job computes: a trial of a whole target is not run again because the next phase needs parts."""
    assert fingerprint(tiny(target_shards=4)) == fingerprint(tiny())
    assert tiny(target_shards=4).flat()["target_shards"] == 4
