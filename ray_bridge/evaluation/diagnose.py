"""What a trained bridge says to the target, looked at on a few examples.

An accuracy does not tell why. Here is, for each example: how large the soft tokens are and which words they lie
closest to, whether they make the target surer of its first word, how much attention they get there, and what was
written under every condition, side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bridge_common.errors import UserError
from bridge_common.files import read_jsonl
from bridge_common.metric_names import CONDITIONS
from bridge_common.trial_folder import TrialFolder
from ray_bridge.bridges.translator import build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.selection import RECORD_FILE, SELECTED, load_selected
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import Batch, assemble, inserted
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.tasks.splits import load_splits


@dataclass(frozen=True, kw_only=True)
class ExampleDiagnosis:
    """One example under the microscope.

    Attributes:
        id: the example's.
        question: what was asked.
        gold: the right answer.
        rms: (K,), root mean square of each soft token over that of the target's median embedding.
        nearest: (K,), the target token whose embedding each soft token is closest to by cosine.
        cosine: (K,), that cosine.
        entropy_with: nats of the first answer token's distribution, with soft tokens.
        entropy_without: the same without them.
        attention: (layers,), share of attention that the place before the first answer token gives to soft tokens,
            mean over heads; empty where the model does not say, or no soft tokens stand in its sequence.
        even_attention: that share were all tokens looked at alike.
        outputs: text by condition.
        correct: strict score by condition.
    """

    id: str
    question: str
    gold: str
    rms: list[float]
    nearest: list[str]
    cosine: list[float]
    entropy_with: float
    entropy_without: float
    attention: list[float]
    even_attention: float
    outputs: dict[str, str]
    correct: dict[str, bool]


def diagnose(
    folder: Path, *, count: int = 4, device: torch.device | str = "cpu", cache: Path | None = None
) -> list[ExampleDiagnosis]:
    """Look at a finished trial's selected checkpoint on the first test examples.

    Args:
        folder: the trial's folder, with spec.json and selected/.
        count: number of examples.
        device: where the models run.
        cache: folder of shared outputs, used when the trial has no samples.jsonl.

    Raises:
        UserError: when the folder is no trial's, or the trial has not selected a checkpoint yet.
    """
    folder = Path(folder)
    trial = TrialFolder(folder)
    record = trial.spec()
    if record is None:
        raise UserError(f"no spec.json in {folder}: name a trial's folder, STORAGE/CAMPAIGN/trials/VARIANT-ID")
    if not (folder / SELECTED / RECORD_FILE).is_file():
        raise UserError(f"{folder.name} has selected no checkpoint yet: it is written when training ends")
    spec = build(JobSpec, record["spec"])
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device(device)).for_evaluation()
    translator = build_translator(spec, pair.source, pair.target).eval()
    load_selected(folder / SELECTED, translator)
    translator.to(torch.float64 if spec.eval_dtype == "float64" else torch.float32)
    evaluator = Evaluator(pair, Worker(device=torch.device(device)), count, NodeCache(cache))
    examples = splits.test[:count]
    if trial.samples:
        by_id = {row["id"]: row for row in read_jsonl(trial.samples)}
        samples = [by_id[example.id] for example in examples]
    else:
        conditions = [name for name in CONDITIONS if name != "shuffled_soft" or len(examples) > 1]
        samples = evaluator.evaluate(examples, translator, conditions)
    items = pair.encoder(examples)
    soft = evaluator.soft(items, translator)  # of all examples
    return [
        look(pair.target, item, soft.rows([i]), sample)
        for i, (item, sample) in enumerate(zip(items, samples, strict=True))
    ]


@torch.no_grad()
def look(lm: FrozenLM, item: Encoded, given: SoftContext, sample: dict[str, Any]) -> ExampleDiagnosis:
    """Diagnose one example from what the target is given for it, one row, and its scored outputs."""
    soft = given.tokens[0]  # (K, d_t)
    own = assemble(lm, [item.row.question()], given, pad="right")
    alone = assemble(lm, [item.text_row.question()], None, pad="right")
    cosine, nearest = nearest_tokens(lm, soft)  # (K,), (K,)
    count = inserted([item.row], given)
    names = [name for name in CONDITIONS if f"{name}_output" in sample]
    return ExampleDiagnosis(
        id=item.example.id,
        question=item.example.question,
        gold=item.example.gold,
        rms=(soft.pow(2).mean(-1).sqrt() / lm.embedding_rms).tolist(),
        nearest=[lm.tokenizer.decode([i]) for i in nearest.tolist()],
        cosine=cosine.tolist(),
        entropy_with=_first_entropy(lm, own),
        entropy_without=_first_entropy(lm, alone),
        attention=soft_attention(lm, own, count) if count else [],
        even_attention=count / own.embeds.shape[1],
        outputs={name: sample[f"{name}_output"] for name in names},
        correct={name: bool(sample[f"{name}_correct"]) for name in names},
    )


def nearest_tokens(lm: FrozenLM, soft: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine to, and id of, the target embedding nearest to each soft token, (K,) each."""
    table = F.normalize(lm.embedding.weight.to(torch.promote_types(lm.dtype, torch.float32)), dim=-1)  # (V, d_t)
    best = (F.normalize(soft, dim=-1).to(table.dtype) @ table.T).max(-1)  # (K,)
    return best.values, best.indices


def soft_attention(lm: FrozenLM, batch: Batch, count: int) -> list[float]:
    """Each layer's attention from the last place of a single row to its `count` soft tokens, mean over heads."""
    usual = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")  # the only one that gives its weights
    try:
        output = lm.model.base_model(
            inputs_embeds=batch.embeds,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            output_attentions=True,
            use_cache=False,
        )
    finally:
        lm.model.set_attn_implementation(usual)
    start = int(batch.soft_start[0])
    maps = [weights for weights in output.attentions or () if weights is not None]  # layers x (1, h, L, L)
    return [float(weights[0, :, -1, start : start + count].sum(-1).mean()) for weights in maps]


def _first_entropy(lm: FrozenLM, batch: Batch) -> float:
    hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, context=batch.context)  # (1, L, d_t)
    return float(torch.special.entr(lm.logits(hidden[0, -1]).softmax(-1)).sum())


def render(diagnoses: Sequence[ExampleDiagnosis]) -> str:
    """The diagnoses as text for a terminal or a Markdown file."""
    return "\n".join(line for diagnosis in diagnoses for line in _lines(diagnosis))


def _lines(one: ExampleDiagnosis) -> list[str]:
    words = ", ".join(f"{token!r} {cosine:.2f}" for token, cosine in zip(one.nearest, one.cosine, strict=True))
    layers = " ".join(f"{share:.2f}" for share in one.attention) or "none"
    K = len(one.rms)
    lines = [
        f"## {one.id}",
        "",
        f"{one.question}",
        f"gold: {one.gold}",
        "",
        f"- size of the {K} soft tokens over the median embedding's: {min(one.rms):.2f} to {max(one.rms):.2f}",
        f"- cosine to the nearest embedding: mean {sum(one.cosine) / K:.2f}; {words}",
        f"- entropy of the first token: {one.entropy_with:.2f} nats with them, {one.entropy_without:.2f} without",
        f"- attention on soft tokens by layer: {layers} (evenly spread: {one.even_attention:.2f})",
        "",
    ]
    for condition, text in one.outputs.items():
        verdict = "right" if one.correct[condition] else "wrong"
        lines += [f"{condition} ({verdict}):", *(f"    {line}" for line in text.strip().splitlines()), ""]
    return lines
