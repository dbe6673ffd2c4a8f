"""What a submitted job uploads: measured as Ray does it, without storages, and refused if it is too large."""

import zipfile
from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from cluster.jobs import upload
from cluster.jobs.upload import exclusions, measure, require_small


def put(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    put(root / "cluster" / "code.py", 1000)
    put(root / "weights" / "a.bin", 5000)
    put(root / "weights" / "b.bin", 4000)
    put(root / ".venv" / "lib.so", 10_000)
    put(root / "ignored" / "big", 10_000)
    files.write_text(root / ".gitignore", "ignored/\n")
    for storage in ("sweeps", "old/runs-1", "named"):
        put(root / storage / "phase1" / "trials" / "full" / "weights.pt", 20_000)
        if storage != "named":
            files.write_json(root / storage / "phase1" / "campaign.json", {})
    return root


def test_it_is_what_ray_packs(checkout: Path, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    excludes = exclusions(checkout, checkout / "named")
    measured = measure(checkout, excludes)
    assert measured.entries == {"weights": 9000, "cluster": 1000, ".gitignore": 9}
    create_package(str(checkout), tmp_path / "package.zip", include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(tmp_path / "package.zip") as package:
        assert sum(info.file_size for info in package.infolist()) == measured.size


def test_storages_are_left_out_wherever_they_lie(checkout: Path, tmp_path: Path) -> None:
    excludes = exclusions(checkout, checkout / "named", ["*.bin"])
    assert {"/sweeps/", "/old/runs-1/", "/named/"} <= set(excludes)
    assert measure(checkout, excludes).entries.keys() == {"cluster", ".gitignore"}
    assert exclusions(checkout, tmp_path / "elsewhere") == [*upload.EXCLUDES, "/old/runs-1/", "/sweeps/"]
    assert "/phase1/" in exclusions(checkout / "sweeps", checkout / "sweeps"), "the working directory is a storage"


@pytest.mark.parametrize(
    "place", ["a/b/c/d/runs", "runs[1]", "a*b", "!odd", "#one", "back\\slash", "two words", "ends in blank ", "linked"]
)
def test_a_storage_is_left_out_under_any_name_and_depth(tmp_path: Path, place: str) -> None:
    root = tmp_path / "checkout"
    put(root / "code.py", 1000)
    put(root / "axxb" / "code.py", 1000)
    if place == "linked":
        (tmp_path / "elsewhere").mkdir()
        (root / place).symlink_to(tmp_path / "elsewhere")
    put(root / place / "phase1" / "trials" / "full" / "weights.pt", 20_000)
    assert measure(root, exclusions(root, root / place)).size == 2000, "named as the job's storage"
    files.write_json(root / place / "phase1" / "campaign.json", {})
    assert measure(root, exclusions(root, tmp_path / "named")).size == 2000, "recognised by its campaign"


def test_a_link_to_a_folder_above_ends_the_search_for_storages(checkout: Path, tmp_path: Path) -> None:
    (checkout / "weights" / "up").symlink_to(checkout)
    assert exclusions(checkout, tmp_path / "elsewhere") == [*upload.EXCLUDES, "/old/runs-1/", "/sweeps/"]


def test_too_large_an_upload_names_its_largest_entries(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MOST_BYTES", 9500)
    small = measure(checkout, exclusions(checkout, checkout / "named", ["*.bin"]))
    require_small(checkout, small)
    put(checkout / "weights" / "c.bin", 3 * 2**20)
    with pytest.raises(
        UserError, match=r"would upload 3 MiB, and Ray takes 0 \(weights 3 MiB, cluster 0 MiB.*rayignore"
    ):
        require_small(checkout, measure(checkout, exclusions(checkout, checkout / "named")))
