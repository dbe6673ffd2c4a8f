"""The two frozen models of a job, loaded once by each worker, with the task and the encoder for both."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ray_bridge.caching.embedding_map import fit_once_per_node
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.checkpoint_names import is_random, random_twin, resolve
from ray_bridge.config.fingerprint import folder_digest
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.generation.graphed import uses_graphs
from ray_bridge.generation.verify import judge_decoding
from ray_bridge.inputs.encoding import Encoded, Encoder
from ray_bridge.inputs.latent_thoughts import think
from ray_bridge.inputs.source_batch import SourceBatch, read_source
from ray_bridge.inputs.source_cache import read_cache
from ray_bridge.models.embedding_map import FitOnce
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.prefix_cache import can_cache
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.tasks.splits import Splits
from ray_bridge.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """The frozen models of a job.

    Attributes:
        spec: the job.
        source: the frozen model that reads the question.
        target: the frozen model that answers.
        task: makes prompts and scores answers.
        encoder: tokenises examples for both models.
    """

    spec: JobSpec
    source: FrozenLM
    target: FrozenLM
    task: Task
    encoder: Encoder

    @classmethod
    def load(
        cls,
        spec: JobSpec,
        splits: Splits,
        device: torch.device,
        *,
        source: FrozenLM | None = None,
        target: FrozenLM | None = None,
        shards: ShardGroup | None = None,
    ) -> "ModelPair":
        """Load both models onto a device, except one that is given.

        Args:
            spec: the job.
            splits: its data, on whose text fused layers are judged.
            device: where the models go.
            source: a source that is loaded, or None.
            target: a target that is loaded, or None.
            shards: the processes that hold the target's parts, None if each holds the whole target.

        Raises:
            UserError: if a checkpoint cannot be loaded.
        """
        texts = sample_texts(splits)

        def load(name: str, revision: str | None, **options: Any) -> FrozenLM:
            lm = FrozenLM.load(name, revision=revision, dtype=spec.model_dtype, device=device, texts=texts, **options)
            judge_decoding(lm, texts)
            return lm

        source = source or load(spec.source, spec.source_revision)
        if target is None:
            target = load(spec.target, spec.target_revision, shards=shards, precision=spec.target_precision)
            judge_gradients(target, texts)
        return cls.of(spec, splits, source, target)

    @classmethod
    def of(cls, spec: JobSpec, splits: Splits, source: FrozenLM, target: FrozenLM) -> "ModelPair":
        """Return the pair of two models that are loaded.

        Raises:
            UserError: if the job's prompts are conversations and a model has no chat template.
        """
        source, target = source.reading(spec.prompt_format), target.reading(spec.prompt_format)
        encoder = Encoder(
            spec,
            splits.task,
            splits.header,
            source,
            target,
            written_header=splits.written_header,
            exemplars=splits.exemplars,
        )
        return cls(spec=spec, source=source, target=target, task=splits.task, encoder=encoder)

    def read_source(self, items: Sequence[Encoded]) -> SourceBatch:
        """Run the source on examples and return what the job's bridge reads of it.

        Raises:
            UserError: if the source has no such layer.
        """
        if self.spec.bridge == "c2c":
            return read_cache(self.source, items)
        if self.spec.latent_steps:
            return think(self.source, items, self.spec.latent_steps)
        return read_source(self.source, items, self.spec.source_layer)

    def identities(self) -> dict[str, dict[str, str]]:
        """Return by role what identifies each model's content (`ModelIdentity`); parts of weights have no digest."""
        roles = {"source": self.source, "target": self.target}
        return {role: lm.identity.record() for role, lm in roles.items()}

    def fast_paths(self) -> dict[str, float]:
        """Return, by metric name, which fast paths each model takes, and their errors over the eager path's.

        Whether its layers run Triton kernels, its decoding is captured in CUDA graphs at any length, and a few-shot
        header is read once; `slow_paths` says what of it does not hold everywhere.
        """
        metrics: dict[str, float] = {}
        for role, lm in (("source", self.source), ("target", self.target)):
            metrics[f"fast/{role}/fused"] = float(lm.body is not None)
            plain = not (self.spec.writes_cache if role == "target" else self.spec.latent_steps)
            metrics[f"fast/{role}/graphs"] = float(plain and uses_graphs(lm))
            metrics[f"fast/{role}/header"] = float(plain and can_cache(lm.config))
            kernels = plain and lm.body is not None and lm.body.uses_kernels(lm.embedding.weight)
            metrics[f"fast/{role}/kernels"] = float(kernels)
            if lm.fused is not None:
                metrics[f"fast/{role}/error_ratio"] = lm.fused.ratio
            for name, verdict in lm.judged.items():
                metrics[f"fast/{role}/{name}_error_ratio"] = verdict.ratio
        return metrics

    def slow_paths(self) -> dict[str, str]:
        """Return, by tag, why a model or the injection cannot take a fast path on a GPU; nothing if all do."""
        lines = {"source": self.source.slow_paths(), "target": self.target.slow_paths()}
        if self.spec.writes_cache and self.target.device.type == "cuda":
            lines["injection"] = (
                f"injection={self.spec.injection}: rows with keys and values of their own are trained and decoded by "
                "transformers' layers, without fused layers, CUDA graphs or a few-shot header read once"
            )
        if self.spec.latent_steps and self.source.device.type == "cuda":
            lines["latent_steps"] = (
                f"latent_steps={self.spec.latent_steps}: the source's steps run one by one in transformers' layers, "
                "without fused layers, CUDA graphs or a few-shot header read once"
            )
        return {f"slow/{role}": line for role, line in lines.items() if line}

    def for_evaluation(self) -> "ModelPair":
        """Return the pair in evaluation's arithmetic: itself, or under eval_dtype=float64 a copy."""
        if self.spec.eval_dtype == "as_trained":
            return self
        source, target = (_double(lm).reading(self.spec.prompt_format) for lm in (self.source, self.target))
        encoder = self.encoder.for_models(source, target)
        return ModelPair(spec=self.spec, source=source, target=target, task=self.task, encoder=encoder)

    def fit_once(self, cache: NodeCache, worker: Worker) -> FitOnce:
        """Return what fits the map between the embedding tables once for all workers and trials on a node."""
        digests = [self.digest_of(lm) for lm in (self.source, self.target)]
        return fit_once_per_node(cache, worker, [*digests, self.spec.model_dtype, self.spec.geometry_init])

    def digest_of(self, lm: FrozenLM) -> str:
        """Return what identifies one of the two models: a digest of its files, or its hub name and commit.

        A target with weights of 8 bits has a digest of its own, since its outputs and states differ.
        """
        is_source = lm is self.source
        rounded = "" if is_source or self.spec.target_precision == "full" else f"@{self.spec.target_precision}"
        return self._digest_of_files(is_source) + rounded

    def _digest_of_files(self, is_source: bool) -> str:
        name = self.spec.source if is_source else self.spec.target
        location = resolve(name)
        if Path(location).is_dir():
            content = folder_digest(Path(location))
            return random_twin(content) if is_random(name) else content
        revision = self.spec.source_revision if is_source else self.spec.target_revision
        lm = self.source if is_source else self.target
        commit = getattr(lm.model.config, "_commit_hash", None)  # preferred, since a branch moves
        return f"{name}@{commit or revision}"


def sample_texts(splits: Splits) -> tuple[str, ...]:
    """Return the text of the first training examples, on which the fast paths of a job's models are judged."""
    return tuple(splits.task.prompt(example) + splits.task.continuation(example) for example in splits.train[:8])


def _double(lm: FrozenLM) -> FrozenLM:
    if lm.dtype == torch.float64:
        return lm
    return FrozenLM(copy.deepcopy(lm.model).double(), lm.tokenizer, lm.name, lm.shards)
