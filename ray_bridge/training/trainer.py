"""The loop that one worker runs: train the translator, select a checkpoint on validation examples, evaluate it."""

import contextlib
import copy
import math
import time
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge_common.event_log import EventLog
from bridge_common.heartbeat import Heartbeat
from bridge_common.metric_names import LOSS, accuracy
from bridge_common.trial_files import SELECTED
from bridge_common.trial_folder import TrialFolder
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.caching.frozen_states import CHUNK
from ray_bridge.config.run_spec import RunSpec, check_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.evaluation.attention_reports import report_attention
from ray_bridge.evaluation.metrics import metrics_of
from ray_bridge.evaluation.selection import CHECKPOINT, Best, Weights, save_selected
from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.inputs.text_slots import teacher_slots
from ray_bridge.noise import draw_ahead
from ray_bridge.objectives.objective import Losses, backward
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.task import Example
from ray_bridge.training.async_checkpoint import Snapshot
from ray_bridge.training.build import build_parts
from ray_bridge.training.checkpoint import TrainingState
from ray_bridge.training.final_evaluation import FinalEvaluation, evaluate_selected
from ray_bridge.training.out_of_memory import NamesOutOfMemory
from ray_bridge.training.resident_models import ResidentModels
from ray_bridge.training.schedule import batch_indices, learning_rate, sees_prompt, with_prompt
from ray_bridge.training.session import Session
from ray_bridge.training.startup_timer import StartupTimer
from ray_bridge.training.tags import data_tags, environment
from ray_bridge.training.unread_step import Mark, UnreadStep

LOOK_EVERY_S = 1.0  # between looks for a request to stop
LEAST_PROMPTS = 256
"""Training prompts from whose source states the whitening statistics are computed, if a job reads no more."""
PROMPTS_A_DIMENSION = 16
"""More prompts for each dimension of the states would not change the statistics."""


