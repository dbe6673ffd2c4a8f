"""The work of a job's stages on one worker: FLOPs, bytes that decoding reads, steps and questions. No times yet.

It follows what the code does: the few-shot header is read once where soft tokens come after it, states of the frozen
models that are stored are not computed again in each step, and the frozen target's backward pass costs one more
forward pass, since only its inputs have gradients. `job_time.py` turns work into seconds.
"""

from dataclasses import dataclass, replace

from bridge_common.metric_names import TRANSLATED
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.activations import FP32, trained_parameters
from ray_bridge.footprint.estimate import FIXED_BUCKET, FIXED_ROWS, INSTRUCTION, MICRO_TOKENS, positions_that_fit
from ray_bridge.footprint.flops import adapter_flops, answer_flops, forward_flops, kv_bytes, layer_weights
from ray_bridge.footprint.means import TextMeans, Texts
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.footprint.shards import part_of

BACKWARD = 2  # backward passes of trained weights, in forward passes; of frozen ones it is 1
NO_FLOW = ("resampler", "linear", "c2c", "constant")  # bridges of the package without a flow loss
MEMORY = 80e9 * 0.9  # bytes of a GPU that weights and caches of decoding may take


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one worker does.

    Attributes:
        train_flops: FLOPs of passes with gradient.
        read_flops: FLOPs of passes over prompts, answers and stored states.
        decode_flops: FLOPs of generating tokens one by one.
        decode_bytes: weights, keys and values that generating reads.
        decode_steps: steps of generating a token for every row.
        calls: batches that are decoded, each with its set-up.
        micro_batches: eager passes with gradient of decode-aware steps.
        steps: training steps.
        questions: questions that are decoded and scored.
        examples: examples whose states are computed ahead.
        stored_bytes: bytes of those states.
        summed_bytes: bytes of gradients that are summed over workers.
    """

    train_flops: float = 0.0
    read_flops: float = 0.0
    decode_flops: float = 0.0
    decode_bytes: float = 0.0
    decode_steps: float = 0.0
    calls: float = 0.0
    micro_batches: float = 0.0
    steps: float = 0.0
    questions: float = 0.0
    examples: float = 0.0
    stored_bytes: float = 0.0
    summed_bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Return the sum of both."""
        return Work(**{name: value + getattr(other, name) for name, value in vars(self).items()})


