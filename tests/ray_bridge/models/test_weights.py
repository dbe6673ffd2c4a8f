"""Loading gives what transformers gives, says in one line what is wrong with a checkpoint, and copies nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_common.errors import UserError
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.weights import load_model, read_ahead, to_device, weight_files
from tests.support.model_pairs import Arch, make_model, make_tokenizer, save_checkpoint

ARCHS: tuple[Arch, ...] = ("llama", "mistral", "qwen2", "gpt_neox")
Weights = dict[str, Tensor]


def reference(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def everything(model: torch.nn.Module) -> Weights:
    """All parameters and buffers, those included that no checkpoint holds."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}


def assert_same(mine: Any, theirs: Any) -> None:
    ids = torch.arange(3, 40)[None]  # (1, 37)
    tensors, expected = everything(mine), everything(theirs)
    assert tensors.keys() == expected.keys()
    assert any(name.endswith("inv_freq") for name in tensors)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype, name
        assert torch.equal(tensors[name].cpu(), value), name
    with torch.no_grad():
        assert torch.equal(mine(input_ids=ids).logits, theirs(input_ids=ids).logits)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("storage", ["whole", "sharded", "bin"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_checkpoint_loads_as_transformers_loads_it(
    arch: Arch, tied: bool, storage: str, dtype: str, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer(arch)
    torch.manual_seed(1)
    model = make_model(arch, tokenizer, tied=tied)
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, **({"max_shard_size": "60KB"} if storage == "sharded" else {}))
    if storage == "bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert (len(weight_files(str(tmp_path))) > 1) == (storage == "sharded")
    loaded = FrozenLM.load(str(tmp_path), dtype=dtype).model
    assert_same(loaded, reference(tmp_path, getattr(torch, dtype)))
    shared = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert shared == tied


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("sound") / "model", "llama")


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda weights: weights.pop(UP), f"its weight files lack {UP};"),
        (lambda weights: [weights.pop(name) for name in list(weights) if "layers.1" in name], "and 8 more;"),
        (lambda weights: weights.update({UP: torch.zeros(3, 4)}), f"{UP} is [3, 4] instead of [64, 32];"),
        (
            lambda weights: weights.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}),
            "its config.json does not describe model.layers.0.self_attn.q_proj.bias;",
        ),
    ],
)
def test_wrong_tensors_are_one_clear_line(
    change: Callable[[Weights], Any], expected: str, sound: Path, tmp_path: Path
) -> None:
    weights = load_file(sound / "model.safetensors")
    change(weights)
    spoil(sound, tmp_path, lambda path: save_file(weights, path, metadata={"format": "pt"}))
    with pytest.raises(UserError) as caught:
        FrozenLM.load(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"cannot load the checkpoint {tmp_path}: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("pytorch_model.bin")),
    ],
    ids=["truncated", "empty", "missing", "wrong format"],
)
def test_damaged_files_are_one_clear_line(damage: Callable[[Path], Any], sound: Path, tmp_path: Path) -> None:
    spoil(sound, tmp_path, damage)
    with pytest.raises(UserError, match=r"\Acannot load the checkpoint [^\n]+\Z"):
        FrozenLM.load(str(tmp_path))


def test_a_damaged_tokenizer_is_one_clear_line(sound: Path, tmp_path: Path) -> None:
    spoil(sound, tmp_path, lambda path: os.truncate(path.with_name("tokenizer.json"), 300))
    with pytest.raises(UserError, match=r"\Acannot load the checkpoint [^\n]+\Z"):
        FrozenLM.load(str(tmp_path))


def test_tensors_that_are_not_used_are_named_and_left_out(sound: Path, tmp_path: Path) -> None:
    weights = load_file(sound / "model.safetensors") | {"v_head.summary.weight": torch.zeros(1, 32)}
    spoil(sound, tmp_path, lambda path: save_file(weights, path, metadata={"format": "pt"}))
    with pytest.warns(UserWarning, match=r"1 tensors are not used, such as v_head.summary.weight"):
        loaded = FrozenLM.load(str(tmp_path)).model
    assert_same(loaded, reference(sound, torch.float32))


def spoil(sound: Path, folder: Path, change: Callable[[Path], Any]) -> None:
    for path in sound.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder / "model.safetensors")


@pytest.mark.slow
def test_weights_are_mapped_and_not_copied(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "mistral", width=1024, depth=12)  # 400 MB
    code = (
        "import sys, torch\n"
        "from ray_bridge.models.frozen_lm import FrozenLM\n"
        "def own():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon')) << 10\n"
        "FrozenLM.load(sys.argv[1])\n"
        "before = own()\n"
        "lm = FrozenLM.load(sys.argv[2])\n"
        "weights = list(lm.model.parameters())\n"
        "assert all(bool((w == w).all()) for w in weights)\n"
        "print(own() - before, sum(w.numel() * w.element_size() for w in weights))\n"
    )
    other = save_checkpoint(tmp_path / "other", "mistral")
    command = [sys.executable, "-c", code, str(other), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    private, total = map(int, done.stdout.split())
    assert total > 3e8
    assert private < 0.2 * total


@pytest.mark.slow
def test_what_only_generation_needs_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from ray_bridge.models.frozen_lm import FrozenLM\n"
        "FrozenLM.load('embedded:source')\n"
        "imported = {'sklearn', 'mlflow', 'pandas', 'matplotlib', 'statsmodels'} & set(sys.modules)\n"
        "import sklearn\n"
        "sys.exit(' '.join(imported) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_reading_ahead_reaches_every_byte_once(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_bridge.models import weights

    monkeypatch.setattr(weights, "READ_BYTES", 4096)
    path, seen = sound / "model.safetensors", []
    opened = Path.open

    class Watched:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Watched":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def seek(self, at: int) -> None:
            self.file.seek(at)

        def readinto(self, buffer: Any) -> None:
            at = self.file.tell()
            seen.append((at, at + self.file.readinto(buffer)))

    monkeypatch.setattr(Path, "open", lambda self, *a, **k: Watched(opened(self, *a, **k)))
    for rank in range(3):
        read_ahead([("nobody/nothing", None), (str(sound), None)], rank, 3).join()
    edges = sorted(seen)
    assert [low for low, _ in edges] == [0, *(high for _, high in edges[:-1])]
    assert edges[-1][1] == path.stat().st_size


@pytest.mark.gpu
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("piece", [1 << 25, 1000])
def test_a_gpu_gets_the_same_weights(tied: bool, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from ray_bridge.models import weights

    monkeypatch.setattr(weights, "PIECE", piece)
    save_checkpoint(tmp_path, "llama", width=64, tied=tied)
    expected = everything(reference(tmp_path, torch.bfloat16))
    moved = to_device(load_model(str(tmp_path), "it", revision=None, dtype="bfloat16"), torch.device("cuda"))
    tensors = everything(moved)
    assert tensors.keys() == expected.keys()
    assert all(value.is_cuda and torch.equal(value.cpu(), expected[name]) for name, value in tensors.items())
    assert (tensors["lm_head.weight"] is tensors["model.embed_tokens.weight"]) == tied
