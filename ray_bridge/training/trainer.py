"""The loop that one worker runs: train the translator, choose a checkpoint on the validation slice, evaluate it."""

import contextlib
import copy
import math
import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bridge_common import trial_files
from bridge_common.errors import UserError
from bridge_common.event_log import EventLog
from bridge_common.files import write_json, write_jsonl
from bridge_common.metric_names import CONDITIONS
from bridge_common.trial_folder import TrialFolder
from ray_bridge.bridges.translator import Translator, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.caching.source_states import SourceStates
from ray_bridge.caching.teacher_states import TeacherStates
from ray_bridge.config.spec import JobSpec, RunSpec, check_run
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.metrics import metrics_of
from ray_bridge.evaluation.pooling_report import pooling_report
from ray_bridge.evaluation.selection import Best, Weights, load_selected, save_selected
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.noise import draw_ahead
from ray_bridge.objectives.decode_aware import decode_terms
from ray_bridge.objectives.forward_passes import Passes
from ray_bridge.objectives.objective import Losses, backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.training.async_checkpoint import Snapshot
from ray_bridge.training.checkpoint import Progress
from ray_bridge.training.schedule import epoch_order, learning_rate, sees_prompt, with_prompt
from ray_bridge.training.session import Session
from ray_bridge.training.startup_timer import StartupTimer

STANDARDISE_ON = 256
"""Training prompts whose states set the statistics that a bridge standardises by."""


