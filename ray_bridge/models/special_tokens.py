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
    """Return the special tokens of a model; ids that its embedding has no row for are not taken.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        name: of the model, for messages.

    Raises:
        UserError: if neither tokenizer nor configs name an end-of-sequence token.
    """
    config = model.config.get_text_config()
    generation = getattr(model, "generation_config", None) or config
    vocabulary = model.get_input_embeddings().weight.shape[0]  # tokenizers and configs may name ids beyond it

    def known(named: int | Sequence[int] | None) -> list[int]:
        return [i for i in _ids(named) if 0 <= i < vocabulary]

    of_model = [*known(config.eos_token_id), *known(generation.eos_token_id)]
    eos = _end_of_sequence(known(tokenizer.eos_token_id), of_model, name)
    return SpecialTokens(
        bos=[*known(tokenizer.bos_token_id), *known(config.bos_token_id), eos][0],
        eos=eos,
        ends=frozenset({eos, *of_model}),
        pad=[*known(tokenizer.pad_token_id), eos][0],
    )


def _end_of_sequence(of_tokenizer: Sequence[int], of_model: Sequence[int], name: str) -> int:
    if of_tokenizer:
        return of_tokenizer[0]
    if not of_model:
        raise UserError(
            f"{name} names no end-of-sequence token of its vocabulary: set eos_token in its tokenizer_config.json"
        )
    warnings.warn(
        f"{name}: the tokenizer names no end-of-sequence token; {of_model[0]} of the model is used", stacklevel=4
    )
    return of_model[0]


def _ids(named: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the token ids that a config names: none, one or several."""
    return () if named is None else (named,) if isinstance(named, int) else tuple(named)
