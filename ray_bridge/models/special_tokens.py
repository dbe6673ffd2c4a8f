"""The ids that open, end and pad a model's sequences, from its tokenizer, its config and its generation config."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge_common.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Ids with a meaning of their own.

    Attributes:
        bos: opens every sequence (the end-of-text id if neither tokenizer nor config names a BOS).
        eos: ends an answer in training.
        ends: all ids that end a text: of tokenizer, config and generation config.
        pad: fills a batch.
    """

    bos: int
    eos: int
    ends: frozenset[int]
    pad: int


def special_tokens(model: Any, tokenizer: Any, name: str) -> SpecialTokens:
    """Return the special tokens of a model.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        name: of the model, for messages.

    Raises:
        UserError: if neither tokenizer nor config names an end-of-sequence token.
    """
    config = model.config.get_text_config()
    generation = getattr(model, "generation_config", None) or config
    eos = _end_of_sequence(tokenizer.eos_token_id, config.eos_token_id, name)
    vocabulary = model.get_input_embeddings().weight.shape[0]  # a config's default may name ids beyond it
    configured = [i for i in _ids(config.bos_token_id) if i < vocabulary]
    return SpecialTokens(
        bos=tokenizer.bos_token_id if tokenizer.bos_token_id is not None else [*configured, eos][0],
        eos=eos,
        ends=frozenset({eos, *_ids(config.eos_token_id), *_ids(generation.eos_token_id)}),
        pad=eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )


def _end_of_sequence(from_tokenizer: int | None, from_config: Any, name: str) -> int:
    if from_tokenizer is not None:
        return from_tokenizer
    first = from_config[0] if isinstance(from_config, list) else from_config
    if first is None:
        raise UserError(f"{name} names no end-of-sequence token: set eos_token in its tokenizer_config.json")
    warnings.warn(f"{name}: the tokenizer names no end-of-sequence token; {first} of the model is used", stacklevel=4)
    return int(first)


def _ids(named: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the token ids that a config names: none, one or several."""
    return () if named is None else (named,) if isinstance(named, int) else tuple(named)
