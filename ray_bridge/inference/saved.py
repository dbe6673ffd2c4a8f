"""Read what a trained translator is made of: from a trial's folder, an exported folder, or the hub."""

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl, sha256
from bridge_common.hub_connection import cache_unless_hub_answers, hub_answers
from bridge_common.trial_files import SELECTED, SELECTED_RECORD
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build
from ray_bridge.evaluation.selection import CHECKPOINT, WEIGHTS_FILE
from ray_bridge.inference.code_record import recorded_code
from ray_bridge.inference.places import CONFIG_FILE, check_folder, folder_of
from ray_bridge.inference.trust import check_modules, is_own_trial
from ray_bridge.models.identity import ModelIdentity
from ray_bridge.tasks.data.rows import shown
from ray_bridge.tasks.splits import Splits, load_splits, make_task
from ray_bridge.tasks.task import Example

SAMPLES_FILE = "samples.jsonl"
FORMAT = 1
"""Version of an exported folder. A reader refuses newer ones."""
IDS_FILE = "question_ids.json"
RECORDED_AT, AT_TRAINING, AT_EXPORT = "models_recorded_at", "training", "export"
"""Field of an exported config, and its values: when the digests of the models were computed."""
WEIGHTS_DIGEST = "weights_sha256"
"""Field of an exported config; exports of early versions lack it."""


@dataclass(frozen=True, kw_only=True)
class SavedTranslator:
    """A trained translator on disk.

    Attributes:
        folder: where it is.
        spec: the job that trained it.
        weights: its file of weights.
        record: what is known of the trial: variant, fingerprint, metrics, and what else result.json says.
        exemplars: the solved examples before every question; None if they are read from the task's data.
        identities: of `source` and `target`, with which it was trained; empty if they were not recorded.
        recorded_at: when the identities were computed, "training" or "export"; of a trial without any, "export".
        ids: of the recorded test questions, by the digest of their text; they seed the questions' noise.
        samples: rows of the test split with the recorded answers, if they are there.
    """

    folder: Path
    spec: JobSpec
    weights: Path
    record: Mapping[str, Any]
    exemplars: Sequence[Example] | None
    identities: Mapping[str, ModelIdentity]
    recorded_at: str
    ids: Mapping[str, str]
    samples: Sequence[Mapping[str, Any]]

    def splits(self) -> Splits:
        """Return the task with the few-shot part of its prompts; without examples if they were exported.

        Raises:
            UserError: if the task's data are needed and cannot be read.
        """
        if self.exemplars is None:
            return load_splits(self.spec)
        return Splits.of(make_task(self.spec), self.exemplars)


def read_saved(place: str | Path, *, revision: str | None = None, plugins: Collection[str] = ()) -> SavedTranslator:
    """Read a translator from a trial's folder, an exported folder or bundle, or by its name on the hub.

    Args:
        place: the folder or the name.
        revision: of a hub name.
        plugins: modules that a translator may import which is no trial of one's own storage.

    Raises:
        UserError: if there is no translator in that place, it is incomplete, or it names a module not in `plugins`.
    """
    local = folder_of(place)
    folder = local or check_folder(_downloaded(str(place), revision))
    folder = Path(os.path.abspath(folder))  # "." has neither a name nor a parent
    if TrialFolder(folder).begun:
        return _of_trial(TrialFolder(folder), None if local and is_own_trial(local) else plugins)
    return _of_export(folder, plugins)


def example_record(example: Example) -> dict[str, Any]:
    """Return an example as it is written to a file."""
    return dataclasses.asdict(example) | {"groups": dict(example.groups)}


def read_example(record: Mapping[str, Any]) -> Example:
    """Return an example that `example_record` wrote.

    Raises:
        TypeError, ValueError: if it is none.
    """
    example = Example(**(dict(record) | {"choices": tuple(record.get("choices", ()))}))
    _check_texts(example.id, example.question, example.answer, example.gold, *example.choices)
    return example


def sampled_example(row: Mapping[str, Any]) -> Example:
    """Return the example of a row of samples.jsonl, without its worked solution, which the row does not have."""
    known = {name: row[name] for name in ("id", "index", "question", "gold")}
    return Example(**known, answer="", choices=tuple(row.get("choices", ())))


@contextmanager
def _whole(what: str, remedy: str) -> Iterator[None]:
    """Turn what a damaged file leads to into one line.

    Raises:
        UserError: instead of any other error of reading.
    """
    try:
        yield
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:150]
        raise UserError(f"{what} is damaged ({reason}): {remedy}") from error


def _samples(file: Path | None, remedy: str) -> list[dict[str, Any]]:
    """Read recorded samples; none if there is no file.

    Raises:
        UserError: if a row is no sample.
    """
    if file is None or not file.is_file():
        return []
    with _whole(str(file), remedy):
        rows = read_jsonl(file)
        for row in rows:
            example = sampled_example(row)
            texts = (example.id, example.question, example.gold, row.get("bridged_output", ""))
            _check_texts(*texts, *example.choices)
            if not example.question.strip():
                raise ValueError("a row has no question")
        return rows


