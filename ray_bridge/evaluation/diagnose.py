"""Diagnose a trained translator on a few examples, where an accuracy does not say why.

For each example: the size of the soft tokens and the words nearest to them, the entropy of the target's first answer
token with and without them, the attention that they get there, and the outputs of all conditions side by side.
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
from bridge_common.visible_text import visible
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.selection import CHECKPOINT, load_translator
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.layout import Batch, assemble, inserted_tokens
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.tasks.splits import load_splits


@dataclass(frozen=True, kw_only=True)
class ExampleDiagnosis:
    """What the soft tokens of one example are and do.

    Attributes:
        id: the example's id.
        question: the question.
        gold: the right answer.
        rms: (K,), root mean square of each soft token over the median of the target's embeddings.
        nearest: (K,), the target token whose embedding has the largest cosine with each soft token.
        cosine: (K,), that cosine.
        entropy_with: entropy of the first answer token's distribution with soft tokens, in nats.
        entropy_without: the same without them.
        attention: (layers,), share of attention that the last position of the prompt gives to soft tokens, mean over
            heads; empty if the model returns no attention weights or no soft tokens are in its sequence.
        even_attention: that share if attention were spread evenly over all positions.
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
    """Diagnose a trial's selected checkpoint on the first test examples.

    Args:
        folder: the trial's folder, with spec.json and selected/.
        count: number of examples.
        device: where the models run.
        cache: folder of outputs that trials share, read if the trial has no samples.jsonl.

    Raises:
        UserError: if the folder is no trial's, or the trial has not selected a checkpoint yet.
    """
    folder = Path(folder)
    trial = TrialFolder(folder)
    record = trial.spec()
    if record is None:
        raise UserError(f"no spec.json in {folder}: name a trial's folder, STORAGE/CAMPAIGN/trials/VARIANT-ID")
    trial.require_selected()
    spec = build(JobSpec, record["spec"])
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device(device)).for_evaluation()
    translator = load_translator(spec, pair.source, pair.target, folder / CHECKPOINT)
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
        diagnose_example(pair.target, item, soft.rows([i]), sample)
        for i, (item, sample) in enumerate(zip(items, samples, strict=True))
    ]


@torch.no_grad()
def diagnose_example(lm: FrozenLM, item: Encoded, soft: SoftContext, sample: dict[str, Any]) -> ExampleDiagnosis:
    """Diagnose one example.

    Args:
        lm: the target.
        item: the example.
        soft: its soft tokens, (1, K, d_t), and the adapters that read them.
        sample: its row of samples.jsonl.
    """
    tokens = soft.tokens[0]  # (K, d_t)
    with_soft = assemble(lm, [item.row.without_answer()], soft, pad="right")
    text_only = assemble(lm, [item.text_row.without_answer()], None, pad="right")
    cosine, nearest = nearest_tokens(lm, tokens)  # (K,), (K,)
    count = inserted_tokens([item.row], soft)
    names = [name for name in CONDITIONS if f"{name}_output" in sample]
    return ExampleDiagnosis(
        id=item.example.id,
        question=item.example.question,
        gold=item.example.gold,
        rms=(tokens.pow(2).mean(-1).sqrt() / lm.embedding_rms).tolist(),
        nearest=[lm.tokenizer.decode([i]) for i in nearest.tolist()],
        cosine=cosine.tolist(),
        entropy_with=_first_entropy(lm, with_soft),
        entropy_without=_first_entropy(lm, text_only),
        attention=soft_attention(lm, with_soft, count) if count else [],
        even_attention=count / with_soft.embeds.shape[1],
        outputs={name: sample[f"{name}_output"] for name in names},
        correct={name: bool(sample[f"{name}_correct"]) for name in names},
    )


def nearest_tokens(lm: FrozenLM, soft: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest cosine of each soft token (K, d_t) with the target's embeddings, and the token's id, (K,)."""
    table = F.normalize(lm.embedding_table().to(torch.promote_types(lm.dtype, torch.float32)), dim=-1)  # (V, d_t)
    best = (F.normalize(soft, dim=-1).to(table.dtype) @ table.T).max(-1)  # (K,)
    return best.values, best.indices


def soft_attention(lm: FrozenLM, batch: Batch, count: int) -> list[float]:
    """Return each layer's attention from a single row's last position to its `count` soft tokens, mean over heads."""
    usual = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")  # the only one that returns its weights
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
    """Render diagnoses as Markdown, which also reads well in a terminal."""
    return visible("\n".join(line for diagnosis in diagnoses for line in _lines(diagnosis)))


def _lines(example: ExampleDiagnosis) -> list[str]:
    words = ", ".join(f"{token!r} {cosine:.2f}" for token, cosine in zip(example.nearest, example.cosine, strict=True))
    layers = " ".join(f"{share:.2f}" for share in example.attention) or "none"
    K = len(example.rms)
    lines = [
        f"## {example.id}",
        "",
        f"{example.question}",
        f"gold: {example.gold}",
        "",
        f"- size of the {K} soft tokens over the median embedding's: {min(example.rms):.2f} to {max(example.rms):.2f}",
        f"- cosine to the nearest embedding: mean {sum(example.cosine) / K:.2f}; {words}",
        f"- entropy of the first token: {example.entropy_with:.2f} nats with them, "
        f"{example.entropy_without:.2f} without",
        f"- attention on soft tokens by layer: {layers} (evenly spread: {example.even_attention:.2f})",
        "",
    ]
    for condition, text in example.outputs.items():
        verdict = "right" if example.correct[condition] else "wrong"
        lines += [f"{condition} ({verdict}):", *(f"    {line}" for line in text.strip().splitlines()), ""]
    return lines
