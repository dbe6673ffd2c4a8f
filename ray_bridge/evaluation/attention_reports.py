"""What a job records of its bridge's attention at each validation: metrics, and heat maps in the trial's folder."""

from collections.abc import Sequence
from pathlib import Path

from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.evaluation.cross_attention_report import cross_attention_report
from ray_bridge.evaluation.pooling_report import pooling_report
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.task import Example


def report_attention(
    pair: ModelPair,
    translator: TranslatorModule,
    examples: Sequence[Example],
    folder: Path,
    step: int,
    *,
    last: bool,
) -> tuple[dict[str, float], list[str]]:
    """Compute metrics of attention pooling and of attention to all tokens, and draw their heat maps.

    Args:
        pair: the models that read the examples, in evaluation's arithmetic.
        translator: whose bridge may pool by attention, or attend to all tokens.
        examples: the validation examples.
        folder: the trial's, in which pictures are written.
        step: the training step, in the pictures' names.
        last: whether this is the end of training, when attention to all tokens is pictured.

    Returns:
        The metrics, and the pictures by their paths in the folder.

    Raises:
        UserError: if the source has no such layer.
    """
    pooling, cross = (Path("diagnostics") / f"{name}-{step:06d}.png" for name in ("pooling", "cross-attention"))
    values = pooling_report(pair, translator, examples, folder / pooling)
    pictures = [str(pooling)] if values else []
    across = cross_attention_report(pair, translator, examples, folder / cross if last else None)
    return values | across, [*pictures, *([str(cross)] if across and last else [])]
