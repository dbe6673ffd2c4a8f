"""Time the answers of finished jobs, one question at a time: what their tables need and parallel jobs cannot measure.

    python -m benchmarks.latencies OUT/full-s0 OUT/k4-s0 --questions 12 --device cuda

`benchmarks.embedded_ablations` calls it when all of its jobs have ended. Each folder gets `alone.json`: medians over
questions, of the soft tokens and the target alone, and of text at the job's numbers of tokens, decoded without CUDA
graphs, whose capture would be most of what a question alone takes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ALONE_FILE = "alone.json"


def time_answers(folder: Path, questions: int, device: str) -> dict[str, Any]:
    """Return the median seconds of a question under the conditions that a table compares, and where they were measured.

    Args:
        folder: of a finished job.
        questions: test questions to answer.
        device: `cpu` or `cuda`.
    """
    from bridge_common.metric_names import budgeted, cost
    from ray_bridge import Translator
    from ray_bridge.inference.benchmark import benchmark

    translator = Translator.load(folder, device=device)
    conditions = ("bridged", "target_alone", *budgeted(translator.spec.text_budgets))
    timed = benchmark(translator, questions, conditions=conditions, graphs=False)
    timings = {cost("answer_seconds", name): timing.total for name, timing in timed.timings.items()}
    return {"questions": timed.questions, "device": timed.device, "threads": timed.threads, "timings": timings}


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the jobs of the folders on the command line, one after the other."""
    from bridge_common.files import write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    for folder in args.folders:
        write_json(folder / ALONE_FILE, time_answers(folder, args.questions, args.device))


if __name__ == "__main__":
    main()
