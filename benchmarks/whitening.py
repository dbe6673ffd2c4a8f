"""How large vectors come out of whitening that were not fitted, beside those that were.

    make real && python -m benchmarks.whitening --data DIR [--prompts 1024]

First with normal vectors whose variances fall as 1/i, as wide as a 7B model and as many as GSM8K trains on; then with
the real model's states of GSM8K questions at layer 20, averaged over each question's tokens. "sample" is the sample
covariance, as it was fitted to 256 prompts before; "shrunk" is what is used. DIR holds GSM8K's train.jsonl.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import default_device, save
from benchmarks.real_pair import REAL_MODEL
from ray_bridge.bridges.conditioner import mean_of
from ray_bridge.bridges.whitening import Moments, Whitening
from ray_bridge.config.presets import paper
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits

MANY = 1e9
"""So many times rows are counted that nothing is shrunk."""


def sizes(fitted: Tensor, others: Tensor) -> dict[str, Any]:
    """Return the RMS of fitted and other vectors (N, d) after whitening, with the sample and the shrunk covariance."""
    found: dict[str, Any] = {"fitted": len(fitted)}
    for name, times in (("sample", MANY), ("shrunk", 1.0)):
        moments = Moments.of(fitted[:1000])
        for part in fitted[1000:].split(1000):
            moments.add_(Moments.of(part))
        for tensor in moments.tensors():
            tensor.mul_(times)
        whitening = Whitening(fitted.shape[1]).to(fitted.device)
        whitening.fit(moments)
        low, high = (float(whitening(x.float()).pow(2).mean().sqrt()) for x in (fitted, others))
        found[name] = {"rms_fitted": round(low, 3), "rms_others": round(high, 3), "ratio": round(high / low, 3)}
        found[name]["shrinkage"] = round(moments.shrinkage(), 5)
    return found


def power_law(width: int, count: int, device: torch.device) -> dict[str, Any]:
    """Measure on normal vectors with variances 1/i."""
    scale = torch.arange(1, width + 1, device=device) ** -0.5
    draw = torch.Generator(device).manual_seed(0)
    fitted, others = (torch.randn(n, width, generator=draw, device=device) * scale for n in (count, 2000))
    return {"width": width, **sizes(fitted, others)}


@torch.no_grad()
def questions(model: Path, data: Path, count: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure on the real model's pooled states: fitted to 64, 256 and all but 256 of the questions."""
    lm = FrozenLM.load(str(model), device=device)
    spec = paper(source=str(model), target=str(model), task_data=str(data), num_fewshot=0, geometry_projection=False)
    splits = load_splits(spec)
    encoder = Encoder(spec, splits.task, "", lm, lm)
    norm, pooled = nn.LayerNorm(lm.hidden_size, elementwise_affine=False), []
    for at in range(0, count, 32):
        batch = read_source(lm, encoder(splits.train[at : at + 32]), 20)
        pooled.append(mean_of(norm(batch.states), batch.mask))
    states = torch.cat(pooled)  # (count, d)
    for fitted in (64, 256, count - 256):
        yield {"width": lm.hidden_size, **sizes(states[:fitted], states[-256:])}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--model", type=Path, default=REAL_MODEL)
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--vectors", type=int, default=7000)
    asked = parser.parse_args()
    device = default_device()
    configure_torch(device)
    found = {
        "variances 1/i": power_law(asked.width, asked.vectors, device),
        "GSM8K questions": list(questions(asked.model, asked.data, asked.prompts, device)),
    }
    print(json.dumps(found))
    save("whitening", found)


if __name__ == "__main__":
    main()
