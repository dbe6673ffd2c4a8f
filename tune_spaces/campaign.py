"""One campaign: plan it, run it, take it up again, and read what it found.

    campaign = Campaign(phase1(base), base, run, storage=Path("runs"), name="phase1-tiny")
    campaign.run()
    campaign.results()

Every start builds a new Tune experiment from what is on disk. Tune's own saved state is up to 10 s old, and its
stopper, searcher and trials are saved apart from each other; results on disk are exact, so nothing is run twice and
none is lost.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common import files
from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec, build
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import Plan
from tune_spaces.design.plan import build as build_plan
from tune_spaces.gate.decision import GateSettings
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.trainable import DEFAULT_JOB, Job
from tune_spaces.records import campaign_folder, plan_file, prerequisites, reuse

if TYPE_CHECKING:
    import pandas as pd


class Campaign:
    """A phase on a base spec, in a folder."""

    def __init__(
        self,
        phase: Phase,
        base: JobSpec,
        run: RunSpec,
        *,
        storage: Path = Path("runs"),
        name: str | None = None,
        seeds: Sequence[int] = (0,),
        gate: GateSettings | None = None,
        held: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
        plan: Plan | None = None,
    ) -> None:
        """
        Args:
            phase: what runs.
            base: the spec that all variants change.
            run: where and how.
            storage: folder of all campaigns; finished trials of any of them are reused.
            name: of this campaign, and of its folder.
            seeds: block of seeds for every variant.
            gate: the gate's settings.
            held: fields that no variant changes.
            request: how it was asked for, for the record (preset, settings, tracking server).
            plan: a frozen plan to read the campaign by, instead of planning anew.

        Raises:
            UserError: for seeds, settings or variants that cannot be.
        """
        self.phase, self.base, self.run_spec = phase, base, run
        self.storage = Path(storage).expanduser().resolve()
        self.name = name or phase.name
        if self.name in (".", "..") or "/" in self.name:
            raise UserError(f"campaign name {self.name!r}: use a plain folder name")
        self.seeds, self.gate = tuple(seeds), gate or GateSettings()
        self.held, self.request = dict(held or {}), dict(request or {})
        self.plan: Plan = plan or self._planned()
        self._read_back = plan is not None

    def _planned(self) -> Plan:
        return build_plan(self.phase, self.base, seeds=self.seeds, gate=self.gate, held=self.held)

    @property
    def folder(self) -> Path:
        """The campaign's folder."""
        return self.storage / self.name

    def trial(self, name: str) -> TrialFolder:
        """Return the folder of one of its trials, by the trial's name in the plan."""
        return TrialFolder.of(self.folder, name)

    @classmethod
    def load(cls, storage: Path, name: str) -> "Campaign":
        """A campaign as it was asked for and planned, from its folder.

        Raises:
            UserError: where there is none.
        """
        path = Path(storage).expanduser() / name / campaign_folder.CAMPAIGN
        if not path.is_file():
            known = sorted(p.parent.name for p in Path(storage).expanduser().glob(f"*/{campaign_folder.CAMPAIGN}"))
            there = f"there are {', '.join(known)}" if known else "there is none yet"
            raise UserError(f"no campaign {name!r} in {storage}: {there}")
        asked = files.read_json(path)
        phase, base = plan_file.phase_from_record(asked["phase"]), build(JobSpec, asked["base"])
        gate = GateSettings(**asked["gate"])
        return cls(
            phase,
            base,
            build(RunSpec, asked["run"]),
            storage=storage,
            name=name,
            seeds=asked["seeds"],
            gate=gate,
            held=asked["held"],
            request=asked["request"],
            plan=plan_file.plan_from_record(files.read_json(path.parent / campaign_folder.PLAN), phase, base, gate),
        )

    # -- before a run -------------------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        """The walk through the plan as far as results on disk carry it."""
        policy = Policy(
            first=self.plan.first, extras=self.plan.extras, branches=self.plan.branches, gate=self.plan.gate
        )
        for name in self.plan.trials:
            found = campaign_folder.outcome(self.trial(name))
            if found is not None:
                policy.observe(name, found)
        return policy

    def prerequisites(self) -> list[dict[str, Any]]:
        """Phases that must have passed, with the campaigns in this storage that say so."""
        return [prerequisites.prerequisite(self.storage, phase, self.base) for phase in self.phase.needs]

    def check_prerequisites(self, force: bool = False) -> list[dict[str, Any]]:
        """Refuse to start before what has to come first.

        Raises:
            UserError: naming what is missing, unless it is forced; the record then says so.
        """
        found = self.prerequisites()
        for need in found:
            if not need["passed"] and not force:
                raise UserError(f"{self.phase.name} needs {need['phase']}: {need['reason']}; --force starts it anyway")
            need["forced"] = not need["passed"]
        return found

    def freeze(self) -> dict[str, Any]:
        """Write `plan.json`, or compare with the one that is there.

        Raises:
            UserError: where the campaign was planned differently before.
        """
        path = self.folder / campaign_folder.PLAN
        if self._read_back:  # what was frozen is about to be run: it has to mean the same still
            self.plan, self._read_back = self._planned(), False
        record = plan_file.plan_record(self.plan, self.run_spec, self.folder, reuse.finished(self.storage))
        if path.is_file():
            old = files.read_json(path)
            if difference := plan_file.difference(old["identity"], self.plan.identity):
                raise UserError(
                    f"campaign {self.name} was planned differently ({difference}): give another --name; its settings "
                    f"are in {self.folder / campaign_folder.CAMPAIGN}"
                )
            record["frozen"] = old["frozen"]
        files.write_json(path, record)
        return record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The only driver of this campaign.

        Raises:
            UserError: where another process drives it.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / campaign_folder.LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"campaign {self.name} is being run by {self.driver()}: wait for it, or `stop` it"
            ) from None
        try:
            files.write_json(
                self.folder / campaign_folder.DRIVER,
                {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()},
            )
            (self.folder / campaign_folder.STOP).unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def driver(self) -> str:
        """Who drives it, or drove it last."""
        path = self.folder / campaign_folder.DRIVER
        found = files.read_json(path) if path.is_file() else {}
        return f"process {found.get('pid', '?')} on {found.get('host', 'another host')}"

    # -- a run --------------------------------------------------------------------------------------------------------

    def run(
        self,
        job: Job | str = DEFAULT_JOB,
        *,
        force: bool = False,
        watch: Callable[["Campaign"], AbstractContextManager[Any]] | None = None,
    ) -> Policy:
        """Carry the plan out, from where it stands, and return the walk's end.

        Args:
            job: the job function, or `module:function` to be imported where it runs.
            force: start although a prerequisite is missing; the record says so.
            watch: given the campaign, a context manager around the run (progress, tracking).

        Raises:
            UserError: where it cannot start as asked.
        """
        from tune_spaces.ray_tune import experiment

        needs = self.check_prerequisites(force)
        with self.locked():
            self.freeze()
            self._record_start(needs)
            policy = self.policy()
            reuse.take_finished(self.folder, policy, self.plan.trials, self.run_spec)
            files.write_json(self.folder / campaign_folder.GATE, policy.record())
            with watch(self) if watch else nullcontext():
                if not policy.finished:
                    experiment.fit(
                        self.folder,
                        self.plan.trials,
                        self.run_spec,
                        policy,
                        job,
                        wait=force or not self.phase.needs_free_gpus,
                    )
                files.write_json(self.folder / campaign_folder.GATE, policy.record())
            self.freeze()
            return policy

    def _record_start(self, needs: list[dict[str, Any]]) -> None:
        path = self.folder / campaign_folder.CAMPAIGN
        old = files.read_json(path) if path.is_file() else {}
        start = {"time": time.time(), "host": socket.gethostname(), "pid": os.getpid(), "prerequisites": needs}
        files.write_json(
            path,
            {
                "name": self.name,
                "created": old.get("created", time.time()),
                "phase": plan_file.phase_record(self.phase),
                "base": self.base.model_dump(),
                "run": self.run_spec.model_dump(),
                "held": self.held,
                "seeds": list(self.seeds),
                "gate": asdict(self.gate),
                "request": self.request,
                "forced": bool(old.get("forced")) or any(need.get("forced") for need in needs),
                "starts": [*old.get("starts", []), start],
            },
        )

    # -- after a run --------------------------------------------------------------------------------------------------

    def results(self) -> "pd.DataFrame":
        """One row a trial that finished or failed; see `tune_spaces.records.results_table`."""
        from tune_spaces.records.results_table import results

        return results(self.folder, self.plan)