class JobWork:
    """The work of the stages of a job.

    Args:
        spec: the job.
        run: how it is carried out.
        source: sizes of the source.
        target: sizes of the target.
        texts: lengths and numbers of its texts.
        memory: bytes of a worker's device, by which long passes run layers again; None if they never do.
    """

    def __init__(
        self,
        spec: JobSpec,
        run: RunSpec,
        source: ModelShape,
        target: ModelShape,
        texts: Texts,
        memory: float | None = None,
    ) -> None:
        self.spec, self.run, self.texts = spec, run, texts
        self.source, self.target = source, part_of(target, spec.target_shards)
        self.groups = max(1, run.workers // spec.target_shards)  # of workers that read the same rows
        self.size = 4 if spec.model_dtype == "float32" else 2
        self.graphed = run.use_gpu
        self.kept = run.recompute_tokens  # positions of a pass above which layers run again
        if self.kept is None and memory is not None:
            self.kept = positions_that_fit(spec, run, source, self.target, memory)
        layer = spec.source_layer
        self.source_layers = layer if layer >= 0 else source.layers + 1 + layer
        self.stored = spec.steps * spec.batch_size >= texts.train and spec.bridge != "c2c"

    # -- training -----------------------------------------------------------------------------------------------------

    def prepare(self) -> Work:
        """Return the work before the first step: states of training examples, once each, if all of them are needed."""
        if self.spec.bridge == "linear":  # reads every training prompt once, for its fit
            read = self.texts.train / self.groups
            return Work(read_flops=read * self._source_reading(), examples=read)
        if not self.stored:
            return Work()
        own = self.texts.target
        each = float(self._source_reading())
        if self._teacher_stored():
            each += forward_flops(self.target, _whole(own.prompt + own.answer), _whole(own.header))
        count = self.texts.train / self.groups
        states = self.texts.source.question * self.source.hidden
        states += own.answer * self.target.hidden if self._teacher_stored() else 0.0
        return Work(read_flops=count * each, examples=count, stored_bytes=count * states * self.size)

    def step(self) -> Work:
        """Return the work of a training step."""
        spec, own, rows = self.spec, self.texts.target, self._rows()
        length, cached = self._student()
        student = 2.0 * forward_flops(self.target, length, cached, logits=_whole(own.answer))
        if self.kept is not None and rows * length > self.kept:
            student += forward_flops(self.target, length, cached)
        if spec.injection == "adapter":
            student += 3 * self._adapters(length, 1)
        frozen = 0.0
        if spec.kl_weight > 0:
            frozen += forward_flops(self.target, 0, logits=_whole(own.answer))
            if not (self.stored and self._teacher_stored()):
                frozen += forward_flops(self.target, _whole(own.prompt + own.answer), _whole(own.header))
        if not self.stored:
            frozen += self._source_reading()
        flow = spec.bridge not in NO_FLOW and spec.flow_teacher != "none" and spec.flow_weight > 0
        bridge = (1 + BACKWARD) * (self._bridge(spec.sampler_steps) + (self._bridge(1) if flow else 0.0))
        trained = trained_parameters(spec, self.source, self.target)
        return Work(
            train_flops=rows * (student + bridge),
            read_flops=rows * frozen,
            steps=1,
            summed_bytes=2 * FP32 * trained * (self.groups - 1) / self.groups,
        )

    def decode_aware(self) -> Work:
        """Return what a decode-aware step adds: sampled completions, and passes with gradient over them."""
        spec, own = self.spec, self.texts.target
        rows = spec.decode_questions * spec.decode_samples / self.groups
        questions = min(rows, spec.decode_questions)
        sampled = self._answers("bridged", rows)
        made = replace(sampled, read_flops=questions / max(1.0, rows) * self._soft_flops() + rows * self._prefill(own))
        written = self._written()
        prompt, cached = self._prompt(own, soft=True)
        # Forward; then for each of the two losses the layers again, and back.
        student = 5 * forward_flops(self.target, prompt + written, cached)
        student += 3 * forward_flops(self.target, 0, logits=written)
        teacher = forward_flops(self.target, _whole(own.prompt) + written, _whole(own.header), logits=written)
        whole = spec.inserted + own.header + own.prompt + written
        return made + Work(
            train_flops=rows * student + questions * BACKWARD * self._bridge(spec.sampler_steps),
            read_flops=rows * teacher,
            micro_batches=max(1.0, rows * whole / MICRO_TOKENS),
        )

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation(self, condition: str, questions: int) -> Work:
        """Return the work of answering questions under a condition, shared out among the workers."""
        rows = -(-questions // (self.run.workers if condition == "source_alone" else self.groups))
        return self._answers(condition, rows, fixed=self.spec.fixed_shapes)

    def _answers(self, condition: str, rows: float, *, fixed: bool = False) -> Work:
        """Return the work of answering so many rows.

        Args:
            condition: under which they are answered.
            rows: of this worker.
            fixed: whether in fixed shapes, as evaluation does under `batch_invariant`; training samples as it likes.
        """
        spec = self.spec
        by_source = condition == "source_alone"
        shape, own = (self.source, self.texts.source) if by_source else (self.target, self.texts.target)
        soft = condition not in ("source_alone", "target_alone", "text_bridge")
        more = self._written() if condition == "text_bridge" else 0
        length, cached = self._prompt(own, soft=soft, more=more)
        reading = forward_flops(shape, length, cached, logits=1)
        if condition in TRANSLATED:
            reading += _whole(self._soft_flops())
        written = self._written()
        decoding = answer_flops(shape, length, written, cached) - forward_flops(shape, length, cached, logits=1)
        if soft and spec.injection == "adapter":
            decoding += _whole(self._adapters(length + written, written))
        size = 8 if spec.eval_dtype == "float64" else self.size
        slots = length + spec.max_new_tokens
        batches = max(1.0, rows * kv_bytes(shape, slots, size) / self._free(size)) if self.graphed else 1.0
        if not self.graphed:
            batches = -(-rows // min(self.run.eval_batch_size, max(1, rows)))
        passes, decoded = 0.0, rows
        weights = (shape.layers * layer_weights(shape) + shape.vocabulary * shape.hidden) * size
        if fixed:
            longest = cached + -(-slots // FIXED_BUCKET) * FIXED_BUCKET
            fused = shape.fused and (by_source or spec.target_precision == "full")
            graphs = self.graphed and (fused or shape.attends_fully(longest)) and not (soft and spec.writes_cache)
            # Full batches with graphs, their rows without text included, else of one row.
            batches = float(-(-rows // FIXED_ROWS)) if graphs else rows
            decoded = batches * FIXED_ROWS if graphs else rows
            # Prompts are read one by one, by the target and for soft tokens by the source.
            passes = rows * weights
            if condition in TRANSLATED:
                passes += rows * self.source_layers * layer_weights(self.source) * size
        steps = batches * spec.max_new_tokens
        kv = rows * written * kv_bytes(shape, 1, size) * (length + written / 2) + steps * kv_bytes(shape, cached, size)
        return Work(
            read_flops=rows * reading,
            decode_flops=decoded * decoding,
            decode_bytes=steps * weights + kv + passes,
            decode_steps=steps,
            calls=batches,
            questions=rows,
        )

    def _free(self, size: int) -> float:
        weights = (self.source.parameters + self.target.parameters) * self.size
        return max(0.05 * MEMORY, MEMORY - weights)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _rows(self) -> float:
        return self.spec.batch_size / self.groups

    def _written(self) -> int:
        """Tokens of a generated answer, within the limit: by default as many as the data's own answers have."""
        written = self.texts.target.answer if self.texts.written is None else self.texts.written
        return min(self.spec.max_new_tokens, max(1, _whole(written)))

    def _teacher_stored(self) -> bool:
        return self.spec.kl_alignment and self.spec.kl_weight > 0

    def _student(self) -> tuple[int, int]:
        own = self.texts.target
        length, cached = self._prompt(own, soft=True)
        return length + _whole(own.answer), cached

    def _prompt(self, own: TextMeans, *, soft: bool, more: float = 0.0) -> tuple[int, int]:
        """Return the positions of a prompt that are read, and those of the header before them that are cached."""
        spec = self.spec
        if soft and spec.layout == "soft_only":
            return 1 + spec.soft_tokens + INSTRUCTION, 0
        inserted = spec.inserted if soft else 0
        shared = spec.injection != "adapter" and not spec.writes_cache
        after = not soft or (spec.soft_position == "before_question" and shared)
        cached = _whole(own.header) if after else 0
        if soft and spec.injection == "kv_prefix":
            return _whole(own.header) + _whole(own.prompt + more), spec.soft_tokens
        return inserted + _whole(own.header) - cached + _whole(own.prompt + more), cached

    def _prefill(self, own: TextMeans) -> float:
        length, cached = self._prompt(own, soft=True)
        return forward_flops(self.target, length, cached, logits=1)

    def _source_reading(self) -> int:
        own = self.texts.source
        if self.spec.latent_steps or self.spec.bridge == "c2c":  # all layers, the header in each row
            return forward_flops(self.source, _whole(own.header + own.prompt) + self.spec.latent_steps)
        return forward_flops(self.source, _whole(own.prompt), _whole(own.header), layers=self.source_layers)

    def _soft_flops(self) -> float:
        """Return the FLOPs of a question's soft tokens: the source reads, the bridge samples."""
        return self._source_reading() + self._bridge(self.spec.sampler_steps)

    def _bridge(self, evaluations: int) -> float:
        """Return about the FLOPs of so many evaluations of the bridge for one question; a resampler has only one."""
        spec = self.spec
        if spec.bridge == "constant":
            return 0.0
        w, K, d_t = spec.hidden_size, spec.soft_tokens, self.target.hidden
        geometry = spec.geometry_projection
        read = self.texts.target.question if geometry else spec.latent_steps or self.texts.source.question
        width = d_t if geometry else self.source.hidden
        if spec.bridge == "c2c":
            sizes = (self.target.kv_heads * self.target.head_dim, self.source.kv_heads * self.source.head_dim)
            layer = 2 * w * (2 * sizes[0] + sizes[1] + w + self.target.kv_heads)
            return 2.0 * float(self.texts.target.question) * min(self.source.layers, self.target.layers) * layer
        if spec.bridge == "linear":
            return 2.0 * d_t * ((read * self.source.hidden if geometry else 0) + K * width)
        before = float(read) * (self.source.hidden * d_t if geometry else 0) + read * width * (width + w)
        block = float(K) * 12 * w**2 + 2 * K**2 * w + 6 * w**2
        if spec.bridge != "dit":  # the others also attend to every source token
            block += K * 2 * w**2 + read * 2 * w**2 + 2 * K * read * w + 3 * w**2
        once = spec.depth * block + 2 * K * w * d_t
        guided = 2 if spec.guidance_scale != 1 and spec.bridge != "resampler" else 1
        count = 1 if spec.bridge == "resampler" else evaluations * guided
        return 2.0 * (before + count * once)

    def _adapters(self, tokens: int, passes: int) -> float:
        spec = self.spec
        count = len(spec.adapter_layers) or max(1, self.target.layers // 2)
        return count * adapter_flops(self.target.hidden, spec.hidden_size, spec.soft_tokens, tokens, passes)


def _whole(value: float) -> int:
    return round(value)
