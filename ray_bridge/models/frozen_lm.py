"""A frozen language model: any causal-LM checkpoint, with the few operations that a translator needs.

Architectures differ in where their layers, embeddings and heads are, and a few scale or cap their logits. This module
handles all of that and checks it at load, so that no other module depends on an architecture.
"""

import copy
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge_common.errors import UserError
from bridge_common.hub_connection import cache_unless_hub_answers
from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.footprint.context import check_length, context_length
from ray_bridge.gpu.sdpa import pad_rows
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.models.accuracy import TOKENS, PreciseDecoder, Verdict, judge, probes, worst
from ray_bridge.models.attention import AttendAfterPrefix, set_attention
from ray_bridge.models.chat_template import ChatTemplate
from ray_bridge.models.eight_bits import round_layers
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.fused_layers import decoder_layers, why_not_fused
from ray_bridge.models.head import check_logits, logits_of
from ray_bridge.models.identity import ModelIdentity, identify
from ray_bridge.models.prefix_cache import (
    Prefix,
    PrefixAsCache,
    can_cache,
    causal_masks,
    count_positions,
    read_prefix,
)
from ray_bridge.models.recompute import recompute_layers
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.models.sharding.weights import load_part
from ray_bridge.models.slow_paths import describe_slow_paths
from ray_bridge.models.soft_context import SoftContext, adapters_as_hooks
from ray_bridge.models.special_tokens import special_tokens
from ray_bridge.models.text_reader import check_fast
from ray_bridge.models.weights import auto_classes, first_line, load_model, to_device
from ray_bridge.models.windows import shortest_window


