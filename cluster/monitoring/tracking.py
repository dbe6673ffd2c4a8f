"""Record a running campaign in MLflow, from its folder alone: MLflow gets what is on disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from bridge_common import trial_files
from bridge_common.threads import repeating
from mlflow_utils import names
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tune_spaces.campaign import Campaign
from tune_spaces.design.toggles import parameters, values
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.plan_file import settings_shared, settings_varied

POLL = 1.0


def tracking_uri_of(campaign: Campaign) -> str:
    """Return the MLflow store of a campaign: the one that it names, or else the database beside its storage."""
    given, own = campaign.request.get("tracking_uri"), default_tracking_uri(campaign.storage)
    return own if given is None or _is_of_original(campaign, str(given)) else str(given)


def _is_of_original(campaign: Campaign, uri: str) -> bool:
    """Return whether a store is the default one of the storage from which a campaign was copied.

    Earlier versions recorded the default store as if it had been given.
    """
    scheme, _, path = uri.partition(":///")
    storage = Path(unquote(path)).parent
    if scheme != "sqlite" or uri != default_tracking_uri(storage) or storage == campaign.storage.resolve():
        return False
    copied, original = campaign.records.campaign(), CampaignFolder(storage / campaign.name).campaign()
    return None not in (copied, original) and (copied or {}).get("created") == (original or {}).get("created")


@contextmanager
def recorded(campaign: Campaign, tracking_uri: str, timeout: Callable[[], float]) -> Iterator[Tracker]:
    """Record a campaign while the body runs it; its phases end as FINISHED, FAILED, or KILLED if incomplete.

    Args:
        campaign: the campaign.
        tracking_uri: URI of the MLflow store.
        timeout: returns the seconds to wait at the end until MLflow has everything.
    """
    tracker = Tracker(tracking_uri, campaign.name, campaign.folder)
    tracker.start()
    declared: set[str] = set()
    tracker.phase(campaign.phase.name, settings_shared(campaign.plan), {"goal": campaign.phase.goal})
    _declare(campaign, tracker, declared)
    try:
        with repeating(POLL, lambda: _declare(campaign, tracker, declared), "recording"):
            yield tracker
    finally:
        _declare(campaign, tracker, declared)
        for phase in sorted({campaign.plan.trials[name].phase for name in declared} | {campaign.phase.name}):
            tracker.finish(phase, _status(campaign, phase))
        unsent = tracker.close(timeout())
        if unsent and unsent.trials:
            print(f"warning: {unsent}")


def _declare(campaign: Campaign, tracker: Tracker, declared: set[str]) -> None:
    phases = {campaign.plan.trials[name].phase for name in declared} | {campaign.phase.name}
    variants = list(dict.fromkeys(trial.variant for trial in campaign.plan.trials.values()))
    for name, trial in campaign.plan.trials.items():
        folder = campaign.trial(name)
        if name in declared or not folder.begun:
            continue
        if trial.phase not in phases:
            phases.add(trial.phase)
            tracker.phase(trial.phase, settings_shared(campaign.plan), {"follows": campaign.phase.name})
        code = (folder.spec() or {}).get("code")
        tracker.trial(
            folder.path,
            phase=trial.phase,
            name=trial.variant,
            fingerprint=trial.fingerprint,
            params=parameters(settings_varied(campaign.plan, trial) | values(trial.spec.flat())),
            tags={
                names.SEED: trial.seed,
                names.NOTE: trial.purpose,
                names.COLOUR: names.COLOURS[variants.index(trial.variant) % len(names.COLOURS)],
                **({names.CODE: "+".join(code)} if code else {}),
            },
        )
        declared.add(name)


def _status(campaign: Campaign, phase: str) -> str:
    """Return FINISHED if all of the phase's trials have results, FAILED if one has failed, else KILLED."""
    folders = [campaign.trial(name) for name, trial in campaign.plan.trials.items() if trial.phase == phase]
    statuses = {folder.status or trial_files.KILLED for folder in folders if folder.begun}
    return next(
        (s for s in (trial_files.FAILED, trial_files.KILLED, trial_files.FINISHED) if s in statuses), trial_files.KILLED
    )
