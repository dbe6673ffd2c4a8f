"""The diffusion-transformer bridge (DiT, Peebles & Xie 2023): pooled source states steer a flow over K slots."""

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.conditioner import Conditioner
from ray_bridge.bridges.layers import Attention, ExactScale, modulate, sinusoids, time_features
from ray_bridge.bridges.rectified_flow import flow_error, sample
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec


class Block(nn.Module):
    """One DiT block with adaLN-zero: its gates start at 0, so every block starts as the identity.

    With `cross` the slots also attend to the source sequence (the hybrid bridge); that path opens by its own gate.
    """

    def __init__(self, width: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.cross = Attention(width, heads) if cross else None
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.parts = 9 if cross else 6
        self.modulation = nn.Linear(width, self.parts * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor, context: Tensor | None, mask: Tensor) -> Tensor:
        """x (B, K, w), condition (B, w), context (B, S, w) where it is read, mask (B, S) -> (B, K, w)."""
        width = x.shape[-1:]
        changes = self.modulation(F.silu(condition)).chunk(self.parts, -1)  # parts x (B, w)
        if self.cross is not None:
            shift, scale, gate = changes[6:]
            y = self.cross(modulate(F.layer_norm(x, width), shift, scale), context, mask)  # (B, K, w)
            x = x + gate[:, None] * y
        shift, scale, gate = changes[:3]
        x = x + gate[:, None] * self.attention(modulate(F.layer_norm(x, width), shift, scale))  # (B, K, w)
        shift, scale, gate = changes[3:6]
        return x + gate[:, None] * self.mlp(modulate(F.layer_norm(x, width), shift, scale))  # (B, K, w)


class DiTBridge(nn.Module):
    """Soft tokens by an N-step rectified flow whose network sees time and the source's condition.

    Under `x1` prediction each slot has a learned prior to which the zero-initialised head adds: without it the first
    output would be 0, which has no direction to rescale.
    """

    def __init__(
        self,
        *,
        source_size: int,
        target_size: int,
        target_rms: float,
        soft_tokens: int,
        width: int,
        depth: int,
        heads: int,
        steps: int,
        prediction: Literal["x1", "velocity"],
        pooling: Literal["mean", "attention"],
        cross: bool,
        guidance: float,
    ) -> None:
        super().__init__()
        self.steps, self.prediction, self.guidance, self.cross = steps, prediction, guidance, cross
        self.conditioner = Conditioner(source_size, width, pooling, heads, sequence=cross)
        self.null = nn.Parameter(torch.zeros(width))  # the condition of rows without one
        self.enter = nn.Linear(target_size, width)
        self.slots = nn.Parameter(torch.randn(soft_tokens, width))
        with torch.no_grad():
            self.enter.weight.mul_(0.1)  # slots must tell each other apart from the start, through the noise
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads, cross) for _ in range(depth))
        self.final = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, target_size)
        for layer in (self.final, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.prior = nn.Parameter(torch.randn(soft_tokens, target_size)) if prediction == "x1" else None
        self.scale = ExactScale(target_rms)

    @classmethod
    def from_spec(
        cls, spec: JobSpec, *, source_size: int, target_size: int, target_rms: float, cross: bool = False
    ) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`. With `cross` its slots attend to the source."""
        return cls(
            source_size=source_size,
            target_size=target_size,
            target_rms=target_rms,
            soft_tokens=spec.soft_tokens,
            width=spec.hidden_size,
            depth=spec.depth,
            heads=spec.num_heads,
            steps=spec.sampler_steps,
            prediction=spec.flow_prediction,
            pooling=spec.pooling,
            cross=cross,
            guidance=spec.guidance_scale,
        )

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """See `Conditioner.moments`."""
        return self.conditioner.moments(states, mask)

    def fit(self, moments: list[Moments]) -> None:
        """See `Conditioner.fit`."""
        self.conditioner.fit(moments)

    def condition(self, states: Tensor, mask: Tensor, dropped: Tensor | None = None) -> "Condition":
        """What the network knows of the source.

        Args:
            states: (B, S, d_s) source states.
            mask: (B, S), 1 on tokens that may be used.
            dropped: (B,) bool, rows whose condition is withheld (classifier-free guidance's training).
        """
        tokens, pooled = self.conditioner(states, mask)  # (B, S, w), (B, w)
        tokens = tokens + sinusoids(tokens) if self.cross and tokens is not None else None  # (B, S, w)
        if dropped is not None:
            null = self.null.to(pooled.dtype)  # (w,)
            pooled = torch.where(dropped[:, None], null, pooled)  # (B, w)
            if tokens is not None:
                tokens = torch.where(dropped[:, None, None], null, tokens)  # (B, S, w)
        return Condition(self, tokens, mask, pooled)

    def network(self, x: Tensor, t: Tensor, condition: "Condition") -> Tensor:
        """One evaluation, x_t (B, K, d_t) at t (B,) -> x1 or velocity (B, K, d_t)."""
        signal = condition.pooled + self.time(time_features(t, condition.pooled.shape[-1]))  # (B, w)
        y = self.enter(x) + self.slots  # (B, K, w)
        for block in self.blocks:
            y = block(y, signal, condition.tokens, condition.mask)
        shift, scale = self.final(F.silu(signal)).chunk(2, -1)  # (B, w) each
        output = self.head(modulate(F.layer_norm(y, y.shape[-1:]), shift, scale))  # (B, K, d_t)
        return output if self.prior is None else output + self.prior

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Soft tokens at the target's scale.

        Args:
            states: (B, S, d_s).
            mask: (B, S).
            noise: (B, K, d_t), standard normal.
            dropped: (B,) bool or None.

        Returns:
            (B, K, d_t).
        """
        condition = self.condition(states, mask, dropped)
        if self.guidance == 1:
            return self.scale(sample(condition, noise, self.steps, self.prediction))
        without = condition.withheld()

        def guided(x: Tensor, t: Tensor) -> Tensor:
            free = without(x, t)  # (B, K, d_t)
            return free + self.guidance * (condition(x, t) - free)  # (B, K, d_t)

        return self.scale(sample(guided, noise, self.steps, self.prediction))

    def flow_loss(
        self, states: Tensor, mask: Tensor, data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor | None = None
    ) -> Tensor:
        """The auxiliary loss that makes this a flow, (B,): see `flow_error`; data (B, K, d_t) at unit RMS."""
        return flow_error(self.condition(states, mask, dropped), data, noise, times, self.prediction)


class CrossAttendingDiT(DiTBridge):
    """A DiT whose slots also attend to every token of the source."""

    @classmethod
    def from_spec(cls, spec: JobSpec, **sizes: Any) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`."""
        return super().from_spec(spec, **sizes, cross=True)


class Condition:
    """The network with what it knows of the source filled in: a `flow.Network`."""

    def __init__(self, bridge: DiTBridge, tokens: Tensor | None, mask: Tensor, pooled: Tensor) -> None:
        self.bridge, self.tokens, self.mask, self.pooled = bridge, tokens, mask, pooled

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.bridge.network(x, t, self)

    def withheld(self) -> "Condition":
        """The same rows without a condition."""
        null = self.bridge.null.to(self.pooled.dtype)
        tokens = None if self.tokens is None else null.expand_as(self.tokens)
        return Condition(self.bridge, tokens, self.mask, null.expand_as(self.pooled))
