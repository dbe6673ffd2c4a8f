"""A linear map from one model's embedding space to another's, fitted on the vocabulary that both share.

It is where the learned projection of source states starts: two models that never met still agree on what ` has` is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_alignment import vocabulary_bytes
from ray_bridge.noise import generator

_PENALTIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)  # in units of the mean variance of a source dimension
_FEWEST = 20  # pairs below which nothing can be both fitted and held out


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """y = weight x + bias, and how well it was found to work.

    Attributes:
        weight: (d_t, d_s), float64, or fp32 where it was kept.
        bias: (d_t,), likewise.
        pairs: vocabulary strings that both models have.
        held_out_r2: share of the variance of target embeddings explained on a fifth of the pairs, kept out of the fit
            that is measured; 0 where there were too few pairs to fit.
    """

    weight: Tensor
    bias: Tensor
    pairs: int
    held_out_r2: float


Once = Callable[[Callable[[], EmbeddingMap]], EmbeddingMap]
"""Carries a fit out, or answers with what it found before, here or on another worker."""


def anew(fit: Callable[[], EmbeddingMap]) -> EmbeddingMap:
    """Fit here and now."""
    return fit()


def shared_embeddings(source: FrozenLM, target: FrozenLM) -> tuple[Tensor, Tensor]:
    """Embeddings of the strings in both vocabularies, (n, d_s) and (n, d_t) in float64 on the target's device."""
    of_source, of_target = vocabulary_bytes(source.tokenizer), vocabulary_bytes(target.tokenizer)
    sizes = len(source.embedding.weight), len(target.embedding.weight)
    both = [
        (of_source[text], of_target[text])
        for text in sorted(of_source.keys() & of_target.keys())
        if of_source[text] < sizes[0] and of_target[text] < sizes[1]
    ]
    ids = torch.tensor(both, dtype=torch.long).reshape(-1, 2)  # (n, 2)
    X = source.embedding.weight.detach()[ids[:, 0].to(source.device)].to(target.device).double()  # (n, d_s)
    Y = target.embedding.weight.detach()[ids[:, 1].to(target.device)].double()  # (n, d_t)
    used = (X.abs().amax(1) > 0) & (Y.abs().amax(1) > 0)  # (n,), rows that were never trained are zero in some models
    return X[used], Y[used]


def fit_map(X: Tensor, Y: Tensor, kind: Literal["ridge", "procrustes"]) -> EmbeddingMap:
    """Fit the map between paired embeddings.

    Args:
        X: (n, d_s), float64.
        Y: (n, d_t), float64.
        kind: ridge regression, its penalty chosen on a part of the fitted pairs, or orthogonal Procrustes
            (Schönemann 1966) with one scale.

    Returns:
        The map fitted on all pairs, with the R² of the same procedure on pairs it had not seen.
    """
    n, d_s = X.shape
    if n < _FEWEST:
        start = torch.empty(Y.shape[1], d_s, dtype=X.dtype)  # (d_t, d_s)
        torch.nn.init.orthogonal_(start, generator=generator("embedding map"))
        return EmbeddingMap(weight=start.to(X.device), bias=X.new_zeros(Y.shape[1]), pairs=n, held_out_r2=0.0)
    order = torch.randperm(n, generator=generator("held-out vocabulary")).to(X.device)  # (n,)
    held, rest = order[: n // 5], order[n // 5 :]
    solve = _ridge if kind == "ridge" else _procrustes
    r2 = _r2(*solve(X[rest], Y[rest]), X[held], Y[held])
    weight, bias = solve(X, Y)
    return EmbeddingMap(weight=weight, bias=bias, pairs=n, held_out_r2=r2)


def _ridge(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    part = len(X) // 5  # pairs come in random order, or in that of their bytes; every fifth serves as well
    judged = torch.zeros(len(X), dtype=torch.bool, device=X.device)  # (n,)
    judged[: part * 5 : 5] = True
    tried = _ridges(X[~judged], Y[~judged], _PENALTIES)
    scores = [_r2(*solution, X[judged], Y[judged]) for solution in tried]
    return next(_ridges(X, Y, [_PENALTIES[scores.index(max(scores))]]))


def _ridges(X: Tensor, Y: Tensor, penalties: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Solutions for penalties, whose products of n rows, nearly all of the work, are the same."""
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
    turned = (X - x) @ left @ right  # (n, d_t)
    scale = (turned * (Y - y)).sum() / turned.pow(2).sum()
    solution = scale * left @ right  # (d_s, d_t)
    return solution.T, y - x @ solution  # (d_t, d_s), (d_t,)


def _r2(weight: Tensor, bias: Tensor, X: Tensor, Y: Tensor) -> float:
    """One minus the ratio of the squared error to that of these targets' own mean, over all dimensions."""
    error = (Y - X @ weight.T - bias).pow(2).sum()
    return float(1 - error / (Y - Y.mean(0)).pow(2).sum())
