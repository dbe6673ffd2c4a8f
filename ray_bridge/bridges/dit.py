"""The diffusion-transformer bridge (DiT, Peebles & Xie 2023): a flow over K slots, conditioned on source states."""

from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.conditioner import Conditioner
from ray_bridge.bridges.layers import Attention, ExactScale, ResidualStream, position_embedding, time_embedding
from ray_bridge.bridges.rectified_flow import euler_step, flow_error, interpolate, sample, squared_error
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec

OVERRIDABLE = ("forward", "flow_loss", "conditioned_on", "predict", "modulations", "modulated")
"""Methods that say what soft tokens and flow loss are: a subclass with one of its own computes them one by one."""


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

    def forward(self, stream: ResidualStream, modulations: Tensor, context: Tensor | None, mask: Tensor) -> None:
        """Apply the block to the residual stream of K slots.

        Args:
            stream: of B examples.
            modulations: (B, num_modulations * w), what `modulation` makes of the condition.
            context: (B, S, w) source tokens, None without `cross`.
            mask: (B, S), 1 on tokens that may be read.
        """
        parts = modulations.chunk(self.num_modulations, -1)  # num_modulations x (B, w)
        if self.cross is not None:
            shift, scale, gate = parts[6:]
            stream.add(gate, self.cross(stream.read(shift, scale), context, mask))
        shift, scale, gate = parts[:3]
        stream.add(gate, self.attention(stream.read(shift, scale)))
        shift, scale, gate = parts[3:6]
        stream.add(gate, self.mlp(stream.read(shift, scale)))


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
        self.steps, self.prediction, self.guidance, self.cross, self.heads = steps, prediction, guidance, cross, heads
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
        return ConditionedNetwork(self, tokens, mask, pooled).without_condition_in(dropped)

    def modulations(self, t: Tensor, pooled: Tensor) -> list[Tensor]:
        """Return the shifts, scales and gates of each block, and the shift and scale before the head.

        Args:
            t: (B,).
            pooled: (B, w) condition.

        Returns:
            (B, num_modulations * w) a block, and (B, 2 w).
        """
        condition = pooled + self.time(time_embedding(t, pooled.shape[-1]))  # (B, w)
        layers = [*(cast(Block, block).modulation for block in self.blocks), self.final]
        return [layer(F.silu(condition)) for layer in layers]

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
        return self.modulated(x, self.modulations(t, pooled), tokens, mask)

    def modulated(self, x: Tensor, modulations: Sequence[Tensor], tokens: Tensor | None, mask: Tensor) -> Tensor:
        """Evaluate the network once, as `predict`, with the `modulations` of its B rows."""
        stream = ResidualStream(self.enter(x) + self.slots, self.heads)
        for block, own in zip(self.blocks, modulations, strict=False):
            block(stream, own, tokens, mask)
        output = self.head(stream.read(*modulations[-1].chunk(2, -1)))  # (B, K, d_t)
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

    def soft_and_flow_loss(
        self,
        states: Tensor,
        mask: Tensor,
        start: Tensor,
        data: Tensor,
        noise: Tensor,
        times: Tensor,
        dropped: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute what `forward` makes of `start`, and `flow_loss`, in N batches of rows instead of N + 1.

        The flow's prediction needs nothing of the sampler. So its rows are evaluated beside those of the sampler's
        first step, and the modulations of all rows are one product a layer. Under guidance, and for a subclass that
        computes any of it in its own way, both are computed one after the other.

        Args:
            states: (B, S, d_s).
            mask: (B, S), 1 on tokens that may be read.
            start: (B, K, d_t), standard normal, from which the sampler starts.
            data: (B, K, d_t) at unit RMS.
            noise: (B, K, d_t), standard normal, of the flow.
            times: (B,), of the flow.
            dropped: (B,) bool, rows whose flow gets the null condition, or None.

        Returns:
            Soft tokens (B, K, d_t) and the flow loss of each row, (B,).
        """
        own = any(getattr(type(self), name) is not getattr(DiTBridge, name) for name in OVERRIDABLE)
        if own or self.guidance != 1:
            return self(states, mask, start), self.flow_loss(states, mask, data, noise, times, dropped)
        sampled = self.conditioned_on(states, mask)
        flowing = sampled.without_condition_in(dropped)
        rows, steps, data = len(start), self.steps, data.detach()
        # In fp64 first: a GPU divides by a number as it multiplies by its inverse, and would miss i / N by a bit.
        at = (torch.arange(steps, dtype=torch.float64, device=times.device) / steps).to(times.dtype)  # (N,)
        at = at.repeat_interleave(rows, output_size=steps * rows)  # (N B,)
        t = torch.cat([at[:rows], times, at[rows:]])  # ((N + 1) B,)
        pooled = torch.cat([sampled.pooled, flowing.pooled, sampled.pooled.repeat(steps - 1, 1)])  # ((N + 1) B, w)
        sizes = [2 * rows, *[rows] * (steps - 1)]
        modulations = list(zip(*(part.split(sizes) for part in self.modulations(t, pooled)), strict=True))
        tokens = None
        if sampled.tokens is not None and flowing.tokens is not None:
            tokens = torch.cat([sampled.tokens, flowing.tokens])  # (2 B, S, w)
        both = torch.cat([start, interpolate(data, noise, times)])  # (2 B, K, d_t)
        first = self.modulated(both, modulations[0], tokens, mask.repeat(2, 1))  # (2 B, K, d_t)
        output, predicted = first.split(rows)  # (B, K, d_t) each
        x = euler_step(start, output, 0, steps, self.prediction)  # (B, K, d_t)
        for i in range(1, steps):
            output = self.modulated(x, modulations[i], sampled.tokens, mask)  # (B, K, d_t)
            x = euler_step(x, output, i, steps, self.prediction)  # (B, K, d_t)
        return self.scale(x), squared_error(predicted, data, noise, self.prediction)


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

    def without_condition_in(self, dropped: Tensor | None) -> "ConditionedNetwork":
        """Return the same network with the null condition in some rows, (B,) bool."""
        if dropped is None:
            return self
        null = self.bridge.null.to(self.pooled.dtype)  # (w,)
        pooled = torch.where(dropped[:, None], null, self.pooled)  # (B, w)
        tokens = None if self.tokens is None else torch.where(dropped[:, None, None], null, self.tokens)  # (B, S, w)
        return ConditionedNetwork(self.bridge, tokens, self.mask, pooled)
