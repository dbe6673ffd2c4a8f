"""`python -m cluster appendix --samples NAME=FILE ...`: the comparison from files alone, without a campaign."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bridge_common.errors import UserError
from bridge_common.paths import path_problem, text_problem

if TYPE_CHECKING:
    from tune_spaces.analysis.pairwise import Comparison


def parse_samples(arguments: Iterable[str]) -> dict[str, Path]:
    """Read `NAME=FILE` arguments, in their order.

    Raises:
        UserError: if one is not of that form, or a name comes twice.
    """
    samples: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        name = name.strip()
        if not (name and equals and path):
            raise UserError(f"--samples {argument}: write it as NAME=FILE, for example full=runs/full/samples.jsonl")
        if problem := text_problem(name) or path_problem(path):
            raise UserError(f"--samples: {problem}; write it as NAME=FILE")
        if name in samples:
            raise UserError(f"--samples {argument}: the name {name} comes twice; give every file a name of its own")
        samples[name] = Path(path)
    return samples


def appendix_from_files(samples: Mapping[str, Path], as_json: bool = False, out: Path | None = None) -> str:
    """Compare sample files with one another, pair by pair.

    Args:
        samples: sample files by the name they are to have; ours, or any JSONL with `index` or `id`, `gold` and
            `bridged_answer`.
        as_json: return one JSON object (`runs`, `pairs`, `verdict`) instead of text.
        out: folder to write the whole appendix into as well.

    Returns:
        What to print.

    Raises:
        UserError: if there is no file, one cannot be read, or they are not on the same items.
    """
    if not samples:
        raise UserError("nothing to compare: give at least one --samples NAME=FILE")
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder")
    from tune_spaces.analysis.analyse import analyse
    from tune_spaces.analysis.pairwise import compare_runs
    from tune_spaces.analysis.samples import load_samples
    from tune_spaces.analysis.scored_trials import trials_of_samples

    runs = {name: load_samples(path) for name, path in samples.items()}
    comparison = compare_runs(runs)
    written: list[Path] = []
    if out is not None:
        from tune_spaces.appendix.write import write_appendix

        written = list(write_appendix(out, analyse(trials_of_samples(runs)), title="Comparison of runs").values())
    if as_json:
        return json.dumps(comparison.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    return _text(comparison, written)


def _text(comparison: "Comparison", written: Iterable[Path]) -> str:
    width = max(map(len, comparison.runs))
    lines = [
        f"{name:<{width}}  {run.correct}/{run.n} correct, {100 * run.accuracy:.1f} % "
        f"[{100 * run.ci_low:.1f}, {100 * run.ci_high:.1f}], {run.invalid} without answer"
        for name, run in comparison.runs.items()
    ]
    return "\n".join([*lines, *comparison.verdict, *(f"written: {path}" for path in written)])
