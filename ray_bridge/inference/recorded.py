"""Check a translator's recorded answers against each other: rows, verdicts and the accuracies that were reported."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bridge_common.errors import UserError
from bridge_common.files import read_json
from bridge_common.metric_names import CONDITIONS, N, accuracy
from bridge_common.trial_files import EVENTS, RESULT
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build
from ray_bridge.inference.export import ENVIRONMENT_FILE, PLAN_FILE, TRIAL_FILE
from ray_bridge.inference.places import CONFIG_FILE
from ray_bridge.inference.saved import SAMPLES_FILE, is_export, sampled_example

if TYPE_CHECKING:
    from ray_bridge.inference.translator import Translator

SHOWN = 5
"""Ids that a line names at most."""


def record_problems(translator: "Translator", files: Sequence[str]) -> tuple[str, ...]:
    """Return what does not fit together in a translator's record, a line each; nothing is decoded.

    The recorded outputs are scored again by the task. Outputs, gold answers and reported accuracies that were all
    changed alike are not noticed here: the outputs are, by decoding them again.

    Args:
        translator: loaded from a bundle or from a finished trial.
        files: names of the files that have to be in its folder.
    """
    folder = translator.saved.folder
    problems = [f"{name} is missing" for name in files if not (folder / name).is_file()]
    problems += _damaged(translator) if is_export(folder) else []
    rows = translator.saved.samples
    problems += _repeated(rows)
    conditions = [name for name in CONDITIONS if any(f"{name}_output" in row for row in rows)]
    verdicts = {condition: _verdicts(translator, condition) for condition in conditions}
    for condition, correct in verdicts.items():
        other = [row["id"] for row, now in zip(rows, correct, strict=True) if row.get(f"{condition}_correct") != now]
        if other:
            problems.append(
                f"{len(other)} recorded verdicts of {condition} do not follow from its outputs: {_some(other)}"
            )
    problems += _other_gold(translator)
    for place, metrics in _reported(translator):
        problems += [f"{place}: {line}" for line in _metric_problems(metrics, len(rows), verdicts)]
    return tuple(problems)


def _damaged(translator: "Translator") -> Iterator[str]:
    """Yield what is wrong with the files of a bundle that are not needed to answer, but to train its trial again."""
    folder = translator.saved.folder
    for name in (TRIAL_FILE, PLAN_FILE, ENVIRONMENT_FILE):
        if not (folder / name).is_file():
            continue
        try:
            record = read_json(folder / name)
        except UserError:
            record = None
        if not isinstance(record, dict):
            yield f"{name} is damaged"
        elif name == TRIAL_FILE and not _same_job(record.get("spec"), translator.spec):
            yield f"{name} is of another trial than {CONFIG_FILE}"
    events = folder / EVENTS
    if events.is_file() and not events.read_bytes().endswith(b"}\n"):
        yield f"{EVENTS} is damaged"


def _same_job(record: Any, spec: JobSpec) -> bool:
    """Return whether a recorded spec is this one; a bundle leaves the folder of the task's data out."""
    try:
        return build(JobSpec, dict(record)).replace(task_data=None) == spec.replace(task_data=None)
    except (UserError, TypeError, ValueError):
        return False


def _verdicts(translator: "Translator", condition: str) -> list[bool]:
    rows, score = translator.saved.samples, translator.pair.task.score
    return [score(str(row.get(f"{condition}_output", "")), sampled_example(row)).correct for row in rows]


def _repeated(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    twice = [name for name, count in Counter(str(row["id"]) for row in rows).items() if count > 1]
    return [f"{SAMPLES_FILE} has items more than once: {_some(twice)}"] if twice else []


def _other_gold(translator: "Translator") -> list[str]:
    """Compare questions and gold answers with the task's data, which a trial has and a bundle has not."""
    known = {example.id: (example.question, example.gold) for example in translator.splits.test}
    rows = translator.saved.samples if known else ()
    other = [row["id"] for row in rows if known.get(row["id"]) != (row["question"], row["gold"])]
    return [f"{len(other)} recorded questions are not the task's: {_some(other)}"] if other else []


def _reported(translator: "Translator") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the metrics that were reported, and where."""
    saved = translator.saved
    result = saved.folder / RESULT
    places = [("the recorded metrics", saved.record)]
    if result.is_file():
        places.append((RESULT, read_json(result, "export the translator again")))
    for place, record in places:
        metrics = record.get("metrics") if isinstance(record, Mapping) else None
        yield place, metrics if isinstance(metrics, Mapping) else {}


def _metric_problems(metrics: Mapping[str, Any], count: int, verdicts: Mapping[str, Sequence[bool]]) -> Iterator[str]:
    if accuracy("bridged") not in metrics:
        yield "no accuracy is reported"
        return
    if metrics.get(N, count) != count:
        yield f"{metrics[N]} test items are reported, {SAMPLES_FILE} has {count}"
    for condition in CONDITIONS:
        reported = metrics.get(accuracy(condition))
        if reported is None:
            continue
        if condition not in verdicts:
            yield f"accuracy {reported} of {condition} is reported, {SAMPLES_FILE} has no such answers"
            continue
        actual = sum(verdicts[condition]) / count
        if not (isinstance(reported, int | float) and math.isclose(reported, actual, abs_tol=1e-6)):
            yield f"accuracy {reported} of {condition} is reported, its outputs have {actual:.6g}"


def _some(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names[:SHOWN])) + (" ..." if len(names) > SHOWN else "")
