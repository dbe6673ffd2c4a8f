"""Time the tokenising of an example: GSM8K after eight exemplars, and HotpotQA with its paragraphs.

    make real && python -m benchmarks.encoding --data DIR [--examples 1000]

DIR holds GSM8K's train.jsonl and test.jsonl. HotpotQA's examples are made of its sentences, ten paragraphs each, since
their cost depends on their length alone. The real model's tokenizer reads them on both sides, with the alignment of
`geometry_projection`. Prints and saves CPU milliseconds per example, over all threads.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import default_device, save
from benchmarks.real_pair import REAL_MODEL
from ray_bridge.config.presets import paper
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits


def hotpotqa_rows(data: Path, count: int) -> list[dict[str, Any]]:
    """Return rows in HotpotQA's format, a question and ten paragraphs each, made of sentences of GSM8K."""
    rows = [json.loads(line) for line in (data / "train.jsonl").read_bytes().splitlines()]
    sentences = [part + "." for row in rows for part in row["question"].split(". ") if part]
    draw = random.Random(0)
    return [
        {
            "question": draw.choice(sentences),
            "answer": "yes",
            "context": {
                "title": [draw.choice(sentences)[:20] for _ in range(10)],
                "sentences": [draw.sample(sentences, draw.randint(5, 9)) for _ in range(10)],
            },
        }
        for _ in range(count)
    ]


def cost(spec: JobSpec, lm: FrozenLM) -> dict[str, float]:
    """Encode all training examples of a job in batches of 16, as caching frozen states does; return the CPU time."""
    splits = load_splits(spec)
    encoder = Encoder(spec, splits.task, splits.header, lm, lm)
    encoder(splits.train[:16])
    begin, tokens, examples = time.process_time(), 0, splits.train[16:]
    for at in range(0, len(examples), 16):
        tokens += sum(len(item.source_ids) for item in encoder(examples[at : at + 16]))
    spent = time.process_time() - begin
    return {
        "examples": len(examples),
        "prompt_tokens": round(tokens / len(examples)),
        "ms_an_example": round(1e3 * spent / len(examples), 3),
        "s_for_10000": round(1e4 * spent / len(examples), 1),
    }


def main() -> None:
    """Measure, print and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--model", type=Path, default=REAL_MODEL)
    parser.add_argument("--examples", type=int, default=1000)
    options = parser.parse_args()
    default_device()  # one thread on CPUs
    lm = FrozenLM.load(str(options.model))
    models = {"source": str(options.model), "target": str(options.model), "validation_examples": 1}
    with tempfile.TemporaryDirectory() as name:
        rows = "\n".join(map(json.dumps, hotpotqa_rows(options.data, options.examples + 1)))
        for split in ("train", "test"):
            (Path(name) / f"{split}.jsonl").write_text(rows)
        gsm8k = paper(**models, task_data=str(options.data), train_examples=options.examples)
        hotpotqa = paper(**models, task="hotpotqa", task_data=name, num_fewshot=0)
        result = {"gsm8k, 8-shot": cost(gsm8k, lm), "hotpotqa": cost(hotpotqa, lm)}
    print(json.dumps(result))
    save("encoding", result)


if __name__ == "__main__":
    main()
