"""Export a translator: one folder with its weights, what it belongs to, and a model card filled from the record."""

from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.files import sha256, write_bytes, write_json, write_text
from bridge_common.trial_files import EVENTS, RESULT, SAMPLES, SPEC
from bridge_common.trial_folder import TrialFolder
from bridge_common.version import VERSION
from ray_bridge.evaluation.selection import WEIGHTS_FILE
from ray_bridge.inference.model_card import model_card
from ray_bridge.inference.places import CONFIG_FILE
from ray_bridge.inference.saved import (
    FORMAT,
    IDS_FILE,
    RECORDED_AT,
    WEIGHTS_DIGEST,
    SavedTranslator,
    example_record,
    is_export,
)

RECORDED = (
    *("variant", "phase", "fingerprint", "seed", "metrics"),
    *("selected_step", "steps", "training_seconds", "workers", "environment"),
)
"""What of a trial's record belongs to its translator."""
CARD_FILE = "README.md"
TRIAL_FILE = "trial.json"  # spec.json of the trial; a folder with that name would be taken for a trial's
ENVIRONMENT_FILE = "environment.json"
PLAN_FILE = "plan.json"
FILES = {SAMPLES: SAMPLES, EVENTS: EVENTS, RESULT: RESULT, SPEC: TRIAL_FILE}
"""Files of a trial, and their names in a bundle."""


def write_export(saved: SavedTranslator, folder: Path) -> None:
    """Write a translator into a folder that `Translator.load` reads.

    The spec's own data folder is left out: the few-shot examples, which are all that questions need, are written.

    Args:
        saved: the translator, as `Translator.to_export` returns it.
        folder: made if needed; what an earlier bundle recorded there is removed.

    Raises:
        UserError: if the folder is a trial's, lies in one, or cannot be written.
    """
    check_no_trial(folder)
    remove_earlier(saved, folder)
    write_weights_and_config(saved, folder)


def remove_earlier(saved: SavedTranslator, folder: Path) -> None:
    """Remove the records of an earlier bundle, which belong to another translator; a bundle's own stay.

    Raises:
        UserError: if they cannot be removed.
    """
    # The hub's `save_pretrained` has removed the config before it asks for the files.
    bundle = all((folder / name).is_file() for name in (WEIGHTS_FILE, TRIAL_FILE))
    if not (is_export(folder) or bundle) or saved.folder.resolve() == folder.resolve():
        return
    try:
        for name in (*FILES.values(), PLAN_FILE, ENVIRONMENT_FILE):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot replace the bundle in {folder}: {error.strerror or error}") from error


def write_weights_and_config(saved: SavedTranslator, folder: Path) -> None:
    """Write what every export has, its config last.

    Raises:
        UserError: if the folder cannot be written.
    """
    config = export_config(saved)
    try:
        write_bytes(folder / WEIGHTS_FILE, saved.weights.read_bytes())
        write_text(folder / CARD_FILE, model_card(config))
        write_json(folder / IDS_FILE, saved.ids)
        write_json(folder / CONFIG_FILE, config)
    except OSError as error:
        raise UserError(f"cannot write the export into {folder}: {error.strerror or error}") from error


def check_no_trial(folder: Path) -> None:
    """Refuse to write an export into a trial's folder, whose files are the trial's record.

    Raises:
        UserError: if the folder is a trial's, or lies in one.
    """
    at = folder.resolve()
    trial = next((path for path in (at, *at.parents) if TrialFolder(path).begun), None)
    if trial is not None:
        raise UserError(f"{folder} would be written into the trial {trial}: name a folder outside it")


def export_config(saved: SavedTranslator) -> dict[str, Any]:
    """Return what an exported translator's config says."""
    return {
        "translator_format": FORMAT,
        "version": VERSION,
        WEIGHTS_DIGEST: sha256(saved.weights),
        "spec": saved.spec.model_dump(mode="json") | {"task_data": None},
        "models": {role: identity.record() for role, identity in saved.identities.items()},
        RECORDED_AT: saved.recorded_at,
        "exemplars": [example_record(example) for example in saved.exemplars or ()],
        "record": {name: saved.record[name] for name in RECORDED if name in saved.record},
    }
