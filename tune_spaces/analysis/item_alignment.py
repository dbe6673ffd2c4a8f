"""Put several runs on the same items into one order.

A paired comparison of two sets that are not the same items is worse than none, so whatever does not match is refused.
"""

from collections.abc import Mapping

from bridge_common.errors import UserError
from tune_spaces.analysis.samples import Samples


def align_items(runs: Mapping[str, Samples]) -> dict[str, Samples]:
    """Put all runs into the item order of the first, after checking that they are the same items.

    Raises:
        UserError: ids, gold answers or questions do not match; the message names the runs and an example.
    """
    names = list(runs)
    if not names:
        return {}
    key = next((key for key in ("id", "index") if all(key in run.keys for run in runs.values())), None)
    if key is None:
        raise UserError(f"{', '.join(names)} share neither id nor index: write one of them into all the files")
    first = runs[names[0]]
    aligned = {names[0]: first}
    for name in names[1:]:
        run = runs[name]
        if run.keys[key] != first.keys[key]:
            _refuse_other_items(names[0], first.keys[key], name, run.keys[key], key)
            place = {value: i for i, value in enumerate(run.keys[key])}
            run = run.take([place[value] for value in first.keys[key]])
        _refuse_other_content(names[0], first, name, run, key)
        aligned[name] = run
    return aligned


def _refuse_other_items(a: str, a_keys: tuple[str, ...], b: str, b_keys: tuple[str, ...], key: str) -> None:
    first, second = set(a_keys), set(b_keys)
    odd = [
        f"{len(only)} only in {name}, for example {key} {min(only, key=lambda value: (len(value), value))}"
        for name, only in ((a, first - second), (b, second - first))
        if only
    ]
    if odd:
        raise UserError(
            f"{a} has {len(first)} items and {b} has {len(second)} items, but they are not the same items "
            f"({'; '.join(odd)}): evaluate both on the same items"
        )


def _refuse_other_content(a: str, first: Samples, b: str, second: Samples, key: str) -> None:
    remedy = "evaluate both on the same data"
    for position, item in enumerate(first.keys[key]):
        if first.gold[position] != second.gold[position]:
            raise UserError(f"{a} and {b} have different gold answers for {key} {item}: {remedy}")
        if first.questions and second.questions and first.questions[position] != second.questions[position]:
            raise UserError(f"{a} and {b} ask a different question under {key} {item}: {remedy}")
