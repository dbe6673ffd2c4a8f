"""Soft tokens at exactly the size of the target's own embeddings, whatever the bridge puts out."""

import torch
from torch import Tensor, nn


class ExactScale(nn.Module):
    """Rescales each token to a given root mean square, times one learned gain that starts at 1."""

    def __init__(self, rms: float) -> None:
        super().__init__()
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor(rms), persistent=False)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        """(B, K, d_t) -> (B, K, d_t), each token's RMS equal to rms * |gain|."""
        size = z.pow(2).mean(-1, keepdim=True).sqrt()  # (B, K, 1)
        return z * (self.rms * self.gain / size)  # (B, K, d_t)
