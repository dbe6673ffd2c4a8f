"""The data of a campaign's jobs, checked and named by commit before Ray starts."""

import json
import sys
from dataclasses import replace

from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.data.check import check_data, pin_data
from ray_bridge.tasks.data.hub import HubUnreachableError
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant

_READ = (
    *("task", "task_data", "task_revision", "task_mapping"),
    *("num_fewshot", "train_examples", "validation_examples", "test_examples"),
)


def pin_campaign_data(base: JobSpec, phase: Phase) -> tuple[JobSpec, Phase]:
    """Return base and phase with the commits of the hub's data sets that they read, where they can be known.

    Raises:
        UserError: if the hub does not have a data set, or gives no access.
    """
    base = _pinned(base)
    return base, phase.each(lambda variant: _pinned_variant(variant, base))


def _pinned(spec: JobSpec) -> JobSpec:
    try:
        return pin_data(spec)
    except HubUnreachableError:  # which `check_campaign_data` tells, or refuses
        return spec


def _pinned_variant(variant: Variant, base: JobSpec) -> Variant:
    if "task" not in variant.changes or variant.changes["task"] == base.task:
        return variant
    fields = _pinned(variant.spec(base, base.seed)).flat()
    commits = {name: fields[name] for name in ("task_revision", "task_mapping") if fields.get(name) is not None}
    return replace(variant, changes={**variant.changes, **commits}) if commits else variant


def _what_is_read(spec: JobSpec) -> str:
    fields = spec.flat()
    return json.dumps([fields.get(name) for name in _READ])


def check_campaign_data(campaign: Campaign, *, need_commits: bool = False) -> None:
    """Read all data that the campaign's trials will read from folders; say what was left out of them.

    Args:
        campaign: what will run.
        need_commits: refuse data of the hub whose commit is not known.

    Raises:
        UserError: in one line with file, row and remedy, for whatever a trial could not use.
    """
    specs = {_what_is_read(spec): spec for spec in campaign.specs().values()}
    lines: dict[str, None] = {}
    for spec in specs.values():
        try:
            lines |= dict.fromkeys(check_data(pin_data(spec)))
        except HubUnreachableError as error:
            if need_commits:
                raise
            lines[str(error)] = None
    for line in lines:
        print(f"note: {line}", file=sys.stderr)
