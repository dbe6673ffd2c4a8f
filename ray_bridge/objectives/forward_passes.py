"""Run the step's forward passes eagerly or, on GPU, padded to length buckets and replayed as CUDA graphs.

Rows of a batch differ in length, and each length is a shape of its own, for which attention kernels are planned and
graphs are captured. So lengths are rounded up. The pads stand after the text, where no real token attends to them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_bridge.bridges.dit import Block
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.gpu.convert import convert_together
from ray_bridge.gpu.cuda_graphs import GraphedCalls
from ray_bridge.inputs.layout import Batch
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import Prefix
from ray_bridge.models.soft_context import SoftContext

SMALLEST_BUCKET = 32
"""Lengths of the target's rows are rounded up to multiples of it; long ones to larger multiples."""
FEWEST_ANSWERS = 512
"""Least number of positions at a row's end whose states the target's last layer computes; larger ones double it."""
SOURCE_BUCKET = 128
"""Lengths of the bridge's input are rounded up to multiples of it: pads cost little there, graphs much."""


def bucket_length(length: int) -> int:
    """Round a length up, with sixteen buckets per doubling: at most a sixteenth of a long row is pads."""
    step = max(SMALLEST_BUCKET, 1 << max(0, (length - 1).bit_length() - 5))
    return -(-length // step) * step


def positions_read(length: int, first: int) -> int | None:
    """Return how many positions at the end of a row have to be computed if those before `first` are not read.

    They are few numbers, since a CUDA graph has to be captured for each; None if they are all.
    """
    count = FEWEST_ANSWERS
    while count < length - first:
        count *= 2
    return count if count < length else None


class ForwardPasses:
    """The forward passes of a translator and of the frozen target that reads its soft tokens.

    Args:
        translator: what is trained.
        target: the frozen target.
        graphed: whether to round lengths up and use CUDA graphs; by default on a GPU only.
        recompute_above: positions of a pass with gradient, pads included, above which the target's layers are run again
            in the backward pass; None keeps what they need.

    A target in parts is captured with the collectives between its parts. Its processes read the same rows, so they
    capture and replay at the same calls. `release` has to be called before their group is left: NCCL waits for the
    graphs that hold its communicator.
    """

    def __init__(
        self,
        translator: TranslatorModule,
        target: FrozenLM,
        *,
        graphed: bool | None = None,
        recompute_above: int | None = None,
    ) -> None:
        self.translator, self.target, self.recompute_above = translator, target, recompute_above
        self.graphed = target.device.type == "cuda" if graphed is None else graphed
        self.parameters = {name: p for name, p in translator.named_parameters() if p.requires_grad}
        self._places = _places(translator, self.parameters)
        placed = list(self._places.values())
        self._multiplied = [name for name in _weights_of_products(translator) if placed.count(name) == 1]
        # Each holds its memory from its forward pass to its backward pass, so each has a pool of its own.
        self.graphs = {name: GraphedCalls() for name in ("soft", "student", "teacher")}

    def pause(self, paused: bool) -> None:
        """Set whether to run eagerly for now: the backward pass of a graph can be taken only once."""
        for graphs in self.graphs.values():
            graphs.paused = paused

    def release(self) -> None:
        """Give up all captured graphs with their memory."""
        for graphs in self.graphs.values():
            graphs.release()

    def recomputes(self, rows: int, length: int) -> bool:
        """Return whether the layers of a pass with gradient are run again in its backward pass."""
        return self.recompute_above is not None and rows * length > self.recompute_above

    def bridge_inputs(self, source: SourceBatch) -> tuple[Tensor, ...]:
        """Return what a bridge reads of a batch; see `TranslatorModule.bridge_inputs`."""
        return self.translator.bridge_inputs(source, _source_bucket if self.graphed else int)

    def soft(self, bridge_inputs: tuple[Tensor, ...], noise: Tensor) -> Tensor:
        """Return Z, (B, K, d_t), from the sampler, with its condition."""

        def sample(noise: Tensor, *bridge_inputs: Tensor) -> Tensor:
            return self.translator.sample(noise, None, *bridge_inputs)

        if self.translator.hands_on:
            return sample(noise, *bridge_inputs)
        return self._with_translator("soft", sample, (noise, *bridge_inputs))

    def soft_and_flow_error(
        self,
        bridge_inputs: tuple[Tensor, ...],
        start: Tensor,
        data: Tensor,
        noise: Tensor,
        times: Tensor,
        dropped: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return `soft` from the noise `start`, and each row's flow loss, (B,), for data (B, K, d_t) at unit RMS."""
        none, shape = dropped is None, start.shape

        def both(
            start: Tensor, data: Tensor, noise: Tensor, times: Tensor, dropped: Tensor, *bridge_inputs: Tensor
        ) -> Tensor:
            soft, error = self.translator.soft_and_flow_error(
                start, data, noise, times, None if none else dropped, *bridge_inputs
            )
            return torch.cat([soft.flatten(), error])  # (B K d_t + B,): a graph has one value

        rows = torch.zeros(len(data), dtype=torch.bool, device=data.device) if dropped is None else dropped
        value = self._with_translator("soft", both, (start, data, noise, times, rows, *bridge_inputs))
        soft, error = value.split([start.numel(), len(start)])
        return soft.view(shape), error

    def hidden(self, batch: Batch) -> Tensor:
        """Return the target's last hidden states of a right-padded batch, (B, L' >= L, d_t)."""
        return self._hidden(batch, first=0)

    def answer_states(self, batch: Batch) -> Tensor:
        """Return the target's last hidden states before each answer token of a right-padded batch, (N, d_t)."""
        answers = batch.answers
        return self._hidden(batch, first=answers.first)[answers.rows, answers.at]

    def reads_answers_alone(self, batch: Batch) -> bool:
        """Return whether `answer_states` computes fewer positions than `hidden`."""
        leaves_out = self._leaves_out(batch.prefix, batch.context)
        return leaves_out and positions_read(batch.mask.shape[1], batch.answers.first) is not None

    def _leaves_out(self, prefix: Prefix | None, context: SoftContext | None) -> bool:
        body = self.target.body
        return body is not None and body.leaves_out(prefix, context)

    def _hidden(self, batch: Batch, first: int) -> Tensor:
        """Return what `hidden` does, (B, L', d_t); states before position `first` may be zero."""
        target, prefix, context = self.target, batch.prefix, batch.context
        bucketed = self.graphed and target.body is not None and not (prefix is not None and prefix.per_row)
        inputs: tuple[Tensor, ...] = (batch.embeds, batch.mask, batch.positions)
        if bucketed:
            padding = bucket_length(batch.mask.shape[1]) - batch.mask.shape[1]
            inputs = (F.pad(inputs[0], (0, 0, 0, padding)), *(F.pad(x, (0, padding)) for x in inputs[1:]))
        rows, length = inputs[1].shape
        last = positions_read(length, first) if self._leaves_out(prefix, context) else None

        def read(inputs: Sequence[Tensor], _parameters: Sequence[Tensor]) -> Tensor:
            return target.hidden(  # of no batch: a graph keeps this function, and all that it refers to
                *inputs,
                prefix=prefix,
                context=context,
                right_padded=True,
                recompute=torch.is_grad_enabled() and self.recomputes(rows, length),
                last=last,
            )

        if not bucketed or context is not None:  # a graph would see no other soft tokens, nor adapters' weights
            return read(inputs, ())
        graphs = self.graphs["student" if torch.is_grad_enabled() else "teacher"]
        return graphs((() if prefix is None else prefix.ids, last), read, inputs)

    def _with_translator(self, name: str, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        """Return `function(*inputs)`, which reads the translator's parameters."""
        if not self.graphed:
            return function(*inputs)
        caller, device = _Caller(self.translator, function), self.target.device.type

        def call(inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
            given = dict(zip(self.parameters, parameters, strict=True))
            if torch.is_autocast_enabled(device) and self._multiplied:
                halves = convert_together([given[name] for name in self._multiplied], torch.get_autocast_dtype(device))
                given |= dict(zip(self._multiplied, halves, strict=True))
            placed = {f"translator.{place}": given[name] for place, name in self._places.items()}
            with _autocast_cache(device):
                # `tie_weights` would replace the weight of a module with two names twice, and not put it back.
                return torch.func.functional_call(caller, placed, tuple(inputs), tie_weights=False)

        return self.graphs[name](name, call, inputs, list(self.parameters.values()))


def _source_bucket(length: int) -> int:
    return -(-length // SOURCE_BUCKET) * SOURCE_BUCKET


def _places(translator: TranslatorModule, parameters: Mapping[str, nn.Parameter]) -> dict[str, str]:
    """Return the name of the parameter at each place that holds one: two modules may share a weight."""
    names = {parameter: name for name, parameter in parameters.items()}
    return {
        f"{module_name}.{own}" if module_name else own: names[parameter]
        for module_name, module in translator.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
        if parameter in names
    }


def _weights_of_products(translator: TranslatorModule) -> list[str]:
    """Return the names of the weights and biases of the DiT blocks' products, which autocast would convert."""
    return [
        f"{block_name}.{name}.{own}"
        for block_name, block in translator.named_modules()
        if type(block) is Block
        for name, module in block.named_modules()
        if type(module) is nn.Linear
        for own, _ in module.named_parameters()
    ]


class _Caller(nn.Module):
    """A function of a translator as a module, so that `functional_call` can replace its parameters."""

    def __init__(self, translator: TranslatorModule, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.translator, self.function = translator, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


@contextmanager
def _autocast_cache(device: str) -> Iterator[None]:
    """Let autocast convert each weight to half precision once in the body, however often it is used.

    The training step turns that cache off, since a converted weight would outlive the graph that made it.
    """
    if not torch.is_autocast_enabled(device):
        yield
        return
    with torch.autocast(device, torch.get_autocast_dtype(device), cache_enabled=True):
        torch.clear_autocast_cache()
        try:
            yield
        finally:
            torch.clear_autocast_cache()
