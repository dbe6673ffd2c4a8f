"""Break the pure modules one small change at a time and count the changes that their mirrored tests notice.

    python -m tests.support.mutants PIECE [--share 0.3] [--minutes 20] [--record LABEL]

A piece is a folder or a few modules with the tests that mirror them (`PIECES`). mutmut writes every mutant of the
piece's functions into a copy of the checkout in `.mutants/PIECE` and runs the tests in a forked child for each. A piece
that is interrupted or out of time goes on where it stopped: mutants that a test killed stay killed until their function
changes, all others run again. `mutmut show NAME` in `.mutants/PIECE` prints a mutant.

mutmut leaves alone what stands outside functions (fields and their defaults, constants) and decorated functions except
class and static methods; messages of errors are left out here.
"""

import argparse
import filecmp
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bridge_common.files import write_json

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".mutants"
RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
SEED = 13


@dataclass(frozen=True)
class Piece:
    """Modules to mutate and the tests that mirror them, as paths in the checkout."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


def _folder(package: str, folder: str, *more_tests: str) -> Piece:
    return Piece((f"{package}/{folder}/*",), (f"tests/{package}/{folder}", *more_tests))


PIECES = {
    "tune_spaces.design": _folder("tune_spaces", "design"),
    "tune_spaces.gate": _folder("tune_spaces", "gate"),
    "tune_spaces.analysis": _folder("tune_spaces", "analysis"),
    "tune_spaces.records": _folder("tune_spaces", "records"),
    "cluster.cli": Piece(
        ("cluster/cli/options.py", "cluster/cli/request.py"),
        ("tests/cluster/cli/test_app.py", "tests/cluster/cli/test_options.py", "tests/cluster/cli/test_request.py"),
    ),
    "mlflow_utils.names": Piece(
        ("mlflow_utils/names.py", "mlflow_utils/trial_summary.py", "mlflow_utils/tracking_uri.py"),
        (
            "tests/mlflow_utils/test_names.py",
            "tests/mlflow_utils/test_trial_summary.py",
            "tests/mlflow_utils/test_tracking_uri.py",
        ),
    ),
    "mlflow_utils.reports": _folder("mlflow_utils", "reports"),
    "mlflow_utils.sync": Piece(
        ("mlflow_utils/sync/points.py", "mlflow_utils/sync/sent_state.py"), ("tests/mlflow_utils/sync",)
    ),
    "ray_bridge.config": _folder("ray_bridge", "config"),
    "ray_bridge.inputs": Piece(
        ("ray_bridge/inputs/layout.py",),
        (
            "tests/ray_bridge/inputs/test_layout.py",
            "tests/ray_bridge/inputs/test_assemble.py",
            "tests/ray_bridge/inputs/test_chat.py",
        ),
    ),
    # Without the tests of whole jobs, of two workers and of memory, which take minutes for each change.
    "ray_bridge.objectives": Piece(
        ("ray_bridge/objectives/*",),
        tuple(
            f"tests/ray_bridge/objectives/test_{name}.py"
            for name in (
                *("advantages", "answer_kl", "decode_aware", "forward_passes", "gradient_accumulation", "objective"),
                *("policy_gradient", "rollouts", "step_context", "terms"),
            )
        ),
    ),
    "ray_bridge.schedule": Piece(
        ("ray_bridge/training/schedule.py",),
        ("tests/ray_bridge/training/test_schedule.py", "tests/ray_bridge/training/test_curriculum.py"),
    ),
    "ray_bridge.scoring": Piece(
        (
            "ray_bridge/tasks/scoring.py",
            *(
                f"ray_bridge/tasks/{name}.py"
                for name in ("choices", "judged", "letters", "revisions", "settled", "unit_words")
            ),
            "ray_bridge/tasks/math_equivalence.py",
            "ray_bridge/tasks/latex/*",
        ),
        (
            "tests/ray_bridge/tasks/test_scoring.py",
            "tests/ray_bridge/tasks/test_scored_examples.py",
            "tests/ray_bridge/tasks/test_math_equivalence.py",
            "tests/ray_bridge/tasks/test_choices.py",
            "tests/ray_bridge/tasks/test_judged.py",
            "tests/ray_bridge/tasks/test_letters.py",
            "tests/ray_bridge/tasks/latex",
        ),
    ),
}

# mutmut's exit code of a mutant's tests. "No tests" is a mutant in a function that no test calls.
KILLED, SURVIVED, NO_TESTS, TIMEOUT = (1, 3), (0,), (5, 33), (24, -24, 36, 152, 255)


def copy_checkout(work: Path) -> None:
    """Copy the files that git knows or would add. Unchanged ones keep their times, which tell mutmut what changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    files = {name for name in listed if (ROOT / name).is_file()}
    for old in [path for path in work.rglob("*") if path.is_file()] if work.exists() else []:
        name = old.relative_to(work)
        if name.parts[0] != "mutants" and str(name) not in files:
            old.unlink()
            for suffix in ("", ".meta", ".spans"):
                (work / "mutants" / f"{name}{suffix}").unlink(missing_ok=True)
    for name in files:
        source, copy = ROOT / name, work / name
        if not copy.exists() or not filecmp.cmp(source, copy, shallow=False):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
            (work / "mutants" / name).unlink(missing_ok=True)


