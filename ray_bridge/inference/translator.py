"""`Translator`: a trained bridge between its two frozen models, ready to answer questions."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, Unpack, overload

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.metric_names import CONDITIONS
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.fingerprint import digest
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.answerer import Output, generated
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.selection import load_translator
from ray_bridge.generation.eager import eager_steps
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inference.answers import Answer, Decoding, Piece, Question, SoftTokens
from ray_bridge.inference.arguments import (
    check_conditions,
    check_count,
    check_decoding,
    check_model,
    check_place,
    check_plugins,
    check_text,
    listed_questions,
    shown,
)
from ray_bridge.inference.checks import check_question, device_of
from ray_bridge.inference.export import write_export
from ray_bridge.inference.models import load_models
from ray_bridge.inference.places import check_question_text
from ray_bridge.inference.saved import SavedTranslator, read_saved, sampled_example
from ray_bridge.inference.side_by_side import outputs_by_condition
from ray_bridge.inference.streams import stream_outputs
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.identity import ModelIdentity
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import generator
from ray_bridge.tasks.splits import Splits
from ray_bridge.tasks.task import Example


class Translator(ModelHubMixin):
    """A trained translator with its frozen source and target.

    Use `Translator.load`. Questions are put into the task's prompt, with its few-shot examples. The noise from which a
    bridge starts is seeded by a question's id: the recorded one for a question of the recorded test split, so that its
    answer is the recorded one, and a digest of its text for any other. The same text always has the same noise.

    Attributes:
        spec: the job that trained it.
        saved: what was read from disk.
        ids: ids of the recorded test questions, by the digest of their text.
        pair: the frozen models, in the arithmetic of evaluation.
        module: the trained part.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the object without the mixin's copy of its arguments, which hold both models."""
        return object.__new__(cls)

    def __init__(self, saved: SavedTranslator, splits: Splits, pair: ModelPair, module: TranslatorModule) -> None:
        self.spec, self.saved, self.splits, self.pair, self.module = saved.spec, saved, splits, pair, module
        self._recorded = {row["question"]: sampled_example(row) for row in saved.samples}
        self.ids = {digest(text): example.id for text, example in self._recorded.items()} or dict(saved.ids)

    @classmethod
    def load(
        cls,
        place: str | Path,
        *,
        source: FrozenLM | str | Path | None = None,
        target: FrozenLM | str | Path | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
        plugins: Collection[str] = (),
    ) -> Self:
        """Load a translator with its frozen models.

        Args:
            place: a trial's folder (STORAGE/CAMPAIGN/trials/NAME), an exported folder or bundle, or a hub name.
            source: the source if it lies elsewhere than at training, or one that is loaded already, such as
                `other.pair.source`.
            target: the same for the target.
            device: where the models go; a GPU if there is one.
            revision: of a hub name.
            plugins: modules that an exported folder, a bundle or a hub's repository may import, as
                ("my_plugin",); any other that it names is refused. Trials of one's own storage need none.

        Raises:
            UserError: if there is no translator, it names a module that is not trusted, a model cannot be loaded, or
                is not the one of training.
        """
        source, target = check_model("source", source), check_model("target", target)
        revision = check_text("revision", revision)
        saved = read_saved(check_place(place), revision=revision, plugins=check_plugins(plugins))
        splits, pair = load_models(saved, source, target, device_of(device))
        return cls(saved, splits, pair, load_translator(saved.spec, pair.source, pair.target, saved.weights))

    @cached_property
    def identities(self) -> dict[str, ModelIdentity]:
        """The identities of `source` and `target`, recorded at training, or else computed when first needed."""
        known = self.saved.identities
        return {  # a target that was spread over workers has no recorded digest of its weights
            role: known[role] if role in known and known[role].weights else lm.identity
            for role, lm in (("source", self.pair.source), ("target", self.pair.target))
        }

    @property
    def to_export(self) -> SavedTranslator:
        """What was read from disk, with the identities of both models, the solved examples and the questions' ids."""
        return replace(self.saved, identities=self.identities, exemplars=self.splits.exemplars, ids=self.ids)

    # -- answers ------------------------------------------------------------------------------------------------------

    @overload
    def generate(self, questions: Question, **settings: Unpack[Decoding]) -> Answer: ...  # type: ignore[overload-overlap]

    @overload
    def generate(self, questions: Sequence[Question], **settings: Unpack[Decoding]) -> list[Answer]: ...

    def generate(self, questions: Question | Sequence[Question], **settings: Unpack[Decoding]) -> Answer | list[Answer]:
        """Answer questions with the target, which reads the source's soft tokens.

        Args:
            questions: one question, or several: texts, or examples of the task.
            **settings: see `Decoding`.

        Returns:
            One answer, or a list of them in the questions' order.

        Raises:
            UserError: if a question or a number cannot be used.
        """
        examples, decoding, seeds = self._asked(questions, settings)
        answers: list[Answer] = []
        for at in range(0, len(examples), decoding["batch_size"]):
            batch = examples[at : at + decoding["batch_size"]]
            began = time.perf_counter()
            outputs = (
                self._sampled(batch, decoding, seeds[at : at + len(batch)])
                if decoding["temperature"] > 0
                else self._evaluator(decoding["max_new_tokens"], len(batch)).outputs("bridged", batch, self.module)
            )
            answers += self._answers(batch, outputs, time.perf_counter() - began)
        return answers[0] if isinstance(questions, str | Example) else answers

    def stream(self, question: Question, **settings: Unpack[Decoding]) -> Iterator[str]:
        """Answer one question and yield its text in pieces as it is decoded, by eager decoding.

        The pieces joined are what `generate` returns: exactly in float64, up to rounding on a GPU in bf16, where
        `generate` decodes with fused layers.

        Args:
            question: the question.
            **settings: as for `generate`.

        Raises:
            UserError: as `generate` does.
        """
        for pieces in self.stream_batch([question], **settings):
            yield from (piece.text for piece in pieces if piece.text)

    def stream_batch(self, questions: Sequence[Question], **settings: Unpack[Decoding]) -> Iterator[list[Piece]]:
        """Answer several questions together and yield, after each decoding step, the new pieces of their answers.

        A question's pieces joined are what `stream` yields for it alone, and its last piece has its answer.

        Args:
            questions: the questions, decoded as one batch of any size.
            **settings: as for `generate`.

        Raises:
            UserError: as `generate` does.
        """
        if isinstance(questions, str | Example):
            raise UserError("stream_batch takes a list of questions; for one there is stream")
        lm, stops = self.pair.target, self.pair.task.stops
        examples, decoding, seeds = self._asked(questions, settings)
        if not examples:
            return
        began = time.perf_counter()
        rows, soft = self._inputs(examples)
        sampling = _sampling(examples, decoding, seeds)
        steps = eager_steps(lm, rows, soft, decoding["max_new_tokens"], sampling, stops)
        for pieces in stream_outputs(steps, Stopping.of(lm, stops), len(examples)):
            seconds = time.perf_counter() - began
            yield [
                Piece(
                    index=i,
                    text=text,
                    answer=None if output is None else self._answers([examples[i]], [output], seconds)[0],
                )
                for i, text, output in pieces
            ]

    def compare(self, question: Question, conditions: Sequence[str] | None = None) -> dict[str, Answer]:
        """Answer one question under several conditions, as the final evaluation does.

        The seconds of `text_bridge` include those in which the source wrote the answer that it pastes.

        Args:
            question: the question.
            conditions: some of `CONDITIONS`; all by default. `shuffled_soft` takes the soft tokens of a recorded test
                question, and is left out by default if none is recorded.

        Raises:
            UserError: for an unknown condition, or `shuffled_soft` without recorded samples.
        """
        conditions = check_conditions(conditions)
        (example,) = self._examples([question])
        others = [other for other in self._recorded.values() if other.question != example.question]
        wanted = conditions or [name for name in CONDITIONS if name != "shuffled_soft" or others]
        self._check_lengths([example], self.spec.max_new_tokens)
        evaluator = self._evaluator(self.spec.max_new_tokens, 1)
        results = outputs_by_condition(evaluator, self.module, example, next(iter(others), None), wanted)
        return {
            condition: self._answers([example], [output], seconds)[0]
            for condition, (output, seconds) in results.items()
        }

    def question(self, text: str, name: str | None = None) -> Example:
        """Return a question as an example of the task.

        Args:
            text: the question.
            name: the question's id, which seeds its noise. By default that of the recorded test example that asks the
                same, or else a digest of the text.

        Raises:
            UserError: if the text is empty, no text, or was not valid UTF-8.
        """
        if not isinstance(text, str):
            raise UserError(f"{shown(text)} is no question: give a text")
        check_question_text(text)
        known = self._recorded.get(text)
        if check_text("name", name) is None or (known is not None and name == known.id):
            if known is not None:
                return known
            name = self.ids.get(digest(text))
        return Example(id=name or f"question-{digest(text)}", index=0, question=text, answer="", gold="")

    def prompt_tokens(self, question: Question, max_new_tokens: int | None = None) -> int:
        """Return how many positions the target reads for a question: its prompt and the soft tokens in it.

        Args:
            question: the question.
            max_new_tokens: most tokens of the answer; by default the job's.

        Raises:
            TooLongError: if a model cannot read the question, or the target not with an answer of that length.
        """
        if max_new_tokens is not None:
            check_count("max_new_tokens", max_new_tokens)
        return self._check_lengths(self._examples([question]), max_new_tokens or self.spec.max_new_tokens)[0]

    # -- soft tokens --------------------------------------------------------------------------------------------------

    def soft_tokens(self, questions: Question | Sequence[Question]) -> SoftTokens:
        """Return the soft tokens that the target reads for questions.

        Args:
            questions: one question, or B of them.

        Raises:
            UserError: if there is none, a model cannot read one, or the translator makes no soft tokens.
        """
        if self.module.hands_on:
            raise UserError("bridge=c2c makes no soft tokens: it fuses the source's cache into the target's")
        examples = self._examples(questions)
        if not examples:
            raise UserError("soft_tokens takes one question at least")
        self._check_lengths(examples, 1)
        embeds = self._evaluator(1, 1).soft(self.pair.encoder(examples), self.module).tokens  # (B, K, d_t)
        return SoftTokens(embeds=embeds, mask=embeds.new_ones(embeds.shape[:2], dtype=torch.long))

    @torch.no_grad()
    def prompt_embeds(self, question: Question) -> Tensor:
        """Return what the target reads for a question, soft tokens and text, as input embeddings.

        Other engines take them as prompt embeddings; greedy decoding from them continues as `generate` does.

        Args:
            question: the question.

        Returns:
            (L, d_t), in the target's dtype.

        Raises:
            UserError: if a model cannot read the question, or the translator acts inside the target's layers, so that
                embeddings do not say it all.
        """
        if self.spec.injection == "adapter" or self.spec.writes_cache:
            raise UserError(
                f"injection={self.spec.injection} acts inside the target's layers: no embeddings say what it reads"
            )
        examples = self._examples([question])
        self._check_lengths(examples, 1)
        rows, soft = self._inputs(examples)
        return assemble(self.pair.target, rows, soft, pad="right").embeds[0]  # (L, d_t)

    # -- the hub ------------------------------------------------------------------------------------------------------

    def _save_pretrained(self, save_directory: Path) -> None:
        write_export(self.to_export, save_directory)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, revision: str | None = None, **settings: Any
    ) -> Self:
        """Load an exported translator, as `load` does. The settings of huggingface_hub's own method change nothing.

        Raises:
            UserError: as `load` does, and for an unknown setting.
        """
        of_hub = {"cache_dir", "force_download", "local_files_only", "token"}
        known = {"source", "target", "device", "plugins"}
        if unknown := settings.keys() - known - of_hub:
            raise UserError(f"from_pretrained takes no {', '.join(sorted(unknown))}: see Translator.load")
        given = {name: value for name, value in settings.items() if name in known}
        return cls.load(pretrained_model_name_or_path, revision=revision, **given)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _examples(
        self, questions: Question | Sequence[Question], ids: Sequence[str | None] | None = None
    ) -> list[Example]:
        several = listed_questions(questions)
        named = zip(several, ids or [None] * len(several), strict=True)
        return [one if isinstance(one, Example) else self.question(one, name) for one, name in named]

    def _asked(
        self, questions: Question | Sequence[Question], settings: Decoding
    ) -> tuple[list[Example], Decoding, list[int]]:
        """Return the examples of questions, how they are decoded, and each one's seed.

        Raises:
            UserError: if a question or a setting cannot be used.
        """
        decoding = check_decoding(settings, self.spec.max_new_tokens, len(listed_questions(questions)))
        examples = self._examples(questions, decoding["ids"])
        self._check_lengths(examples, decoding["max_new_tokens"])
        return examples, decoding, list(decoding["seed"])  # type: ignore[arg-type]

    def _check_lengths(self, examples: Sequence[Example], new_tokens: int) -> list[int]:
        return [check_question(self.pair, item, new_tokens) for item in self.pair.encoder(examples)]

    def _evaluator(self, limit: int, batch_size: int) -> Evaluator:
        pair = replace(self.pair, spec=self.spec.replace(max_new_tokens=limit))
        return Evaluator(pair, Worker(device=self.pair.target.device), batch_size, NodeCache(None))

    def _inputs(self, examples: Sequence[Example]) -> tuple[list[Row], SoftContext]:
        """Return the target's rows of examples, without answers, and their soft tokens."""
        items = self.pair.encoder(examples)
        return [item.row.without_answer() for item in items], self._evaluator(1, 1).soft(items, self.module)

    def _sampled(self, examples: Sequence[Example], decoding: Decoding, seeds: Sequence[int]) -> list[Output]:
        lm, stops = self.pair.target, self.pair.task.stops
        rows, soft = self._inputs(examples)
        sampling = _sampling(examples, decoding, seeds)
        tokens = decode_rows(lm, rows, soft, decoding["max_new_tokens"], sampling, stops=stops)
        stopping = Stopping.of(lm, stops)
        return [generated(stopping, ids) for ids in tokens]

    def _answers(self, examples: Sequence[Example], outputs: Sequence[Output], seconds: float) -> list[Answer]:
        return [
            Answer(
                text=output["text"],
                final=self.pair.task.score(output["text"], example).answer,
                tokens=output["tokens"],
                truncated=output["truncated"],
                seconds=seconds,
            )
            for example, output in zip(examples, outputs, strict=True)
        ]


def _sampling(examples: Sequence[Example], decoding: Decoding, seeds: Sequence[int]) -> Sampling | None:
    if decoding["temperature"] == 0:
        return None
    generators = [generator("translate", seed, example.id) for seed, example in zip(seeds, examples, strict=True)]
    return Sampling(temperature=decoding["temperature"], generators=generators)
