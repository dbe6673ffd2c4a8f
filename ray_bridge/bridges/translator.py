"""The trained part of a job, from the states of the source to the soft tokens that the target reads."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_common.errors import UserError
from ray_bridge.bridges.c2c import CacheReader
from ray_bridge.bridges.dit import DiTBridge
from ray_bridge.bridges.geometry_projection import GeometryProjection
from ray_bridge.bridges.injection import Injection
from ray_bridge.bridges.layers import Attention, ExactScale
from ray_bridge.bridges.linear import LinearBridge
from ray_bridge.bridges.registry import BRIDGES
from ray_bridge.bridges.slot_regression import SlotSums
from ray_bridge.bridges.whitening import Moments
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.models.embedding_map import FitOnce, fit_here
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import stable_seed, uniform

HELD_OUT = 0.1
"""Share of the prompts that choose the strength of a regression."""


class Bridge(Protocol):
    """A network from source states to soft tokens; it is also an `nn.Module`.

    Attributes:
        scale: its last layer, which gives soft tokens the size of the target's embeddings.
    """

    scale: ExactScale

    @classmethod
    def from_spec(cls, spec: JobSpec, *, source_size: int, target_size: int, target_rms: float) -> Self:
        """Make the bridge that a job asks for.

        Args:
            spec: the job.
            source_size: width of the states that it reads: d_s, or d_t under geometry_projection.
            target_size: d_t.
            target_rms: root mean square of the target's embeddings, the size of its soft tokens.
        """

    def __call__(self, states: Tensor, mask: Tensor, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Make soft tokens.

        Args:
            states: (B, S, d) states of the source's tokens.
            mask: (B, S), 1 on tokens that may be read.
            noise: (B, K, d_t), standard normal, for bridges that start from noise.
            dropped: (B,) bool, rows whose condition is withheld, or None.

        Returns:
            (B, K, d_t).
        """

    def moments(self, states: Tensor, mask: Tensor) -> list[Moments]:
        """Compute moments of what the bridge's whitening layers read; an empty list if it has none.

        Args:
            states: (B, S, d) states of the source's tokens.
            mask: (B, S), 1 on tokens that may be read.
        """

    def fit(self, moments: list[Moments]) -> None:
        """Set the statistics of the whitening layers from moments of all training prompts."""


