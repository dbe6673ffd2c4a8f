"""Bundles: an exported translator with everything that a third person needs to check or repeat its numbers."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common.errors import UserError
from bridge_common.files import write_bytes, write_json
from bridge_common.trial_files import METRICS, RESULT, SAMPLES
from ray_bridge.inference.export import (
    ENVIRONMENT_FILE,
    FILES,
    PLAN_FILE,
    check_no_trial,
    remove_earlier,
    write_weights_and_config,
)
from ray_bridge.inference.recorded import record_problems
from ray_bridge.inference.rerun import rerun_command
from ray_bridge.inference.saved import SavedTranslator, is_export, sampled_example

if TYPE_CHECKING:
    from ray_bridge.inference.translator import Translator


def write_bundle(saved: SavedTranslator, folder: Path) -> None:
    """Write a translator with its trial's spec, samples, events and result, the campaign's plan and the environment.

    Args:
        saved: the translator, as `Translator.to_export` returns it.
        folder: made if needed.

    Raises:
        UserError: if the translator was not loaded from a finished trial, or the folder cannot be written.
    """
    check_no_trial(folder)
    trial = saved.folder
    check_finished(trial)
    plan = trial.parent.parent / PLAN_FILE
    remove_earlier(saved, folder)
    try:
        for name, written in FILES.items():
            write_bytes(folder / written, (trial / name).read_bytes())
        if plan.is_file():
            write_bytes(folder / PLAN_FILE, plan.read_bytes())
        write_json(folder / ENVIRONMENT_FILE, _environment(saved))
    except OSError as error:
        raise UserError(f"cannot write the bundle into {folder}: {error.strerror or error}") from error
    write_weights_and_config(saved, folder)


def check_finished(trial: Path) -> None:
    """Refuse a folder that lacks what a bundle takes from a finished trial's.

    Raises:
        UserError: with what is missing.
    """
    if missing := [name for name in FILES if not (trial / name).is_file()]:
        raise UserError(f"a bundle needs a finished trial's folder; {trial.name} has no {', '.join(missing)}")


def check_recorded(folder: Path) -> None:
    """Refuse a folder without recorded answers.

    Raises:
        UserError: if it has none.
    """
    if not (folder / SAMPLES).is_file():
        raise _not_recorded(folder)


def _not_recorded(folder: Path) -> UserError:
    return UserError(f"{folder.name} has no recorded answers to verify: export it with --bundle")


def _environment(saved: SavedTranslator) -> dict[str, Any]:
    record = saved.record
    return {
        "trained_on": dict(record.get("environment", {})),
        "bundled_on": {"python": platform.python_version(), "platform": platform.platform()},
        "command": rerun_command(saved.spec, record.get("run", {})),
        "verify": "python -m cluster verify .",  # in this folder
    }


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How recorded answers compare with answers decoded again.

    Attributes:
        items: test items decoded again.
        same: of them, answers equal byte for byte.
        same_score: of them, answers with the recorded verdict under the strict rule.
        differing: ids of the items whose answers differ.
        other_verdicts: ids of the items whose verdicts differ.
        exact: whether the arithmetic of evaluation, float64, promises equal answers.
        problems: what does not fit together in the record, a line each.
    """

    items: int
    same: int
    same_score: int
    differing: tuple[str, ...]
    other_verdicts: tuple[str, ...]
    exact: bool
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the record holds: verdicts always, answers too where arithmetic promises it."""
        return self.same_score == self.items and not self.problems and not (self.exact and self.differing)


def verify(translator: "Translator", items: int = 50, batch_size: int = 32) -> Verification:
    """Decode test items again and compare the answers with the recorded ones, and those with what was reported.

    Args:
        translator: loaded from a bundle or from a finished trial.
        items: how many, evenly spread over the test split.
        batch_size: items decoded together.

    Raises:
        UserError: if no samples are recorded.
    """
    folder = translator.saved.folder
    rows = _spread(translator.saved.samples, items)
    if not rows or any(name not in row for row in rows for name in ("bridged_output", "bridged_correct")):
        raise _not_recorded(folder)
    examples = [sampled_example(row) for row in rows]
    answers = translator.generate(examples, batch_size=batch_size)
    same = [answer.text == row["bridged_output"] for answer, row in zip(answers, rows, strict=True)]
    task = translator.pair.task
    scored = [task.score(answer.text, example).correct for answer, example in zip(answers, examples, strict=True)]
    verdicts = [str(row["id"]) for now, row in zip(scored, rows, strict=True) if now != row["bridged_correct"]]
    return Verification(
        items=len(rows),
        same=sum(same),
        same_score=len(rows) - len(verdicts),
        differing=tuple(str(row["id"]) for row, equal in zip(rows, same, strict=True) if not equal),
        other_verdicts=tuple(verdicts),
        exact=translator.spec.eval_dtype == "float64",
        problems=record_problems(
            translator, [*FILES.values(), ENVIRONMENT_FILE] if is_export(folder) else [RESULT, METRICS]
        ),
    )


def _spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]