class Trainer:
    """One worker's part of a job; `run` does all of it.

    Args:
        spec: what is trained and measured.
        run: how it is carried out.
        folder: the trial's folder, in which rank 0 writes.
        session: the worker, and where its checkpoints are kept.
        cache: folder of files that trials on a node share, or None to share nothing.
        startup: the timer that was started when the job was called; by default one that starts here.
        alive: counts steps, evaluated batches and stored states as signs of life; None records none.
        models: keeps the frozen models for this process's next job; None loads them for this one alone.

    Raises:
        UserError: if the batch does not divide among the workers, or data, checkpoints and settings do not fit.
    """

    def __init__(
        self,
        spec: JobSpec,
        run: RunSpec,
        folder: Path,
        session: Session,
        cache: Path | None,
        startup: StartupTimer | None = None,
        alive: Heartbeat | None = None,
        models: ResidentModels | None = None,
    ) -> None:
        check_run(spec, run)
        self.startup, self.alive = startup or StartupTimer(), alive or Heartbeat(None)
        self.spec, self.run_spec, self.folder, self.session = spec, run, folder, session
        self.worker = session.worker
        self.rows = self.worker.data_parallel  # by which training examples are shared out
        with NamesOutOfMemory("loading the models"):
            parts = build_parts(spec, run, self.worker, cache, self.startup, models)
        self.splits, self.pair = parts.splits, parts.pair
        self.source_states, self.teacher_states = parts.source_states, parts.teacher_states
        self.translator, self.parameters, self.optimiser = parts.translator, parts.parameters, parts.optimiser
        self.terms, self.passes, self.evaluator = parts.terms, parts.passes, parts.evaluator
        self.evaluator.on_batch = partial(self.alive.sign, "evaluation")
        # Gradients pass through the frozen target in its own dtype, in which small ones would be 0.
        self.scaler = torch.amp.GradScaler(self.worker.device.type, enabled=spec.model_dtype == "float16")
        self.average: Weights = {}
        self._start_average()
        self.best = Best()
        # Of the models as loaded: tokenizers keep settings of their last call.
        self.models = parts.pair.identities() if self.worker.first else {}
        self.snapshot = Snapshot()
        self.step, self.seconds = 0, 0.0
        self._stops, self._look_after = False, 0.0
        self._unread: deque[UnreadStep] = deque()
        # A scaled gradient's norm is judged by the scale of its own step, which the next one changes.
        self._reads_later = self.worker.device.type == "cuda" and not self.scaler.is_enabled()
        self.events = EventLog(TrialFolder(folder).events_file) if self.worker.first else None

    def run(self) -> dict[str, Any] | None:
        """Train from the newest checkpoint on, evaluate, write the trial's files, and return the result.

        Whether it returns or raises, the last reported checkpoint has been written by then.

        Returns:
            metrics, steps, seconds, checkpoint and whatever else result.json holds besides the trial's identity; None
            if the trial was asked to stop in training (`TrialFolder.request_stop`), after a checkpoint.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite.
            OutOfMemoryError: if a part of the job does not fit into memory; the process can still be used.
        """
        try:
            return self._run()
        except Exception:
            with contextlib.suppress(Exception):  # the device may be lost, too
                self._read_steps()
            raise
        finally:
            self.passes.release()  # before the process leaves the group of a target in parts
            self.session.wait()

    def _run(self) -> dict[str, Any] | None:
        started, start_seconds = time.monotonic(), self.startup.seconds()
        self._resume()
        if self.events:
            slow, data = self.pair.slow_paths(), data_tags(self.splits)
            memory = {"recompute_above": f"{self.passes.recompute_above} positions"}
            self.events.tags(environment(self.worker.device) | data | slow | memory)
            for line in (*slow.values(), *data.values()):
                warnings.warn(line, stacklevel=2)
        resumed = self.step > 0
        statistics: dict[str, float] = {}
        with NamesOutOfMemory("preparing the frozen models' states"):
            self.prepare()
        self.startup.done("frozen_states")
        if not resumed:
            with NamesOutOfMemory("preparing the frozen models' states"):
                statistics = self._fit_whitening()
            self.startup.done("statistics")
            self._validate()
            self.startup.done("validation")
        if self.events:  # after the validation: MLflow's page that compares runs opens on what they recorded first
            self.events.metrics(0, self.pair.fast_paths() | self.translator.initialisation)
            if not resumed:
                self.events.metrics(0, statistics)
                self.events.metrics(0, self.startup.metrics())
        while self.step < self.spec.steps:
            with NamesOutOfMemory("a training step", self.passes.release):
                self._train_step()
            ends = self.step == self.spec.steps
            if ends or self.step % self.spec.eval_every == 0:
                self._read_steps()
                self._validate()
            if ends or self._stops or self.step % self.run_spec.checkpoint_every == 0:
                self._read_steps()  # weights that diverged are not kept
                self._checkpoint()
            if self._stops and not ends:
                return None
        if self.worker.first:
            save_selected(self.folder / SELECTED, self.best, self.models)
        self.worker.barrier()
        startup_seconds = round(self.startup.seconds(launch=not resumed), 3)
        seconds = time.monotonic() - started  # without the final evaluation
        with NamesOutOfMemory("an evaluation", self.passes.release):
            final = evaluate_selected(self.evaluator, self._for_evaluation(), self.folder, self.splits.test)
        result = self._result(final, seconds) | {
            "startup_seconds": startup_seconds,
            "start_seconds": round(start_seconds, 3),  # from the trial's call to here
        }
        if self.events:
            final.write(self.folder, self.events, self.spec.steps)
        self.worker.barrier()
        return result

    def prepare(self) -> None:
        """Compute the frozen models' states of the training examples, before steps ask for them."""
        computed = partial(self.alive.sign, "frozen states")
        self.source_states.prepare(self.worker, computed)
        self.teacher_states.prepare(self.rows, computed)

    def _fit_whitening(self) -> dict[str, float]:
        """Compute the whitening statistics from all training prompts, or from as many as the job reads or needs.

        A bridge that is not trained is fitted here, from all training prompts. Returns what is recorded of it.
        """
        width = max(self.pair.source.hidden_size, self.pair.target.hidden_size)
        read = max(LEAST_PROMPTS, min(self.spec.steps * self.spec.batch_size, PROMPTS_A_DIMENSION * width))
        fitted = self.translator.regression is not None
        prompts = self.splits.train if fitted else self.splits.train[:read]
        # The chunks of the stored states: every worker has encoded and computed its own, whatever their number.
        size = CHUNK if len(prompts) >= CHUNK * self.worker.world else 1
        batches = [prompts[at : at + size] for at in range(0, len(prompts), size)]
        sources = (self._source_states(batches[i]) for i in self.worker.share(len(batches)))
        if fitted:
            teacher = partial(teacher_slots, self.spec, self.pair.target)
            metrics = self.translator.fit_regression(sources, teacher, self.worker)
        else:
            metrics = self.translator.fit_whitening(sources, self.worker)
        self._start_average()
        return metrics

    def _source_states(self, examples: Sequence[Example]) -> SourceBatch:
        self.alive.sign("statistics")
        return self.source_states(self.pair.encoder(examples))

    def _start_average(self) -> None:
        if self.spec.ema_decay:
            self.average = {name: value.clone() for name, value in self.translator.state_dict().items()}

    def _train_step(self) -> None:
        began = self._unread[-1].ended if self._unread else Mark(self.worker.device)
        items = self.pair.encoder([self.splits.train[i] for i in self._batch(self.step)])
        if sees_prompt(self.spec, self.step):
            items = with_prompt(items)
        measure_norms = (self.step + 1) % self.spec.eval_every == 0
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.spec, self.step)
        self.passes.pause(measure_norms)  # each term's gradient norm takes a backward pass of its own
        due = [term for term in self.terms if term.due(self.step)]
        context = StepContext(
            self.spec,
            self.pair.target,
            self.translator,
            self.source_states(items),
            StepKey(seed=self.spec.seed, step=self.step),
            self.rows,
            self.passes,
            teacher_answers=self.teacher_states(items),
            with_flow=any(term.name == "flow" for term in due),
        )
        with self._autocast():
            losses = backward(context, due, self.parameters, term_norms=measure_norms, scale=self._loss_scale())
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.clip_norm)
        self.scaler.step(self.optimiser)  # none if a scaled gradient is not finite: then the scale is halved
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        for name, value in self.translator.state_dict().items() if self.average else ():
            self.average[name].lerp_(value, 1 - self.spec.ema_decay)
        self.step += 1
        self.alive.sign("training")
        self._draw_next_noise()  # while the device computes: reading the step waits for it
        self._unread.append(UnreadStep(self.step, losses, norm, self._asked_to_stop(), began, items))
        self._read_steps(but=1 if self._reads_later else 0)

    def _read_steps(self, *, but: int = 0) -> None:
        """Wait for the steps that were launched, except for the last ones, and record them."""
        while len(self._unread) > but:
            step = self._unread.popleft()
            losses, norm, stops = step.read()
            self._stops = self._stops or stops
            self._log_step(losses, norm, step)

    def _asked_to_stop(self) -> Tensor | None:
        """Return whether the trial is asked to stop, (1,), as rank 0 sees it; None in steps that are not logged."""
        if self.step % self.run_spec.log_every:
            return None
        asked, now = False, time.monotonic()
        if self.worker.first and now >= self._look_after:
            asked, self._look_after = TrialFolder(self.folder).stop_requested(), now + LOOK_EVERY_S
        return self.worker.broadcast(send(torch.tensor([asked]).int(), self.worker.device))

    def _loss_scale(self) -> float:
        if not self.scaler.is_enabled():
            return 1.0
        return float(self.scaler.scale(torch.ones((), device=self.worker.device)))

    def _draw_next_noise(self) -> None:
        """Start to draw the next step's noise in a thread."""
        if self.step < self.spec.steps:
            examples = [self.splits.train[i] for i in self._batch(self.step)]
            for purpose in ("sampler", "flow"):
                keys = [(purpose, self.spec.seed, self.step, example.id) for example in examples]
                draw_ahead((self.spec.soft_tokens, self.pair.target.hidden_size), keys)

    def _batch(self, step: int) -> Sequence[int]:
        """Return the indices of this worker's (or its group's) training examples in a step."""
        batch = batch_indices(self.spec, step, len(self.splits.train))
        return [batch[i] for i in self.rows.share(len(batch))]

    def _log_step(self, losses: Losses, norm: float, read: UnreadStep) -> None:
        spent = read.seconds
        self.seconds += spent
        skipped = self.scaler.is_enabled() and not math.isfinite(norm) and self.scaler.get_scale() >= 1
        if not math.isfinite(losses.total) or not (math.isfinite(norm) or skipped):
            raise FloatingPointError(
                f"training diverged at step {read.step}: loss {losses.total}, gradient norm {norm}: lower learning_rate"
                + (", or use model_dtype=bfloat16" if self.scaler.is_enabled() else "")
            )
        if self.events is None or (read.step % self.run_spec.log_every and not losses.gradient_norms):
            return
        rows = [item.row for item in read.items]
        tokens = sum(len(row.before) + len(row.prompt) + len(row.answer) + self.spec.inserted for row in rows)
        tokens *= self.rows.world
        values = {f"{LOSS}{name}": value for name, value in losses.terms.items()}
        values |= {f"{LOSS}total": losses.total, "lr": learning_rate(self.spec, read.step - 1)}
        values |= {"grad_norm": norm} if math.isfinite(norm) else {}
        values |= {"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {}
        values |= {f"grad_norm/{name}": value for name, value in losses.gradient_norms.items()}
        values |= losses.metrics
        values |= {"seconds_per_step": round(spent, 5), "tokens_per_second": round(tokens / spent, 1)}
        self.events.metrics(read.step, values)

    def _validate(self) -> None:
        """Evaluate on the validation examples and keep the weights if they are the best so far."""
        translator = self._for_evaluation(self.average or None)
        with NamesOutOfMemory("an evaluation", self.passes.release):
            samples = self.evaluator.evaluate(self.splits.validation, translator, ["bridged"])
        metrics = metrics_of(samples, ["bridged"], list(self.splits.test[0].groups))
        self.best.offer(self.step, metrics[accuracy("bridged")], self.average or self.translator.state_dict())
        if self.events:
            values = {f"validation/{name}": value for name, value in metrics.items()}
            attention, pictures = report_attention(
                self.evaluator.pair,
                translator,
                self.splits.validation,
                self.folder,
                self.step,
                last=self.step == self.spec.steps,
            )
            for picture in pictures:
                self.events.artifact(picture)
            values |= attention | translator.injection.gates()
            self.events.metrics(self.step, values | {"soft_gain": float(self.translator.scale.gain.detach())})

    def _for_evaluation(self, weights: Weights | None = None) -> TranslatorModule:
        """Return a copy of the translator in evaluation's arithmetic, with other weights if they are given."""
        translator = copy.deepcopy(self.translator).eval()
        if weights is not None:
            translator.load_state_dict(weights)
        return translator.double() if self.spec.eval_dtype == "float64" else translator

    def _checkpoint(self) -> None:
        """Copy the training state to the host and have a thread write it while training goes on."""
        self.session.wait()  # the host memory holds one copy at a time
        fill = None
        if self.worker.first:
            state = TrainingState(
                step=self.step,
                weights=self.translator.state_dict(),
                optimiser=self.optimiser.state_dict(),
                average=self.average,
                best=self.best,
                seconds=self.seconds,
                scaler=self.scaler.state_dict(),
            )
            fill = self.snapshot.take(state).save
        self.session.report(self.step, {"validation_accuracy": self.best.accuracy}, fill)

    def _resume(self) -> None:
        checkpoints = self.session.checkpoints()
        if not checkpoints:
            return
        state = TrainingState.load_newest(checkpoints)
        steps = self.worker.gather(0 if state is None else state.step)
        if len(set(steps)) > 1:
            raise RuntimeError(f"workers read checkpoints of different steps: {steps}")
        if state is None:
            return
        self.translator.load_state_dict(state.weights)
        self.optimiser.load_state_dict(state.optimiser)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        device = self.worker.device
        self.average = {name: value.to(device, copy=True) for name, value in state.average.items()}
        self.best = replace(state.best, weights={k: v.to(device) for k, v in state.best.weights.items()})
        self.step, self.seconds = state.step, state.seconds

    def _result(self, final: FinalEvaluation, seconds: float) -> dict[str, Any]:
        return {
            "metrics": final.metrics | {"validation/best_accuracy": self.best.accuracy},
            "selected_step": final.selected_step,
            "steps": self.spec.steps,
            "seconds": round(seconds, 3),
            "training_seconds": round(self.seconds, 3),
            "evaluation_seconds": round(final.seconds, 3),
            "timings": final.timings,
            "workers": self.worker.world,
            "checkpoint": CHECKPOINT,
            "trained_parameters": sum(p.numel() for p in self.parameters),
            "initialisation": self.translator.initialisation,
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.run_spec.autocast and self.worker.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)  # CUDA graphs need the cache off
        return contextlib.nullcontext()