class Trainer:
    """One worker's part of a job. `run` is the whole of it."""

    def __init__(
        self,
        spec: JobSpec,
        run: RunSpec,
        folder: Path,
        session: Session,
        cache: Path | None,
        start: StartupTimer | None = None,
    ) -> None:
        check_run(spec, run)
        self.start = start or StartupTimer()
        self.spec, self.run_spec, self.folder, self.session = spec, run, folder, session
        self.worker = session.worker
        self.splits: Splits = load_splits(spec)
        self.pair = ModelPair.load(spec, self.splits, self.worker.device)
        self.start.done("models")
        # A job that asks for every example at least once gains by reading them all in large batches.
        known = self.splits.train if spec.steps * spec.batch_size >= len(self.splits.train) else ()
        identity = self.pair.digest_of(self.pair.source) if known else None
        self.source_states = SourceStates(
            self.pair.source, self.pair.encoder, known, spec.source_layer, identity, cache
        )
        # The misaligned KL looks at other positions than are kept.
        taught = known if spec.kl_alignment and spec.kl_weight > 0 else ()
        identity = self.pair.digest_of(self.pair.target) if taught else None
        self.teacher_states = TeacherStates(self.pair.target, self.pair.encoder, taught, identity, cache)
        once = self.pair.once(NodeCache(cache), self.worker)
        self.translator = build_translator(spec, self.pair.source, self.pair.target, once)
        self.parameters = [p for p in self.translator.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=spec.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=spec.weight_decay,
            fused=self.worker.device.type == "cuda",
        )
        decode = decode_terms(spec, self.pair, self.splits.train, batch_size=run.eval_batch_size)
        self.terms = [*decode, *objective_terms(spec)]
        self.passes = Passes(self.translator, self.pair.target)
        self.average: Weights = {}
        self._start_average()
        self.best = Best()
        self.snapshot = Snapshot()
        self.step, self.seconds = 0, 0.0
        self.evaluator = Evaluator(self.pair.for_evaluation(), self.worker, run.eval_batch_size, NodeCache(cache))
        self.events = EventLog(TrialFolder(folder).events_file) if self.worker.first else None
        self.start.done("translator")

    def run(self) -> dict[str, Any]:
        """Train from where the newest checkpoint left off, evaluate, and write the result; returns it.

        However it ends, the last checkpoint has been written by then.
        """
        try:
            return self._run()
        finally:
            self.session.wait()

    def _run(self) -> dict[str, Any]:
        started = time.monotonic()
        self._resume()
        if self.events:
            self.events.tags(environment(self.worker.device))
            if self.translator.facts:
                self.events.metrics(0, self.translator.facts)
        resumed = self.step > 0
        if not resumed:
            self._standardise()
            self.start.done("statistics")
            self._validate()
            self.start.done("validation")
        self.prepare()
        self.start.done("frozen_states")
        if self.events and not resumed:
            self.events.metrics(0, self.start.metrics())
        while self.step < self.spec.steps:
            self._train_step()
            if self.step % self.spec.eval_every == 0 or self.step == self.spec.steps:
                self._validate()
            if self.step % self.run_spec.checkpoint_every == 0 or self.step == self.spec.steps:
                self._checkpoint()
        if self.worker.first:
            save_selected(self.folder / "selected", self.best)
        self.worker.barrier()
        startup = round(self.start.seconds(launch=not resumed), 3)
        return self._conclude(time.monotonic() - started) | {"startup_seconds": startup}

    def prepare(self) -> None:
        """Read what the frozen models make of the training examples, before steps ask for it."""
        self.source_states.prepare(self.worker)
        self.teacher_states.prepare(self.worker)

    def _standardise(self) -> None:
        prompts = self.splits.train[:STANDARDISE_ON]
        mine = [prompts[i] for i in self.worker.share(len(prompts))]
        batches = (self.pair.encoder(mine[at : at + 16]) for at in range(0, len(mine), 16))
        layer = self.spec.source_layer
        self.translator.standardise((read_source(self.pair.source, items, layer) for items in batches), self.worker)
        self._start_average()

    def _start_average(self) -> None:
        if self.spec.ema_decay:
            self.average = {name: value.clone() for name, value in self.translator.state_dict().items()}

    def _train_step(self) -> None:
        began = time.monotonic()
        items = self.pair.encoder([self.splits.train[i] for i in self._batch(self.step)])
        if sees_prompt(self.spec, self.step):
            items = with_prompt(items)
        measure = (self.step + 1) % self.spec.eval_every == 0
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.spec, self.step)
        self.passes.pause(measure)  # each term's gradient norm takes a backward pass of its own
        context = StepContext(
            self.spec,
            self.pair.target,
            self.translator,
            self.source_states(items),
            StepKey(seed=self.spec.seed, step=self.step),
            self.worker,
            self.passes,
            teacher_answers=self.teacher_states(items),
        )
        with self._autocast():
            due = [term for term in self.terms if term.due(self.step)]
            losses = backward(context, due, self.parameters, term_norms=measure)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for name, value in self.translator.state_dict().items() if self.average else ():
            self.average[name].lerp_(value, 1 - self.spec.ema_decay)
        self.step += 1
        self._look_ahead()  # while the device is at work: what follows waits for it
        self._log_step(losses, float(norm), began, items)

    def _look_ahead(self) -> None:
        """Draw the next step's noise while other work goes on."""
        if self.step < self.spec.steps:
            examples = [self.splits.train[i] for i in self._batch(self.step)]
            for purpose in ("sampler", "flow"):
                keys = [(purpose, self.spec.seed, self.step, example.id) for example in examples]
                draw_ahead((self.spec.soft_tokens, self.pair.target.hidden_size), keys)

    def _batch(self, step: int) -> Sequence[int]:
        """This worker's training examples of a step: each epoch in an order of its own."""
        size, available = self.spec.batch_size, len(self.splits.train)
        if available < size:
            raise UserError(f"batch_size {size} is more than the {available} training examples: lower it")
        epoch, place = divmod(step, available // size)
        chosen = epoch_order(self.spec.seed, epoch, available)[place * size : (place + 1) * size]
        return [int(chosen[i]) for i in self.worker.share(size)]

    def _log_step(self, losses: Losses, norm: float, began: float, items: Sequence[Encoded]) -> None:
        spent = time.monotonic() - began
        self.seconds += spent
        if not math.isfinite(losses.total) or not math.isfinite(norm):
            raise FloatingPointError(f"step {self.step}: loss {losses.total}, gradient norm {norm}: training diverged")
        if self.events is None or (self.step % self.run_spec.log_every and not losses.gradient_norms):
            return
        tokens = sum(len(item.row.before) + len(item.row.prompt) + len(item.row.answer) for item in items)
        tokens = (tokens + self.spec.inserted * len(items)) * self.worker.world
        values = {f"loss/{name}": value for name, value in losses.terms.items()}
        values |= {"loss/total": losses.total, "grad_norm": norm, "lr": learning_rate(self.spec, self.step - 1)}
        values |= {f"grad_norm/{name}": value for name, value in losses.gradient_norms.items()}
        values |= losses.facts
        values |= {"seconds_per_step": round(spent, 5), "tokens_per_second": round(tokens / spent, 1)}
        self.events.metrics(self.step, values)

    def _validate(self) -> None:
        translator = self._evaluated(self.average or None)
        samples = self.evaluator.evaluate(self.splits.validation, translator, ["bridged"])
        metrics = metrics_of(samples, ["bridged"], self._groups())
        self.best.offer(self.step, metrics["accuracy/bridged"], self.average or self.translator.state_dict())
        if self.events:
            values = {f"validation/{name}": value for name, value in metrics.items()}
            values |= self._pooling(translator)
            self.events.metrics(self.step, values | {"soft_gain": float(self.translator.scale.gain.detach())})

    def _pooling(self, translator: Translator) -> dict[str, float]:
        picture = Path("diagnostics") / f"pooling-{self.step:06d}.png"
        values = pooling_report(self.evaluator.pair, translator, self.splits.validation, self.folder / picture)
        if values and self.events:
            self.events.artifact(str(picture))
        return values

    def _evaluated(self, weights: dict[str, torch.Tensor] | None) -> Translator:
        """A copy of the translator in evaluation's arithmetic, with other weights where they are given."""
        translator = copy.deepcopy(self.translator).eval()
        if weights is not None:
            translator.load_state_dict(weights)
        return translator.double() if self.spec.eval_dtype == "float64" else translator

    def _checkpoint(self) -> None:
        """Copy all that a job needs to go on, and have it written while training does."""
        self.session.wait()  # one copy at a time
        fill = None
        if self.worker.first:
            progress = Progress(
                step=self.step,
                weights=self.translator.state_dict(),
                optimiser=self.optimiser.state_dict(),
                average=self.average,
                best=self.best,
                seconds=self.seconds,
            )
            fill = self.snapshot.take(progress).save
        self.session.report(self.step, {"validation_accuracy": self.best.accuracy}, fill)

    def _resume(self) -> None:
        latest = self.session.latest()
        if latest is None:
            return
        progress = Progress.load(latest)
        self.translator.load_state_dict(progress.weights)
        self.optimiser.load_state_dict(progress.optimiser)
        device = self.worker.device
        self.average = {name: value.to(device, copy=True) for name, value in progress.average.items()}
        self.best = replace(progress.best, weights={k: v.to(device) for k, v in progress.best.weights.items()})
        self.step, self.seconds = progress.step, progress.seconds

    def _conclude(self, wall: float) -> dict[str, Any]:
        translator = self._evaluated(None)
        selected = load_selected(self.folder / "selected", translator)
        samples = self.evaluator.evaluate(self.splits.test, translator, CONDITIONS)
        metrics = metrics_of(samples, CONDITIONS, self._groups())
        rows = [item.text_row for item in self.pair.encoder(self.splits.test)]
        metrics["prompt_tokens"] = sum(len(row.prompt) for row in rows) / len(rows)
        if self.spec.layout == "soft_only":
            metrics["instruction_tokens"] = len(self.pair.encoder(self.splits.test[:1])[0].row.prompt)
        result = {
            "metrics": metrics | {"validation/best_accuracy": self.best.accuracy},
            "selected_step": selected,
            "steps": self.spec.steps,
            "seconds": round(wall, 3),
            "training_seconds": round(self.seconds, 3),
            "workers": self.worker.world,
            "checkpoint": "selected/translator.safetensors",
            "trained_parameters": sum(p.numel() for p in self.parameters),
            "initialisation": self.translator.facts,
        }
        if self.worker.first and self.events:
            trial = TrialFolder(self.folder)
            write_jsonl(trial.samples_file, samples)
            write_json(trial.metrics_file, metrics)
            self.events.metrics(self.spec.steps, metrics)
            for name in (trial_files.SAMPLES, trial_files.METRICS, "selected/translator.safetensors"):
                self.events.artifact(name)
        self.worker.barrier()
        return result

    def _groups(self) -> list[str]:
        """Names under which the task reports accuracy separately."""
        return list(self.splits.test[0].groups)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.run_spec.autocast and self.worker.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)  # recordings need it so
        return contextlib.nullcontext()


def environment(device: torch.device) -> dict[str, str]:
    """Facts about where a job runs: versions, node and accelerator."""
    import transformers

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "node": platform.node(),
        "gpu": gpu,
    }
