"""What a translator refuses in one line: a missing device, other models, a question that is too long."""

import torch

from bridge_common.errors import UserError
from ray_bridge.footprint.context import TooLongError, too_long
from ray_bridge.inference.saved import SavedTranslator
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.identity import ModelIdentity


def device_of(device: torch.device | str | None) -> torch.device:
    """Return the device that is asked for; None for a GPU if there is one.

    Raises:
        UserError: if there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"device={device!r}: use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise UserError(f"device={device}: torch sees {torch.cuda.device_count()} GPUs here; use cpu")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={device}: use cpu, cuda or cuda:N")
    return device


def check_identity(role: str, lm: FrozenLM, expected: ModelIdentity, saved: SavedTranslator) -> None:
    """Refuse a model that is not the one of training.

    Raises:
        UserError: if its weights, tokenizer or chat template differ.
    """
    if differs := expected.differences(lm.identity):
        what = " and ".join(name.replace("_", " ") for name in differs)
        raise UserError(
            f"{lm.name} is not the {role} that {saved.folder.name} was trained with (other {what}): give that one "
            f"with {role}=PLACE"
        )


def check_question(pair: ModelPair, item: Encoded, new_tokens: int) -> int:
    """Refuse a question that a model cannot read; return how many positions the target reads for it.

    Args:
        pair: the models.
        item: the question.
        new_tokens: most tokens of its answer.

    Raises:
        TooLongError: if the source's prompt with its latent steps, or the target's with the answer, is longer than the
            model's context.
    """
    source, target = pair.source, pair.target
    inserted = pair.spec.soft_tokens if item.row.injection == "prepend" else 0
    positions = len(item.row.before) + len(item.row.prompt) + inserted
    asked, steps = "the question with its prompt", pair.spec.latent_steps
    thought = f"{asked} and {steps} latent steps" if steps else asked
    problem = too_long(source.name, source.context, len(item.source_ids) + steps, thought) or too_long(
        target.name, target.context, positions + new_tokens, f"{asked} and {new_tokens} new tokens"
    )
    if problem:
        raise TooLongError(f"{problem}: ask a shorter question, or for fewer new tokens")
    return positions
