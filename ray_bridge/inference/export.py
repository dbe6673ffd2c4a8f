"""Export a translator: one folder with its weights, what it belongs to, and a model card filled from the record."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common.errors import UserError
from bridge_common.files import sha256, write_bytes, write_json, write_text
from bridge_common.trial_folder import TrialFolder
from ray_bridge.evaluation.selection import WEIGHTS_FILE
from ray_bridge.inference.model_card import model_card
from ray_bridge.inference.places import CONFIG_FILE
from ray_bridge.inference.saved import FORMAT, IDS_FILE, RECORDED_AT, WEIGHTS_DIGEST, example_record

if TYPE_CHECKING:
    from ray_bridge.inference.translator import Translator

RECORDED = (
    *("variant", "phase", "fingerprint", "seed", "metrics"),
    *("selected_step", "steps", "training_seconds", "workers", "environment"),
)
"""What of a trial's record belongs to its translator."""
CARD_FILE = "README.md"


def write_export(translator: "Translator", folder: Path) -> None:
    """Write a translator into a folder that `Translator.load` reads; its config is written last.

    The spec's own data folder is left out: the few-shot examples, which are all that questions need, are written.

    Args:
        translator: what is exported.
        folder: made if needed.

    Raises:
        UserError: if the folder is a trial's, lies in one, or cannot be written.
    """
    saved = translator.saved
    check_no_trial(folder)
    config = export_config(translator)
    try:
        write_bytes(folder / WEIGHTS_FILE, saved.weights.read_bytes())
        write_text(folder / CARD_FILE, model_card(config))
        write_json(folder / IDS_FILE, translator.ids)
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


def export_config(translator: "Translator") -> dict[str, Any]:
    """Return what an exported translator's config says."""
    import ray_bridge

    saved = translator.saved
    return {
        "translator_format": FORMAT,
        "version": ray_bridge.__version__,
        WEIGHTS_DIGEST: sha256(saved.weights),
        "spec": saved.spec.model_dump(mode="json") | {"task_data": None},
        "models": {role: identity.record() for role, identity in translator.identities.items()},
        RECORDED_AT: saved.recorded_at,
        "exemplars": [example_record(example) for example in translator.splits.exemplars],
        "record": {name: saved.record[name] for name in RECORDED if name in saved.record},
    }
