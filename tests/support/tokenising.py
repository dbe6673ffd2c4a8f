"""Token ids, byte spans and alignments of texts that are tokenised whole, to compare a job's encoding with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_bridge.models.token_alignment import ByteSpans, TokenAlignment, align_spans, spans_of
from ray_bridge.models.token_spelling import spelling_of


def token_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the ids of a text at the start of a sequence, without BOS and EOS."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def byte_spans(tokenizer: Any, text: str) -> NDArray[np.int64]:
    """Return the first and one past the last UTF-8 byte of each token, (tokens, 2)."""
    return spans_of(spelling_of(tokenizer), text, tokenizer(text, add_special_tokens=False).encodings[0])


def align_tokens(source: Any, target: Any, text: str, begin: int, end: int) -> TokenAlignment:
    """Align the tokens of two tokenizers over the characters [begin, end) of a text."""
    low, high = len(text[:begin].encode()), len(text[:end].encode())
    of_source, of_target = (ByteSpans(first=0, spans=byte_spans(tokenizer, text)) for tokenizer in (source, target))
    return align_spans(of_source, of_target, low, high)
