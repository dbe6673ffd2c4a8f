"""A linear map from one model's embedding space to another's, fitted on the vocabulary that both share.

The learned projection of source states starts from it: models that were trained apart still share tokens like ` has`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_spelling import vocabulary_bytes
from ray_bridge.noise import generator

_PENALTIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)  # in units of the mean variance of a source dimension
_MIN_PAIRS = 20  # fewer cannot be both fitted and held out


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """The map y = weight x + bias, and how well it predicts embeddings that it was not fitted on.

    Attributes:
        weight: (d_t, d_s), float64, or fp32 if it was read from a file.
        bias: (d_t,), likewise.
        pairs: number of vocabulary strings that both models have.
        held_out_r2: share of the target embeddings' variance that a fit on four fifths of the pairs explains on the
            fifth that was held out; 0 if there were too few pairs to fit.
    """

    weight: Tensor
    bias: Tensor
    pairs: int
    held_out_r2: float


FitOnce = Callable[[Callable[[], EmbeddingMap]], EmbeddingMap]
"""Runs a fit, or returns its earlier result, from this worker or another."""


def fit_here(fit: Callable[[], EmbeddingMap]) -> EmbeddingMap:
    """Run the fit in this process, whatever was fitted before."""
    return fit()


def shared_embeddings(source: FrozenLM, target: FrozenLM) -> tuple[Tensor, Tensor]:
    """Return the embeddings of strings in both vocabularies, (n, d_s) and (n, d_t), float64 on the target's device."""
    of_source, of_target = vocabulary_bytes(source.tokenizer), vocabulary_bytes(target.tokenizer)
    sizes = len(source.embedding.weight), len(target.embedding.weight)
    both = [
        (of_source[text], of_target[text])
        for text in sorted(of_source.keys() & of_target.keys())
        if of_source[text] < sizes[0] and of_target[text] < sizes[1]
    ]
    ids = torch.tensor(both, dtype=torch.long).reshape(-1, 2)  # (n, 2)
    with torch.no_grad():
        X = source.embed(ids[:, 0].to(source.device)).to(target.device).double()  # (n, d_s)
        Y = target.embed(ids[:, 1].to(target.device)).double()  # (n, d_t)
    trained = (X.abs().amax(1) > 0) & (Y.abs().amax(1) > 0)  # (n,), untrained rows are zero in some models
    return X[trained], Y[trained]


def fit_map(X: Tensor, Y: Tensor, method: Literal["ridge", "procrustes"]) -> EmbeddingMap:
    """Fit the map between paired embeddings.

    Args:
        X: (n, d_s), float64.
        Y: (n, d_t), float64.
        method: ridge regression, whose penalty is chosen on a part of the fitted pairs, or orthogonal Procrustes
            (Schönemann 1966) with one scale.

    Returns:
        The map fitted on all pairs, with the R² of the same procedure on held-out pairs.
    """
    n, d_s = X.shape
    if n < _MIN_PAIRS:
        start = torch.empty(Y.shape[1], d_s, dtype=X.dtype)  # (d_t, d_s)
        torch.nn.init.orthogonal_(start, generator=generator("embedding map"))
        return EmbeddingMap(weight=start.to(X.device), bias=X.new_zeros(Y.shape[1]), pairs=n, held_out_r2=0.0)
    order = torch.randperm(n, generator=generator("held-out vocabulary")).to(X.device)  # (n,)
    held_out, rest = order[: n // 5], order[n // 5 :]
    solve = _ridge if method == "ridge" else _procrustes
    r2 = _r2(*solve(X[rest], Y[rest]), X[held_out], Y[held_out])
    weight, bias = solve(X, Y)
    return EmbeddingMap(weight=weight, bias=bias, pairs=n, held_out_r2=r2)


def _ridge(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    part = len(X) // 5  # pairs are in random order, or in that of their bytes; every fifth is as good a sample
    held_out = torch.zeros(len(X), dtype=torch.bool, device=X.device)  # (n,)
    held_out[: part * 5 : 5] = True
    candidates = _ridges(X[~held_out], Y[~held_out], _PENALTIES)
    scores = [_r2(*candidate, X[held_out], Y[held_out]) for candidate in candidates]
    return next(_ridges(X, Y, [_PENALTIES[scores.index(max(scores))]]))


def _ridges(X: Tensor, Y: Tensor, penalties: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the solution for each penalty; they share the products of n rows, which are nearly all of the work."""
    x, y = X.mean(0), Y.mean(0)  # (d_s,), (d_t,)
    square = (X - x).T @ (X - x)  # (d_s, d_s)
    product = (X - x).T @ (Y - y)  # (d_s, d_t)
    for penalty in penalties:
        ridge = penalty * square.diagonal().mean() * torch.eye(len(square), dtype=X.dtype, device=X.device)
        solution = torch.cholesky_solve(product, torch.linalg.cholesky(square + ridge))  # (d_s, d_t)
        yield solution.T, y - x @ solution  # (d_t, d_s), (d_t,)


def _procrustes(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = X.mean(0), Y.mean(0)  # (d_s,), (d_t,)
    left, _, right = torch.linalg.svd((X - x).T @ (Y - y), full_matrices=False)
    rotated = (X - x) @ left @ right  # (n, d_t)
    scale = (rotated * (Y - y)).sum() / rotated.pow(2).sum()
    solution = scale * left @ right  # (d_s, d_t)
    return solution.T, y - x @ solution  # (d_t, d_s), (d_t,)


def _r2(weight: Tensor, bias: Tensor, X: Tensor, Y: Tensor) -> float:
    """Return one minus the squared error over that of predicting the mean of Y, over all dimensions."""
    error = (Y - X @ weight.T - bias).pow(2).sum()
    return float(1 - error / (Y - Y.mean(0)).pow(2).sum())