def _check_texts(*texts: Any) -> None:
    """Refuse what tokenizers and seeds cannot take.

    Raises:
        TypeError, ValueError: if one of them is no text, or holds half a surrogate pair, as JSON can.
    """
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{shown(text)} stands where a text is expected")
        text.encode()


def _spec(record: Any) -> JobSpec:
    if not isinstance(record, dict):
        raise TypeError("its spec is no object")
    return build(JobSpec, record)


def _of_trial(trial: TrialFolder, plugins: Collection[str] | None) -> SavedTranslator:
    trial.require_selected()
    remedy = "give the campaign's folder as it was written"
    with _whole(str(trial.path), remedy):
        spec = trial.spec() or {}
        if plugins is not None:
            check_modules(trial.path, spec["spec"], plugins)
        identities = _identities(read_json(trial.path / SELECTED / SELECTED_RECORD, remedy).get("models"))
        return SavedTranslator(
            folder=trial.path,
            spec=_spec(spec["spec"]),
            weights=trial.path / CHECKPOINT,
            record=spec | (trial.result() or {}) | {"environment": _environment(trial)},
            exemplars=None,
            identities=identities,
            recorded_at=AT_TRAINING if identities and all(one.weights for one in identities.values()) else AT_EXPORT,
            ids={},
            samples=_samples(trial.samples, remedy),
        )


def _identities(models: Any) -> dict[str, ModelIdentity]:
    """Return the recorded identities by role; none if a trial is older than their record."""
    return {} if models is None else {role: ModelIdentity(**models[role]) for role in ("source", "target")}


def _read_ids(file: Path, remedy: str) -> dict[str, str]:
    """Return the ids of the recorded test questions; none if the export is older than their file.

    Raises:
        UserError: if the file is damaged.
    """
    ids = read_json(file, remedy) if file.is_file() else {}
    if not isinstance(ids, dict) or not all(isinstance(name, str) and name for name in ids.values()):
        raise UserError(f"{file} is damaged (no ids by digest): {remedy}")
    with _whole(str(file), remedy):
        _check_texts(*ids.values())
    return ids


def _environment(trial: TrialFolder) -> dict[str, str]:
    """Return versions and GPU of a trial's job, as it recorded them when it started, and the commit of its code."""
    facts = recorded_code(trial)
    for event in trial.stream_events():
        if event["kind"] == "tags":
            facts |= {name: value for name, value in event["values"].items() if name != "node"}
    return facts


def _of_export(folder: Path, plugins: Collection[str]) -> SavedTranslator:
    config = _read_config(folder)
    remedy = "export the translator again"
    with _whole(str(folder / CONFIG_FILE), remedy):
        check_modules(folder, config["spec"], plugins)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise UserError(f"{folder} has no {WEIGHTS_FILE}: export the translator again")
    if config.get(WEIGHTS_DIGEST, digest := sha256(weights)) != digest:
        raise UserError(
            f"{weights} does not hold this translator's weights (its sha256 is not the one in {CONFIG_FILE}): copy or "
            "export the translator again"
        )
    with _whole(str(folder / CONFIG_FILE), remedy):
        return SavedTranslator(
            folder=folder,
            spec=_spec(config["spec"]),
            weights=weights,
            record=dict(config["record"]),
            exemplars=[read_example(record) for record in config["exemplars"]],
            identities=_identities(dict(config["models"])),
            recorded_at=config.get(RECORDED_AT, AT_EXPORT),  # which earlier versions did
            ids=_read_ids(folder / IDS_FILE, remedy),
            samples=_samples(folder / SAMPLES_FILE, remedy),
        )


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an exported translator, of any version."""
    try:
        config = read_json(folder / CONFIG_FILE)
    except (OSError, UserError):
        return False
    return isinstance(config, dict) and "translator_format" in config


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG_FILE, "export the translator again")
    wanted = {"translator_format", "spec", "record", "exemplars", "models"}
    if not isinstance(config, dict) or not wanted <= config.keys():
        raise UserError(f"{folder / CONFIG_FILE} is no translator's: `python -m cluster export` writes one")
    if not isinstance(config["translator_format"], int):
        raise UserError(f"{folder / CONFIG_FILE} has no format {config['translator_format']!r}: export it again")
    if config["translator_format"] > FORMAT:
        raise UserError(f"{folder} was exported by a newer version (format {config['translator_format']}): update")
    return config


def _downloaded(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with cache_unless_hub_answers():
            return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        silent = "it does not answer, and this machine has no copy"
        reason = str(error).strip().splitlines()[0] if hub_answers() else silent
        raise UserError(f"{name} is no folder, and the hub gave no translator of that name: {reason}") from error
