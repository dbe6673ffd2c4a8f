"""What a folder's digest reads: data and code whole, of large weights samples of every tensor."""

import hashlib
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ray_bridge.config.fingerprint import fingerprint, folder_digest
from ray_bridge.config.folder_digest import file_digests
from ray_bridge.config.presets import tiny

MIB = 1 << 20
SAMPLE = 4096


def blake(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def random_bytes(size: int) -> bytes:
    return np.random.default_rng(0).bytes(size)


def content_of(folder: Path) -> str:
    ((_, _, content),) = file_digests(folder)
    return str(content)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "test.jsonl"])
def test_files_up_to_4_mib_are_read_whole(tmp_path: Path, name: str) -> None:
    content = random_bytes(4 * MIB)
    (tmp_path / name).write_bytes(content)
    assert content_of(tmp_path) == blake(content)


def test_large_files_of_data_are_read_whole(tmp_path: Path) -> None:
    content = random_bytes(5 * MIB)
    (tmp_path / "test.jsonl").write_bytes(content)
    assert content_of(tmp_path) == blake(content)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_of_large_weights_without_known_tensors_1024_samples_are_read(tmp_path: Path, name: str) -> None:
    content = random_bytes(9 * MIB)
    (tmp_path / name).write_bytes(content)
    starts = [i * (len(content) - SAMPLE) // 1023 for i in range(1024)]
    assert content_of(tmp_path) == blake(b"".join(content[at : at + SAMPLE] for at in starts))
    assert file_digests(tmp_path, whole=True)[0][2] == blake(content)


def test_of_safetensors_every_tensor_is_read_at_start_and_end_and_every_4_mib(tmp_path: Path) -> None:
    tensors = {
        "large": np.frombuffer(random_bytes(9 * MIB), dtype=np.uint8),
        "norm": np.frombuffer(random_bytes(300), dtype=np.uint8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    first = 8 + int.from_bytes(content[:8], "little")
    large = content[first : first + 9 * MIB]
    starts = [i * (len(large) - SAMPLE) // 3 for i in range(4)]
    read = content[:first] + b"".join(large[at : at + SAMPLE] for at in starts) + content[first + 9 * MIB :]
    assert content_of(tmp_path) == blake(read)


@pytest.mark.parametrize("changed", ["layers.0.q", "layers.1.q", "layers.2.q", "layers.3.norm"])
def test_weights_of_one_layer_that_change_in_place_are_another_checkpoint(tmp_path: Path, changed: str) -> None:
    """A merge into some layers leaves size, name and most of the file as they were."""
    draws = np.random.default_rng(0)
    tensors = {f"layers.{i}.q": draws.standard_normal((512, 1024), dtype=np.float32) for i in range(4)}
    tensors |= {f"layers.{i}.norm": draws.standard_normal(16, dtype=np.float32) for i in range(4)}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    before, size = folder_digest(tmp_path), path.stat().st_size
    save_file({**tensors, changed: draws.standard_normal(tensors[changed].shape, dtype=np.float32)}, path)
    assert path.stat().st_size == size
    assert folder_digest(tmp_path) != before


def test_weights_without_a_known_name_are_sampled_and_what_versions_keep_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(random_bytes(5 * MIB))
    (tmp_path / ".git" / "lfs").mkdir(parents=True)
    (tmp_path / ".git" / "lfs" / "object").write_bytes(b"x")
    (digests,) = file_digests(tmp_path)
    assert digests[0] == "model.h5"
    assert digests[2] != blake((tmp_path / "model.h5").read_bytes())


def test_the_magic_of_a_gguf_file_is_no_length_of_a_header(tmp_path: Path) -> None:
    """Read as one it says 14 GB, which would be read at once."""
    with (tmp_path / "model.gguf").open("wb") as file:
        file.write(b"GGUF\x03\0\0\0")
        file.truncate(15_000_000_000)
    tracemalloc.start()
    content_of(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * MIB


def test_large_weights_are_read_again_once_they_have_changed(tmp_path: Path) -> None:
    path, old = tmp_path / "model.bin", time.time() - 3600
    found = []
    for content in (random_bytes(5 * MIB), bytes(5 * MIB)):
        path.write_bytes(content)
        os.utime(path, (old, old))
        found.append(folder_digest(tmp_path))
        old += 1
    assert found[0] != found[1] == folder_digest(tmp_path)


@pytest.mark.parametrize("name", ["test.jsonl", "test.bin"])
def test_data_that_change_in_place_are_another_experiment(tmp_path: Path, name: str) -> None:
    content = bytearray(random_bytes(5 * MIB))
    (tmp_path / name).write_bytes(content)
    spec = tiny(task="gsm8k", task_data=str(tmp_path))
    before = fingerprint(spec)
    content[3 * MIB + 1] ^= 1
    (tmp_path / name).write_bytes(content)
    assert fingerprint(spec) != before