class FrozenLM:
    """A causal LM whose weights never change.

    Attributes:
        model: the checkpoint, in eval mode, without gradients on its weights.
        tokenizer: its fast tokenizer.
        bos: id that opens every sequence (the end-of-text id if a tokenizer has no BOS).
        eos: id that ends an answer in training.
        ends: all ids that end a text: of tokenizer, config and generation config.
        pad: id that fills a batch; no token attends to it.
        hidden_size: d, width of its embeddings.
        context: positions that it reads, None if its configuration sets no limit.
        longest: the same, or the length of a probe if there is no limit.
        embedding_rms: median over the vocabulary of each embedding's root mean square, without all-zero rows.
        fused: how accurate its fused layers are, None if they were not judged.
        judged: the same of their decode steps and gradients, by these names.
        body: its fused layers, None if transformers' own are run.
        not_fused: why they are run after `fuse`, in a few words; empty otherwise.
        chat: how it writes conversations, None if it reads text as it is.
        shards: the processes that hold its parts and make the same calls in the same order; None if it is whole here.
    """

    chat: ChatTemplate | None = None

    def __init__(self, model: Any, tokenizer: Any, name: str, shards: ShardGroup | None = None) -> None:
        self.name, self.shards = name, shards
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.config = model.config.get_text_config()
        if getattr(self.config, "attn_logit_softcapping", None):
            set_attention(model)  # the default ignores the cap
        self.embedding: nn.Embedding = model.get_input_embeddings()
        self.head: nn.Module = model.get_output_embeddings()
        self.hidden_size: int = self.embedding.weight.shape[1]
        self.num_layers: int = self.config.num_hidden_layers
        special = special_tokens(model, tokenizer, name)
        self.bos, self.eos, self.ends, self.pad = special.bos, special.eos, special.ends, special.pad
        self._eos, self._ends = self.eos, self.ends  # of text that is no conversation
        self.context = context_length(self.config)
        self.longest: int = self.context or TOKENS
        self.layers = decoder_layers(model, self.num_layers, name)
        rms = self.embedding_table().float().pow(2).mean(-1).sqrt()  # (V,)
        self.embedding_rms = float(rms[rms > 0].median())
        self.body: FusedBody | None = None
        self.fused: Verdict | None = None
        self.judged: dict[str, Verdict] = {}
        self.not_fused = ""
        self._prefixes: dict[tuple[int, ...], Prefix] = {}
        ids = torch.tensor([[self.bos, min(7, self.embedding.weight.shape[0] - 1), self.eos]], device=self.device)
        with torch.no_grad():
            check_logits(model, name, ids, self.logits(self.states(ids)))

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: torch.device | str = "cpu",
        texts: Sequence[str] = (),
        shards: ShardGroup | None = None,
        precision: Literal["full", "int8"] = "full",
    ) -> "FrozenLM":
        """Load a checkpoint by folder, hub name, or `embedded:source` / `embedded:target`; on a GPU, fuse its layers.

        Args:
            name: of the checkpoint.
            revision: hub revision.
            dtype: of the weights.
            device: where they go.
            texts: text of the task, on which fused layers are judged.
            shards: the processes that hold its parts, of which this one loads its own; None loads the whole model.
            precision: "int8" for layers with weights of 8 bits, of a model that is whole.

        Raises:
            UserError: when the checkpoint cannot be found or cut, or is no causal LM with a fast tokenizer, or
                torchao is absent, which 8 bits need.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        place = resolve(name)
        AutoTokenizer = auto_classes()[1]
        try:
            with cache_unless_hub_answers(asked=not Path(place).is_dir()):
                tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
        except Exception as error:  # those of tokenizers, for a damaged file, have no type
            raise UserError(f"cannot load the checkpoint {name}: {first_line(error)}") from error
        check_fast(tokenizer, name)
        configure_torch(device)
        device = torch.device(device)
        with cache_unless_hub_answers(asked=not Path(place).is_dir()):
            if shards is None:
                model = load_model(place, name, revision=revision, dtype=dtype)
                if precision == "int8":  # before the rest moves: the whole model need not fit on the device
                    round_layers(decoder_layers(model, model.config.get_text_config().num_hidden_layers, name), device)
                model = to_device(model, device)
            else:
                model = load_part(place, name, revision=revision, dtype=dtype, device=device, group=shards)
        lm = cls(model, tokenizer, Path(place).name, shards)
        return lm.fuse(texts) if lm.device.type == "cuda" else lm

    def reading(self, prompt_format: Literal["raw", "chat"]) -> "FrozenLM":
        """Return the same model, weights shared, as it reads prompts in a format.

        Args:
            prompt_format: "raw" for text as it is; "chat" for the turns of its own chat template, whose end of turn
                then ends an answer, in training and in decoding.

        Raises:
            UserError: if its tokenizer has no usable chat template.
        """
        if (prompt_format == "chat") == (self.chat is not None):
            return self
        lm = copy.copy(self)
        lm.chat = ChatTemplate(self.tokenizer, self.name) if prompt_format == "chat" else None
        ends = None if lm.chat is None else lm.chat.end
        lm.eos, lm.ends = (self._eos, self._ends) if ends is None else (ends, self._ends | {ends})
        return lm

    @cached_property
    def identity(self) -> ModelIdentity:
        """What identifies its content when first read, without the weights if this process holds a part of them."""
        return identify(self.model, self.tokenizer, whole=self.shards is None)

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of its weights."""
        return self.embedding.weight.dtype

    def fuse(self, texts: Sequence[str] = ()) -> "FrozenLM":
        """Run the layers as few large operations from now on, if their architecture is known and they are as accurate.

        The model keeps working; its weights must not change any more. Accuracy is judged token by token beside the
        eager path's own error, see `accuracy`; the verdict stays in `fused`.

        Args:
            texts: text of the task to judge on.
        """
        self.not_fused = why_not_fused(self.model) or ""
        if self.not_fused:
            return self
        inputs = self.probes(texts)
        with torch.no_grad():
            eager = [self.states(ids) for ids in inputs]
            references = [self.reference_states(ids) for ids in inputs]
            self.body = FusedBody(self.model)
            fast = [self.states(ids) for ids in inputs]
        self.fused = worst([judge(*states, self.dtype) for states in zip(references, eager, fast, strict=True)])
        if not self.agreed(self.fused.accurate):
            self.give_up_fused(f"fused they are less accurate ({self.fused.ratio:.2g} times the eager error)")
        return self

    def probes(self, texts: Sequence[str]) -> list[Tensor]:
        """Return token ids to judge fast paths on, (1, T) each on the model's device; see `accuracy.probes`."""
        vocabulary, window = self.embedding.weight.shape[0], shortest_window(self.config)
        return [
            ids.to(self.device) for ids in probes(self.tokenizer, self.bos, vocabulary, texts, self.longest, window)
        ]

    def agreed(self, condition: bool) -> bool:
        """Return whether a condition holds on all processes that hold parts of the model, so that all go on alike."""
        return condition if self.shards is None else self.shards.all(condition)

    def give_up_fused(self, reason: str) -> None:
        """Run transformers' own layers from now on, and warn why."""
        self.body, self.not_fused = None, reason
        warnings.warn(f"{self.name}: its layers are run eagerly, because {reason}", stacklevel=3)

    def slow_paths(self) -> str:
        """Return in one line which fast paths this model cannot take on a GPU, and why; empty if it takes all."""
        reasons = describe_slow_paths(self.config, self.not_fused, self.body, half=self.dtype.itemsize == 2)
        return f"{self.name}: {', and '.join(reasons)}" if reasons else ""

    def states(self, ids: Tensor) -> Tensor:
        """Return last hidden states, ids (1, T) -> (T, d)."""
        mask = torch.ones_like(ids)
        return self.hidden(self.embed(ids), mask, count_positions(mask))[0]

    def reference_states(self, ids: Tensor) -> Tensor:
        """Return them in higher precision, ids (1, T) -> (T, d); only for architectures that can be fused."""
        return PreciseDecoder(self.model, self.embed(ids), count_positions(torch.ones_like(ids))).states()

    def check_length(self, needed: int, text: str) -> None:
        """Refuse a text that is longer than the model's context.

        Args:
            needed: positions of the text.
            text: what it consists of, for the message.

        Raises:
            UserError: in one line, with the remedy.
        """
        check_length(self.name, self.context, needed, text)

    def embed(self, ids: Tensor) -> Tensor:
        """Return input embeddings, (...,) -> (..., d)."""
        return self.embedding(ids)

    @torch.no_grad()
    def embedding_table(self) -> Tensor:
        """Return the input embedding of every id, (V, d); some models scale their weights (Gemma)."""
        return self.embed(torch.arange(self.embedding.weight.shape[0], device=self.device))

    def hidden(
        self,
        embeds: Tensor,
        mask: Tensor,
        positions: Tensor,
        *,
        prefix: Prefix | None = None,
        context: SoftContext | None = None,
        right_padded: bool | None = None,
        recompute: bool = False,
        last: int | None = None,
    ) -> Tensor:
        """Return the last hidden states, before the head.

        Args:
            embeds: (B, L, d) inputs in embedding space.
            mask: (B, L), 1 on real tokens.
            positions: (B, L), counting real tokens only, those of the prefix included.
            prefix: text before every row, which is not in `embeds`.
            context: what adapters read, one set of soft tokens for each row; None applies no adapters.
            right_padded: whether all pads are on the right; None finds out from the mask, which waits for the device.
            recompute: keep each layer's input only and run it again in the backward pass.
            last: how many positions at the end of L have states that are read. Those before are zero then, if fused
                layers may leave them out (`FusedBody.leaves_out`) and all pads are on the right.

        Returns:
            (B, L, d).
        """
        if self.body is not None and (prefix is None or not prefix.per_row):
            # Pads on the right come after every real token, so causality alone hides them.
            right_padded = bool(mask[:, 0].all()) if right_padded is None else right_padded
            attend = AttendAfterPrefix(prefix, None if right_padded else mask, self.body.scale, self.body.windows)
            if not (right_padded and self.body.leaves_out(prefix, context)):
                last = None
            states = self.body(embeds, positions, attend, last=last, recompute=recompute, context=context)
            left_out = embeds.shape[1] - states.shape[1]
            states = self.body.finish(states)
            return F.pad(states, (0, 0, left_out, 0)) if left_out else states  # (B, L, d)
        length = embeds.shape[1]
        embeds, mask, positions = pad_rows(embeds, mask, positions, 0 if prefix is None else len(prefix))
        inputs: dict[str, Any] = {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}
        if prefix is None:
            inputs |= {"use_cache": False}
        else:
            masks = causal_masks(prefix.cover(mask), mask.shape[1], embeds.dtype, self.config)
            inputs |= {"attention_mask": masks, "past_key_values": PrefixAsCache(prefix), "use_cache": True}
        with recompute_layers(self.layers) if recompute and torch.is_grad_enabled() else nullcontext():
            return self.run_transformers(context, **inputs)[:, :length]  # (B, L, d)

    def run_transformers(self, context: SoftContext | None, **inputs: Any) -> Tensor:
        """Run transformers' own layers, with the context's adapters.

        Args:
            context: as in `hidden`.
            **inputs: arguments of the transformers model.

        Returns:
            (B, L, d) last hidden states.
        """
        with adapters_as_hooks(self.layers, context):
            return self.model.base_model(**inputs).last_hidden_state

    def prefix(self, ids: tuple[int, ...]) -> Prefix | None:
        """Return the keys and values of ids that open many sequences, computed once.

        None without ids, or for an architecture with windows whose masks are not known.
        """
        if not ids or not can_cache(self.config):
            return None
        if ids not in self._prefixes:
            while len(self._prefixes) >= 2:  # training's header and perhaps one more
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[ids] = read_prefix(self.model, ids, self.device)
        return self._prefixes[ids]

    def forget_prefixes(self) -> None:
        """Free what `prefix` keeps."""
        self._prefixes.clear()

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the head to any selection of last hidden states, (..., d) -> (..., V), in fp32 or wider."""
        return logits_of(self.head, self.config, hidden)

    def capture(
        self,
        ids: Tensor,
        mask: Tensor,
        layer: int,
        *,
        prefix: Prefix | None = None,
        context: SoftContext | None = None,
    ) -> Tensor:
        """Return the hidden states of one layer, without running the layers after it.

        Args:
            ids: (B, S) right-padded token ids.
            mask: (B, S).
            layer: 0 embeddings, n output of layer n, negative from the end (-1 the last layer's output).
            prefix: text before every row, which is not in `ids`.
            context: as in `hidden`; the states are those that the layer's adapter returns.

        Returns:
            (B, S, d_s), in the model's dtype, before the final norm.

        Raises:
            UserError: when the model has no such layer.
        """
        index = layer if layer >= 0 else self.num_layers + 1 + layer
        if not 0 <= index <= self.num_layers:
            raise UserError(f"source_layer={layer}: {self.name} has layers 0 to {self.num_layers}")
        embeds = self.embed(ids)  # (B, S, d_s)
        positions = count_positions(mask) + (0 if prefix is None else len(prefix))  # (B, S)
        if index == 0:
            return embeds
        if self.body is not None:
            with torch.no_grad():
                attend = AttendAfterPrefix(prefix, None, self.body.scale, self.body.windows)
                return self.body(embeds, positions, attend, stop=index, context=context)  # (B, S, d_s)

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            raise _CapturedError(output[0] if isinstance(output, tuple) else output)

        with adapters_as_hooks(self.layers, context), torch.no_grad():
            handle = self.layers[index - 1].register_forward_hook(keep)  # hooks run in the order of their registration
            try:
                self.hidden(embeds, mask, positions, prefix=prefix)
            except _CapturedError as captured:
                return captured.states  # (B, S, d_s)
            finally:
                handle.remove()
        raise RuntimeError(f"{self.name} did not run its layer {index}")


class _CapturedError(Exception):
    """Ends a forward pass as soon as the requested layer has run; not a failure."""

    def __init__(self, states: Tensor) -> None:
        super().__init__("captured")
        self.states = states