class TranslatorModule(nn.Module):
    """A bridge with the projection before it and the injection after it.

    Args:
        spec: the job.
        source: the frozen source.
        target: the frozen target.
        fit_once: fits the map between the embedding tables once for all workers and trials on a node.

    Attributes:
        geometry: the projection before the bridge, None if `geometry_projection` is off.
        bridge: makes soft tokens.
        injection: how they enter the target.
        hands_on: whether the bridge hands on the source's cache as it is.

    Raises:
        UserError: if the job's bridge or adapted layers cannot be made.
    """

    def __init__(self, spec: JobSpec, source: FrozenLM, target: FrozenLM, fit_once: FitOnce = fit_here) -> None:
        super().__init__()
        self.geometry = (
            GeometryProjection(source, target, soft_tokens=spec.inserted, init=spec.geometry_init, fit_once=fit_once)
            if spec.geometry_projection
            else None
        )
        self.bridge = build_bridge(spec, target.hidden_size if self.geometry else source.hidden_size, target)
        self.injection = Injection(spec, target, source)
        self.hands_on = isinstance(self.bridge, CacheReader)
        self.register_load_state_dict_pre_hook(_without_second_copies)

    @property
    def flow(self) -> DiTBridge | None:
        """The bridge if it is a flow and so has a flow loss, else None."""
        return self.bridge if isinstance(self.bridge, DiTBridge) else None

    @property
    def regression(self) -> LinearBridge | None:
        """The bridge if it is fitted in closed form and not trained, else None."""
        return self.bridge if isinstance(self.bridge, LinearBridge) else None

    @property
    def scale(self) -> ExactScale:
        """The bridge's last layer, which sets the size of the soft tokens."""
        return cast(Bridge, self.bridge).scale

    def forward(self, source: SourceBatch, noise: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Make soft tokens Z.

        Args:
            source: the source's states of B prompts.
            noise: (B, K, d_t), standard normal.
            dropped: (B,) bool, rows whose condition is withheld, or None.

        Returns:
            (B, K, d_t), each token at the RMS of the target's embeddings times the learned gain.
        """
        return self.sample(noise, dropped, *self.bridge_inputs(source))

    def context(self, source: SourceBatch, soft: Tensor) -> SoftContext:
        """Return what the target is given for the soft tokens (B, K, d_t) of a batch."""
        return self.injection(soft, source.mask)

    def bridge_inputs(self, source: SourceBatch, rounded: Callable[[int], int] = int) -> tuple[Tensor, ...]:
        """Return what the bridge's passes read, as tensors on the device; never part of a CUDA graph.

        Args:
            source: the source's states of B prompts.
            rounded: rounds a length up; the added positions are masked.

        Returns:
            States (B, S, d_s) and mask (B, S); under geometry_projection the states and what
            `GeometryProjection.forward` reads besides them.
        """
        padding = rounded(source.mask.shape[1]) - source.mask.shape[1]
        states, mask = F.pad(source.states, (0, 0, 0, padding)), F.pad(source.mask, (0, padding))
        if self.geometry is None:
            return states, mask
        return states, *self.geometry.token_inputs(source.items, states, rounded)

    def sample(self, noise: Tensor, dropped: Tensor | None, *inputs: Tensor) -> Tensor:
        """Return soft tokens (B, K, d_t) as `forward` does, from `bridge_inputs`."""
        return cast(Bridge, self.bridge)(*self._bridge_states(*inputs), noise, dropped)

    @torch.no_grad()
    def fit_whitening(self, sources: Iterable[SourceBatch], worker: Worker) -> dict[str, float]:
        """Compute the statistics that whiten the bridge's input from training prompts, once, before training.

        Args:
            sources: this worker's share of the prompts.
            worker: sums the moments, so that every worker ends with the same statistics.

        Returns:
            Metrics: what the pooled condition's statistics were computed from, and how far they were shrunk.

        Raises:
            ValueError: if this worker has no prompts.
        """
        bridge = cast(Bridge, self.bridge)
        total: list[Moments] | None = None
        for source in sources:
            batch = bridge.moments(*self._bridge_states(*self.bridge_inputs(source)))
            total = batch if total is None else [a.add_(b) for a, b in zip(total, batch, strict=True)]
        if total is None:
            raise ValueError("every worker needs at least one prompt")
        for moments in total:
            for tensor in moments.tensors():
                worker.sum(tensor)
        bridge.fit(total)
        for statistics in self.bridge.buffers():
            worker.broadcast(statistics)
        if not total:
            return {}
        return {"whitening/rows": float(total[-1].count), "whitening/shrinkage": total[-1].shrinkage()}

    @torch.no_grad()
    def fit_regression(
        self, sources: Iterable[SourceBatch], teacher: Callable[[Sequence[Encoded]], Tensor], worker: Worker
    ) -> dict[str, float]:
        """Fit a bridge that is not trained, from training prompts; a tenth of them choose the ridge strength.

        Args:
            sources: this worker's share of the prompts.
            teacher: returns the data (B, K, d_t) of B examples.
            worker: sums over workers, so that all of them have the same map.

        Returns:
            Metrics of the fit.

        Raises:
            ValueError: if the bridge is trained, or this worker has no prompts.
        """
        if self.regression is None:
            raise ValueError("this bridge is trained, not fitted")
        parts: list[SlotSums] = []  # of fitted prompts, and of those held out
        for source in sources:
            states, mask = self._bridge_states(*self.bridge_inputs(source))
            data = teacher(source.items)  # (B, K, d_t)
            draws = [uniform(("held out of the regression", item.example.id)) for item in source.items]
            held_out = torch.tensor([draw < HELD_OUT for draw in draws], device=mask.device)  # (B,)
            batch = [self.regression.sums(states[rows], mask[rows], data[rows]) for rows in (~held_out, held_out)]
            if not parts:
                parts = batch
                continue
            for total, sums in zip(parts, batch, strict=True):
                total.add_(sums)
        if not parts:
            raise ValueError("every worker needs at least one prompt")
        for tensor in (tensor for part in parts for tensor in part.tensors()):
            worker.sum(tensor)
        metrics = self.regression.regress(*parts)
        for fitted in (self.regression.weight, self.regression.bias):
            worker.broadcast(fitted.data)
        return metrics | {"linear/prompts": sum(float(part.count) for part in parts)}

    def flow_error(self, data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor | None, *inputs: Tensor) -> Tensor:
        """Return the flow loss of each row, (B,), for data (B, K, d_t) at unit RMS, from `bridge_inputs`.

        Raises:
            ValueError: if the bridge is no flow.
        """
        if self.flow is None:
            raise ValueError("this bridge is no flow")
        return self.flow.flow_loss(*self._bridge_states(*inputs), data, noise, times, dropped)

    def soft_and_flow_error(
        self, start: Tensor, data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `sample` makes of start (B, K, d_t) without dropping, and `flow_error`, evaluated together.

        Raises:
            ValueError: if the bridge is no flow.
        """
        if self.flow is None:
            raise ValueError("this bridge is no flow")
        return self.flow.soft_and_flow_loss(*self._bridge_states(*inputs), start, data, noise, times, dropped)

    @property
    def initialisation(self) -> dict[str, float]:
        """Metrics of how the translator was initialised, by name."""
        return {} if self.geometry is None else self.geometry.initialisation

    @property
    def pools_by_attention(self) -> bool:
        """Whether the bridge pools the source's states by attention."""
        return self.flow is not None and self.flow.conditioner.pooling == "attention"

    def pooling_weights(self, source: SourceBatch) -> tuple[Tensor, Tensor] | None:
        """Return weights (B, heads, S) of attention pooling and the mask (B, S) of what is pooled, None without it."""
        if self.flow is None or not self.pools_by_attention:
            return None
        states, mask = self._bridge_states(*self.bridge_inputs(source))
        self.flow.conditioned_on(states, mask)
        return cast(Tensor, self.flow.conditioner.weights), mask

    @property
    def attends_across(self) -> bool:
        """Whether the bridge's slots attend to the source's tokens."""
        return bool(self._cross_attention())

    def cross_weights(self, source: SourceBatch, noise: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the weights of each block's cross-attention, and the mask (B, S) of the tokens that may be read.

        Args:
            source: the source's states of B prompts.
            noise: (B, K, d_t), standard normal.

        Returns:
            One (B, heads, K, S) a block, of the sampler's last step, and the mask.
        """
        modules = self._cross_attention()
        found: dict[nn.Module, Tensor] = {}

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[module] = cast(Attention, module).weights(*inputs)  # later steps replace earlier ones

        hooks = [module.register_forward_pre_hook(keep) for module in modules]
        try:
            states, mask = self._bridge_states(*self.bridge_inputs(source))
            cast(Bridge, self.bridge)(states, mask, noise)
        finally:
            for hook in hooks:
                hook.remove()
        return [found[module] for module in modules], mask

    def _cross_attention(self) -> list[nn.Module]:
        return [m for name, m in self.bridge.named_modules() if name.endswith(".cross") and isinstance(m, Attention)]

    def _bridge_states(self, states: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the bridge reads, (B, S, d_s) or under geometry_projection (B, T, d_t), and its mask."""
        return states if self.geometry is None else self.geometry(states, *inputs), inputs[0]


def _without_second_copies(_module: nn.Module, weights: dict[str, Tensor], prefix: str, *_rest: Any) -> None:
    """Drop the second copy of the bridge's weights, which files once held under another name, before loading them."""
    for name in list(weights):
        place, _, own = name.removeprefix(prefix).partition(".")
        if place in ("flow", "regression") and f"{prefix}bridge.{own}" in weights:
            del weights[name]


def build_bridge(spec: JobSpec, input_size: int, target: FrozenLM) -> nn.Module:
    """Make the bridge that a spec names, with input of width `input_size`.

    Raises:
        UserError: if a plug-in's bridge has no `scale`, which sets the size of its soft tokens.
    """
    sizes = {"source_size": input_size, "target_size": target.hidden_size, "target_rms": target.embedding_rms}
    bridge: nn.Module = BRIDGES.load(spec.bridge).from_spec(spec, **sizes)
    if not isinstance(getattr(bridge, "scale", None), ExactScale):
        raise UserError(f"bridge={spec.bridge!r}: its `scale` must be an ExactScale; see docs/plugins.md")
    return bridge


def build_translator(
    spec: JobSpec, source: FrozenLM, target: FrozenLM, fit_once: FitOnce = fit_here
) -> TranslatorModule:
    """Make a translator with the seed's initial weights, in fp32 on the target's device.

    Weights are drawn on the CPU, so that every device and every worker starts from the same numbers. The map between
    the embedding tables is fitted on the device, by `fit_once` for all workers.

    Raises:
        UserError: if a setting does not fit the models.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_seed("initial weights", spec.seed))
        translator = TranslatorModule(spec, source, target, fit_once)
    return translator.to(device=target.device, dtype=torch.float32)
