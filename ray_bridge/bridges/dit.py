"""The diffusion-transformer bridge (DiT, Peebles & Xie 2023): a flow over K slots, conditioned on source states."""

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.conditioner import Conditioner
from ray_bridge.bridges.layers import Attention, ExactScale, modulate, position_embedding, time_embedding
from ray_bridge.bridges.rectified_flow import flow_error, sample
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec


class Block(nn.Module):
    """One DiT block with adaLN-zero: its gates start at 0, so that every block starts as the identity.

    Args:
        width: w.
        heads: attention heads.
        cross: whether the slots also attend to the source tokens, through a gate of its own.
    """

    def __init__(self, width: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.cross = Attention(width, heads) if cross else None
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.num_modulations = 9 if cross else 6  # shift, scale and gate of each sub-layer
        self.modulation = nn.Linear(width, self.num_modulations * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor, context: Tensor | None, mask: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: (B, K, w).
            condition: (B, w).
            context: (B, S, w) source tokens, None without `cross`.
            mask: (B, S), 1 on tokens that may be read.

        Returns:
            (B, K, w).
        """
        width = x.shape[-1:]
        changes = self.modulation(F.silu(condition)).chunk(self.num_modulations, -1)  # num_modulations x (B, w)
        if self.cross is not None:
            shift, scale, gate = changes[6:]
            y = self.cross(modulate(F.layer_norm(x, width), shift, scale), context, mask)  # (B, K, w)
            x = x + gate[:, None] * y
        shift, scale, gate = changes[:3]
        x = x + gate[:, None] * self.attention(modulate(F.layer_norm(x, width), shift, scale))  # (B, K, w)
        shift, scale, gate = changes[3:6]
        return x + gate[:, None] * self.mlp(modulate(F.layer_norm(x, width), shift, scale))  # (B, K, w)


class DiTBridge(nn.Module):
    """Makes soft tokens by an N-step rectified flow whose network is conditioned on time and the source.

    Under `x1` prediction each slot has a learned prior, to which the zero-initialised head adds. Without it the first
    output would be 0, which has no direction and cannot be rescaled.

    Args:
        source_size: width of the states that it reads.
        target_size: d_t.
        target_rms: root mean square of the target's embeddings.
        soft_tokens: K.
        width: w, of the transformer.
        depth: number of blocks.
        heads: attention heads, also of attention pooling.
        steps: N, of the sampler.
        prediction: what the network predicts; see `rectified_flow.sample`.
        pooling: how source states become one condition; see `Conditioner`.
        cross: whether blocks also attend to the source tokens.
        guidance: scale of classifier-free guidance (Ho & Salimans 2022); 1 means none.
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
        """Compute moments of states (B, S, d_s) with mask (B, S); see `Conditioner.moments`."""
        return self.conditioner.moments(states, mask)

    def fit(self, moments: list[Moments]) -> None:
        """Set the statistics of the whitening layers; see `Conditioner.fit`."""
        self.conditioner.fit(moments)

    def conditioned_on(self, states: Tensor, mask: Tensor, dropped: Tensor | None = None) -> "ConditionedNetwork":
        """Return the network conditioned on source states.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
            dropped: (B,) bool, rows that get the null condition instead, to train classifier-free guidance; or None.
        """
        tokens, pooled = self.conditioner(states, mask)  # (B, S, w), (B, w)
        tokens = tokens + position_embedding(tokens) if self.cross and tokens is not None else None  # (B, S, w)
        if dropped is not None:
            null = self.null.to(pooled.dtype)  # (w,)
            pooled = torch.where(dropped[:, None], null, pooled)  # (B, w)
            if tokens is not None:
                tokens = torch.where(dropped[:, None, None], null, tokens)  # (B, S, w)
        return ConditionedNetwork(self, tokens, mask, pooled)

    def predict(self, x: Tensor, t: Tensor, tokens: Tensor | None, mask: Tensor, pooled: Tensor) -> Tensor:
        """Evaluate the network once.

        Args:
            x: (B, K, d_t), x_t.
            t: (B,).
            tokens: (B, S, w) source tokens, None without cross-attention.
            mask: (B, S).
            pooled: (B, w) condition.

        Returns:
            (B, K, d_t), x1 or velocity.
        """
        condition = pooled + self.time(time_embedding(t, pooled.shape[-1]))  # (B, w)
        y = self.enter(x) + self.slots  # (B, K, w)
        for block in self.blocks:
            y = block(y, condition, tokens, mask)
        shift, scale = self.final(F.silu(condition)).chunk(2, -1)  # (B, w) each
        output = self.head(modulate(F.layer_norm(y, y.shape[-1:]), shift, scale))  # (B, K, d_t)
        return output if self.prior is None else output + self.prior

    def forward(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Make soft tokens at the target's scale.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
            noise: (B, K, d_t), standard normal.
            dropped: (B,) bool, rows that get the null condition, or None.

        Returns:
            (B, K, d_t).
        """
        conditioned = self.conditioned_on(states, mask, dropped)
        if self.guidance == 1:
            return self.scale(sample(conditioned, noise, self.steps, self.prediction))
        unconditioned = conditioned.without_condition()

        def guided(x: Tensor, t: Tensor) -> Tensor:
            free = unconditioned(x, t)  # (B, K, d_t)
            return free + self.guidance * (conditioned(x, t) - free)  # (B, K, d_t)

        return self.scale(sample(guided, noise, self.steps, self.prediction))

    def flow_loss(
        self, states: Tensor, mask: Tensor, data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor | None = None
    ) -> Tensor:
        """Return the flow-matching error of each row, (B,), for data (B, K, d_t) at unit RMS; see `flow_error`."""
        return flow_error(self.conditioned_on(states, mask, dropped), data, noise, times, self.prediction)


class CrossAttendingDiT(DiTBridge):
    """A DiT whose slots also attend to every token of the source."""

    @classmethod
    def from_spec(cls, spec: JobSpec, **sizes: Any) -> Self:
        """Make the bridge that a job asks for; see `Bridge.from_spec`."""
        return super().from_spec(spec, **sizes, cross=True)


class ConditionedNetwork:
    """A bridge's network with its condition filled in, as `rectified_flow.Network` asks for."""

    def __init__(self, bridge: DiTBridge, tokens: Tensor | None, mask: Tensor, pooled: Tensor) -> None:
        self.bridge, self.tokens, self.mask, self.pooled = bridge, tokens, mask, pooled

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate it, x_t (B, K, d_t) at t (B,) -> (B, K, d_t)."""
        return self.bridge.predict(x, t, self.tokens, self.mask, self.pooled)

    def without_condition(self) -> "ConditionedNetwork":
        """Return the same network with the null condition in every row."""
        null = self.bridge.null.to(self.pooled.dtype)
        tokens = None if self.tokens is None else null.expand_as(self.tokens)
        return ConditionedNetwork(self.bridge, tokens, self.mask, null.expand_as(self.pooled))
