"""One campaign: plan it, run it, resume it, and read its results.

    base = tiny()
    campaign = Campaign(phase1, base, tiny_run(), storage="runs")
    campaign.run()
    campaign.results()  # a dataframe, one row per trial

Every start builds a new Tune experiment from what is on disk. Tune's own saved state is up to 10 s old, and its
stopper, searcher and trials are saved apart from each other; results on disk are exact, so no trial is run twice and
none is lost.
"""

import importlib.util
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec, build
from tune_spaces.design.parallel import AUTO, Parallel, parse_parallel
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import Plan, PlannedTrial, make_plan, with_variant
from tune_spaces.design.sweep import end_variants, point_variant
from tune_spaces.gate.decision import GateSettings
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.records import plan_file, prerequisites, reuse
from tune_spaces.records.campaign_folder import CampaignFolder, whole_records
from tune_spaces.records.campaign_name import check_name
from tune_spaces.records.limits import Limits
from tune_spaces.records.plan_difference import differences

if TYPE_CHECKING:
    import pandas as pd

    from tune_spaces.ray_tune.trainable import Job


class Campaign:
    """A phase on a base spec, in a folder of its own.

    Attributes:
        phase: what runs.
        base: the spec that all variants change.
        run_spec: workers and batches of each trial.
        plan: the decision tree.
    """

    def __init__(
        self,
        phase: Phase | Callable[[JobSpec], Phase],
        base: JobSpec,
        run: RunSpec,
        *,
        storage: Path | str = "runs",
        name: str | None = None,
        seeds: Sequence[int] = (0,),
        gate: GateSettings | None = None,
        held: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
        plan: Plan | None = None,
    ) -> None:
        """Plan a campaign; nothing is written or started yet.

        Args:
            phase: what runs, or a function that returns it for a base spec, such as `phase1`.
            base: the spec that all variants change.
            run: workers and batches of each trial.
            storage: folder of all campaigns; finished trials of any of them are reused.
            name: name of this campaign and of its folder; the phase's by default.
            seeds: seeds under which every variant runs.
            gate: the gate's settings.
            held: fields of the spec, with their values, that no variant changes.
            request: how the campaign was asked for, for the record (preset, settings, tracking server); `stop_early` in
                it, `asha`, ends trials of a sweep whose validation accuracy falls behind.
            plan: a frozen plan to take instead of making one from the other arguments.

        Raises:
            UserError: for seeds, settings or variants that are impossible.
        """
        self.phase = phase if isinstance(phase, Phase) else phase(base)
        self.base, self.run_spec = base, run
        self.storage = Path(storage).expanduser().resolve()
        self.name = self.phase.name if name is None else name
        check_name(self.storage, self.name)
        self.seeds, self.gate = tuple(seeds), gate or GateSettings()
        self.held, self.request = dict(held or {}), dict(request or {})
        self.plan: Plan = plan or self._make_plan()
        self._frozen_plan = plan is not None

    def __repr__(self) -> str:
        return f"Campaign({self.phase.name!r}, {len(self.plan.trials)} planned trials, folder={str(self.folder)!r})"

    @classmethod
    def load(cls, storage: Path | str, name: str) -> "Campaign":
        """Return a campaign as it was asked for and planned, from its folder.

        Raises:
            UserError: there is no campaign of that name in the storage, or its files are damaged.
        """
        folder = CampaignFolder(Path(storage).expanduser() / name)
        record, plan = folder.campaign(), folder.plan()
        if record is None or plan is None:
            folder.require_begun()
            names = [other.name for other in CampaignFolder.all_in(Path(storage))]
            there = f"there are {', '.join(names)}" if names else "there is none yet"
            raise UserError(f"no campaign {name!r} in {storage}: {there}")
        with whole_records(folder):
            phase, base = plan_file.phase_from_record(record["phase"]), build(JobSpec, record["base"])
            gate = GateSettings(**record["gate"])
            return cls(
                phase,
                base,
                build(RunSpec, record["run"]),
                storage=storage,
                name=name,
                seeds=record["seeds"],
                gate=gate,
                held=record["held"],
                request=record["request"],
                plan=plan_file.plan_from_record(plan, phase, base, gate),
            )

    # -- folder -------------------------------------------------------------------------------------------------------

    @property
    def records(self) -> CampaignFolder:
        """The campaign's folder with what is recorded in it."""
        return CampaignFolder(self.storage / self.name)

    @property
    def folder(self) -> Path:
        """Path of the campaign's folder."""
        return self.records.path

    def trial(self, name: str) -> TrialFolder:
        """Return the folder of a trial by its name in the plan."""
        return self.records.trial(name)

    # -- before a run -------------------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        """Return the policy of the plan after observing every trial that has finished in this campaign."""
        search = self.phase.search
        policy = Policy(
            first=self.plan.first,
            extras=self.plan.extras,
            branches=self.plan.branches,
            beside=self.plan.beside,
            gate=self.plan.gate,
            proposals=0 if search is None or self.records.proposals_ended() else search.trials - len(self.plan.first),
        )
        for name in self.plan.trials:
            outcome = Outcome.of_trial(self.trial(name))
            if outcome is not None:
                policy.observe(name, outcome)
        return policy

    def specs(self) -> dict[str, JobSpec]:
        """Return the specs of all planned trials by name, with those at the ends of what a search will propose."""
        ends = {v.name: v.spec(self.base, self.seeds[0], self.held) for v in end_variants(self.phase)}
        return {**ends, **{name: trial.spec for name, trial in self.plan.trials.items()}}

    def prerequisites(self) -> list[dict[str, Any]]:
        """Return the phases that must have passed before, with the campaigns of this storage that ran them."""
        return [prerequisites.prerequisite(self.storage, phase, self.base) for phase in self.phase.needs]

    def check_prerequisites(self, force: bool = False) -> list[dict[str, Any]]:
        """Refuse to start before the phases that must have passed.

        Args:
            force: return in spite of what is missing, marked `forced` for the record.

        Raises:
            UserError: a phase that is needed has not passed.
        """
        needs = self.prerequisites()
        for need in needs:
            if not need["passed"] and not force:
                raise UserError(f"{self.phase.name} needs {need['phase']}: {need['reason']}; --force starts it anyway")
            need["forced"] = not need["passed"]
        return needs

    def check_code(self, allow_changed: bool = False) -> None:
        """Refuse to continue trials that another version of the code has begun, since one run would be of two codes.

        Args:
            allow_changed: continue them; their `code` in the results then names both versions.

        Raises:
            UserError: with the trials.
        """
        begun = [] if allow_changed else self.records.begun_by_other_code(self.plan.trials)
        if begun:
            raise UserError(
                f"the code has changed since {', '.join(begun)} began: go back to that version, start anew under "
                f"--name {self._free_name()}, or continue with --allow-changed-code, which the record will say"
            )

    def check_search(self) -> None:
        """Refuse a search by a library that is not installed.

        Raises:
            UserError: with what to install.
        """
        if self.phase.search is not None and importlib.util.find_spec(self.phase.search.method) is None:
            raise UserError(
                f"--search {self.phase.search.method}: it is not installed: pip install 'ray-bridge[sweep]', or use "
                "--search random"
            )

    def check_plan(self) -> dict[str, Any] | None:
        """Refuse a campaign that was planned differently before; return its `plan.json`, None if there is none.

        Raises:
            UserError: with what differs.
        """
        self.records.require_begun()
        frozen = self.records.plan()
        if frozen is not None and (changed := differences(frozen, self.plan)):
            started, planned = self.records.campaign_file, self.records.plan_file
            raise UserError(
                f"campaign {self.name} was planned differently ({'; '.join(changed)}): give a new name, "
                f"--name {self._free_name()}; its settings are in {started if started.is_file() else planned}"
            )
        return frozen

    def freeze(self) -> dict[str, Any]:
        """Write `plan.json`, after comparing with the one that is there, and return its content.

        Raises:
            UserError: the campaign was planned differently before.
        """
        if self._frozen_plan:  # a plan read from disk is about to run: the files it names may have changed since
            self.plan, self._frozen_plan = self._make_plan(), False
        record = plan_file.plan_record(self.plan, self.run_spec, self.records, reuse.finished_trials(self.storage))
        if (frozen := self.check_plan()) is not None:
            record["frozen"] = frozen["frozen"]
        self.records.write_plan(record)
        return record

    # -- a run --------------------------------------------------------------------------------------------------------

    def run(
        self,
        job: "Job | str | None" = None,
        *,
        force: bool = False,
        parallel: Parallel = AUTO,
        limits: Limits | None = None,
        watch: Callable[["Campaign"], AbstractContextManager[Any]] | None = None,
        allow_changed_code: bool = False,
    ) -> Policy:
        """Run what the plan asks for, from where the campaign stands, and return the policy at its end.

        Trials that have finished, here or in another campaign of the storage, are not run again. A local Ray is started
        for the run unless this process is connected to one or `RAY_ADDRESS` names a cluster.

        Args:
            job: the job function, or `MODULE:FUNCTION` to be imported by the trial; `ray_bridge.run_job` by default.
            force: start although a prerequisite is missing; the record says so.
            parallel: trials that may run at once. `auto`: as many as the cluster holds, but what follows a gate one by
                one on the node of the first trial. A number from 1: so many, also more than the cluster holds now;
                above 1 on any nodes.
            limits: a time and GPU-hours within which this start must end.
            watch: returns a context manager around the run for this campaign (progress, tracking).
            allow_changed_code: continue trials that another version of the code has begun; the record says so.

        Returns:
            The policy: `finished`, the `outcomes` of trials by name, and the gate's `decisions()`.

        Raises:
            UserError: the campaign cannot start as asked.
        """
        from tune_spaces.ray_tune.early_stopping import check_stop_early

        parallel, limits = parse_parallel(parallel), limits or Limits()
        limits.check(self.run_spec)
        check_stop_early(self.request.get("stop_early"), self.run_spec)
        self.check_search()
        self.check_code(allow_changed_code)
        needs = self.check_prerequisites(force)
        with self.records.locked():
            self.records.restore_specs(self.plan.trials.values(), self.run_spec)
            self.freeze()
            self._record_start(needs, {"parallel": parallel, "limits": asdict(limits)})
            policy = self.policy()
            reuse.take_finished(self.records, policy, self.plan.trials, self.run_spec)
            self.records.write_gate(policy.record())
            with watch(self) if watch else nullcontext():
                if not policy.finished:
                    wait = force or not self.phase.needs_free_gpus
                    self._fit(
                        policy,
                        job,
                        wait=wait,
                        parallel=parallel,
                        limits=limits,
                        stop_early=self.request.get("stop_early"),
                    )
                self.records.write_gate(policy.record())
            self.freeze()
            return policy

    def results(self) -> "pd.DataFrame":
        """Return a table with one row per trial that was started or reused (`records.results_table.results`)."""
        from tune_spaces.ray_tune.tune_columns import tune_columns
        from tune_spaces.records.results_table import results

        return results(self.records, self.plan, tune_columns(self.records.experiments))

    def _free_name(self) -> str:
        """Return this campaign's name with the first number that no campaign of the storage has."""
        return next(name for n in count(2) if not (self.storage / (name := f"{self.name}-{n}")).exists())

    def _make_plan(self) -> Plan:
        plan = make_plan(self.phase, self.base, seeds=self.seeds, gate=self.gate, held=self.held)
        if self.phase.search is not None:
            for number, proposal in enumerate(self.records.proposals()):
                point = self.phase.search.rounded(proposal["point"])
                plan = with_variant(plan, point_variant(number, self.phase.search.trials, point), self.held)
        return plan

    def _is_possible(self, point: Mapping[str, Any]) -> bool:
        """Return whether a job can have the settings of a search's point together."""
        try:
            point_variant(0, 1, point).spec(self.base, self.seeds[0], self.held)
        except UserError:
            return False
        return True

    def _add_proposal(self, number: int, drawn: Mapping[str, Any]) -> PlannedTrial:
        """Plan the trial of a point that the search proposed, and record it before anything of it runs."""
        assert self.phase.search is not None
        variant = point_variant(len(self.plan.first), self.phase.search.trials, self.phase.search.rounded(drawn))
        plan = with_variant(self.plan, variant, self.held)
        trial = plan.trials[plan.first[-1]]
        self.records.add_proposal({"number": number, "trial": trial.name, "point": dict(drawn)})
        self.plan = plan
        self.freeze()
        return trial

    def _fit(self, policy: Policy, job: "Job | str | None", **how: Any) -> None:
        from tune_spaces.ray_tune import experiment
        from tune_spaces.ray_tune.trainable import DEFAULT_JOB

        if self.phase.search is not None:
            from tune_spaces.ray_tune.proposals import Proposals

            proposals = Proposals(self.phase.search, self.seeds[0], self.records, self._is_possible)
            how |= {"proposals": proposals, "add": self._add_proposal, "ends": list(self.specs().values())}
        experiment.fit(self.records, self.plan.trials, self.run_spec, policy, job or DEFAULT_JOB, **how)

    def _record_start(self, needs: list[dict[str, Any]], asked: Mapping[str, Any]) -> None:
        earlier = self.records.campaign() or {}
        start = {"time": time.time(), "host": socket.gethostname(), "pid": os.getpid(), "prerequisites": needs}
        start |= asked
        self.records.write_campaign(
            {
                "name": self.name,
                "created": earlier.get("created", time.time()),
                "phase": plan_file.phase_record(self.phase),
                "base": self.base.model_dump(),
                "run": self.run_spec.model_dump(),
                "held": self.held,
                "seeds": list(self.seeds),
                "gate": asdict(self.gate),
                "request": self.request,
                "forced": bool(earlier.get("forced")) or any(need.get("forced") for need in needs),
                "starts": [*earlier.get("starts", []), start],
            }
        )