def configure(work: Path, piece: Piece) -> None:
    """Write mutmut's settings of a piece."""
    package = piece.modules[0].split("/", 1)[0]
    others = [path.name for path in work.iterdir() if path.name not in {package, "mutants", "setup.cfg", ".git"}]
    for name in others:
        shutil.rmtree(work / "mutants" / name, ignore_errors=True)  # no test stays that the checkout lost
    (work / "mutants").mkdir(exist_ok=True)  # before Python starts: it forgets folders of PYTHONPATH that are not there
    (work / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)  # which test calls which function: seen anew
    settings = {
        "source_paths": [package],
        "only_mutate": piece.modules,
        "also_copy": others,
        "do_not_mutate_patterns": [r"raise \w+Error\("],
        "pytest_add_cli_args_test_selection": [test for test in piece.tests if (work / test).exists()],
        "pytest_add_cli_args": [
            *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.support.shortest_first", "-m", "not slow")
        ],
        "process_isolation": "forkserver",  # children of a process in which torch has computed can wait for ever
        "timeout_multiplier": "5.0",
        "timeout_constant": "5.0",
    }
    lines = [
        f"{name}={values if isinstance(values, str) else ''.join(f'{chr(10)}    {value}' for value in values)}"
        for name, values in settings.items()
    ]
    (work / "setup.cfg").write_text("\n".join(["[mutmut]", *lines, ""]))


def exit_codes(work: Path) -> dict[str, int | None]:
    """Return how the tests of each mutant ended, by the mutant's name; None if they have not run."""
    found: dict[str, int | None] = {}
    for path in sorted((work / "mutants").rglob("*.py.meta")):
        try:
            found.update(json.loads(path.read_text())["exit_code_by_key"])
        except json.JSONDecodeError:  # a kill has left half a file: the module's mutants are written and run again
            path.unlink()
            path.with_suffix("").unlink()
    return found


def sample_patterns(share: float) -> list[str]:
    """Return patterns of the mutants to run: those whose number ends in one of some digits, drawn with a seed."""
    digits = sorted(random.Random(SEED).sample("0123456789", max(1, round(10 * share))))
    return [f"*__mutmut_*{digit}" for digit in digits]


def in_sample(name: str, share: float) -> bool:
    """Return whether a mutant belongs to the sample."""
    return any(fnmatch(name, pattern) for pattern in sample_patterns(share))


def run_mutmut(work: Path, names: list[str], seconds: float) -> bool:
    """Run mutants by name or pattern, and return whether all of them ran in time."""
    environment = {**os.environ, "PYTHONPATH": str(work / "mutants"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
    with (work / "mutmut.log").open("w") as log:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(timeout=seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:  # it waits for the server, which has all mutants in its queue
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if isinstance(stopped, KeyboardInterrupt):
                raise
            return False
    if code:
        tail = (work / "mutmut.log").read_text(errors="replace").replace("\r", "\n").splitlines()[-40:]
        raise SystemExit("\n".join([*tail, f"mutmut failed: see {work / 'mutmut.log'}"]))
    return True


def summary(codes: dict[str, int | None], share: float) -> dict[str, Any]:
    """Count how mutants ended, and name those that no test noticed."""
    chosen = {name: code for name, code in codes.items() if in_sample(name, share)}
    kinds = {"killed": KILLED, "timeout": TIMEOUT, "survived": SURVIVED, "no_tests": NO_TESTS, "not_run": (None,)}
    counts = Counter(
        next((kind for kind, known in kinds.items() if code in known), "crashed") for code in chosen.values()
    )
    noticed = counts["killed"] + counts["timeout"]
    return {
        "mutants": len(codes),
        "run": len(chosen) - counts["not_run"],
        **{kind: counts[kind] for kind in [*kinds, "crashed"]},
        "killed_percent": round(100 * noticed / max(1, len(chosen) - counts["not_run"]), 1),
        "survivors": sorted(name for name, code in chosen.items() if code not in (*KILLED, *TIMEOUT, None)),
    }


def record(label: str, name: str, share: float, figures: dict[str, Any]) -> None:
    """Write a piece's figures into the results file, under a label such as before or after."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["command"] = 'make mutants PIECE=NAME ARGS="--share SHARE --record LABEL"'
    results["versions"] = {"python": platform.python_version(), **{p: version(p) for p in ("mutmut", "pytest")}}
    results["seed"] = SEED
    entry = {key: value for key, value in figures.items() if key != "survivors"}
    results.setdefault(label, {})[name] = {"share": share, **entry}
    write_json(RESULTS, results)


def main() -> None:
    """Run a piece, print its figures and the names of the survivors, and exit with 1 if it is not complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("piece", choices=PIECES)
    parser.add_argument("--share", type=float, default=1.0, help="share of the mutants to run, drawn with a seed")
    parser.add_argument("--minutes", type=float, default=20.0, help="stop after this time; the next run goes on")
    parser.add_argument("--record", metavar="LABEL", help=f"write the figures into {RESULTS.relative_to(ROOT)}")
    asked = parser.parse_args()
    deadline = time.monotonic() + 60 * asked.minutes
    piece, work = PIECES[asked.piece], WORK / asked.piece
    copy_checkout(work)
    configure(work, piece)
    codes = exit_codes(work)
    complete = run_mutmut(
        work, _to_run(codes, asked.share) or sample_patterns(asked.share), deadline - time.monotonic()
    )
    # Mutants of functions that changed have new names, which the first run has only written.
    new = [name for name, code in exit_codes(work).items() if code is None and in_sample(name, asked.share)]
    if complete and new:
        complete = run_mutmut(work, new, deadline - time.monotonic())
    figures = summary(exit_codes(work), asked.share)
    for name in figures["survivors"]:
        print(name)
    print({key: value for key, value in figures.items() if key != "survivors"})
    if asked.record:
        record(asked.record, asked.piece, asked.share, figures)
    if not complete or figures["not_run"]:
        raise SystemExit("not complete: run it again to go on")


def _to_run(codes: dict[str, int | None], share: float) -> list[str]:
    return [name for name, code in codes.items() if code not in KILLED and in_sample(name, share)]


if __name__ == "__main__":
    main()
