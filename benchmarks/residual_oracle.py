"""What could `injection=residual` reach on the embedded pair, if the bridge made no error?

    python -m benchmarks.residual_oracle [--items 200]

The embeddings of number words in the question are replaced by those of the numeral, stretched over the word's tokens:
the residual that a bridge would have to add. Once exactly, once through the K soft tokens that a bridge has, which are
stretched over the question; and once as a bridge would most easily do it, by adding the question in numerals with every
soft token at the size of the target's embeddings. Compared with the target alone.
"""

import argparse
import sys
from collections.abc import Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor

from benchmarks.harness import environment, save
from ray_bridge.config.presets import tiny
from ray_bridge.generation.generate import decode_rows
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.resample import resample
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.tasks.splits import load_splits
from ray_bridge.tasks.synthetic.problems import SyntheticItem, make_examples

DATA_SEED = 11  # of the synthetic task


def in_numerals(lm: FrozenLM, item: SyntheticItem, encoded: Encoded) -> Tensor:
    """Return what to add to the embeddings of the question's tokens to have its number words in numerals, (T, d)."""
    first, last = encoded.row.span
    ids = torch.tensor(encoded.row.prompt[first:last])
    starts = [0]
    for i in ids.tolist():
        starts.append(starts[-1] + len(lm.tokenizer.decode([i])))
    before = lm.embed(ids)  # (T, d)
    after = before.clone()
    text = lm.tokenizer.decode(ids)
    shift = text.find(item.question)
    words, numerals = _pieces(item.question), _pieces(item.numeral_question)
    for kind, a, b, c, d in SequenceMatcher(None, words, numerals, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        low = shift + sum(map(len, words[:a]))
        high = low + sum(map(len, words[a:b]))
        places = [i for i in range(len(ids)) if starts[i + 1] > low and starts[i] < high]
        numeral = lm.tokenizer(" " + "".join(numerals[c:d]).strip(), add_special_tokens=False).input_ids
        if places and numeral:
            after[places] = resample(lm.embed(torch.tensor(numeral)), len(places))
    return after - before


def words(lm: FrozenLM, encoded: Encoded) -> Tensor:
    """Return the embeddings of the question's tokens, (T, d)."""
    first, last = encoded.row.span
    return lm.embed(torch.tensor(encoded.row.prompt[first:last]))


def _sized(tokens: Tensor, rms: float) -> Tensor:
    """Bring each token to one root mean square, as a bridge's last layer does, (K, d) -> (K, d)."""
    return tokens * rms / tokens.pow(2).mean(-1, keepdim=True).sqrt()


def _pieces(text: str) -> list[str]:
    """Split a text into words with the space before each."""
    parts = text.split(" ")
    return [parts[0], *(f" {part}" for part in parts[1:])]


def accuracy(lm: FrozenLM, pair: ModelPair, items: Sequence[Encoded], residuals: Sequence[Tensor]) -> float:
    """Decode each question with its residual and return the share that is right."""
    right = 0
    for item, residual in zip(items, residuals, strict=True):
        soft = SoftContext(tokens=residual[None])
        (ids,) = decode_rows(lm, [item.row.without_answer()], soft, pair.spec.max_new_tokens)
        right += pair.task.score(lm.tokenizer.decode(ids, skip_special_tokens=True), item.example).correct
    return right / len(items)


@torch.no_grad()
def main() -> int:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = tiny(injection="residual", decode_aware=False)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    lm = pair.target
    known = make_examples("test", len(splits.test), DATA_SEED)
    assert [item.id for item in known] == [example.id for example in splits.test]
    chosen = [(item, example) for item, example in zip(known, splits.test, strict=True) if item.words != "none"]
    chosen = chosen[: options.items]
    items = pair.encoder([example for _, example in chosen])
    exact = [in_numerals(lm, item, encoded) for (item, _), encoded in zip(chosen, items, strict=True)]
    found = {"target_alone": accuracy(lm, pair, items, [0 * each for each in exact])}
    found["exact"] = accuracy(lm, pair, items, exact)
    count = spec.soft_tokens
    through = [resample(resample(each, count), len(each)) for each in exact]
    found["through_soft_tokens"] = accuracy(lm, pair, items, through)
    whole = [resample(each + words(lm, item), count) for each, item in zip(exact, items, strict=True)]
    sized = [_sized(each, lm.embedding_rms) for each in whole]
    added = [resample(soft, len(each)) for soft, each in zip(sized, exact, strict=True)]
    found["question_in_numerals_added_at_one_size"] = accuracy(lm, pair, items, added)
    print(found)
    save(
        "residual-oracle",
        {"environment": environment(torch.device("cpu")), "items": len(items), "soft_tokens": count, "accuracy": found},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
