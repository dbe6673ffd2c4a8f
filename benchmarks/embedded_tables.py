"""Tables of the jobs of `benchmarks.embedded_ablations` besides its own: accuracy at K tokens, entropy of attention.

    python -m benchmarks.embedded_tables OUT/table.json --picture docs/compression.png

prints both as Markdown, of one or several files of tables, and draws accuracy at K tokens.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Finished = Mapping[tuple[str, int], Path]
"""Folders of finished jobs, by variant and seed."""


def compression(finished: Finished, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return accuracy at K tokens by what the target reads: soft tokens, text of as many tokens, the whole prompt.

    Empty unless a job measured text at numbers of tokens (`text_budgets`).

    Args:
        finished: the jobs; K soft tokens are those of `kK` and `soft_only-long-kK`, 16 those of the names without K.
        sizes: every K.
    """
    import numpy as np

    from bridge_common.files import read_json, read_jsonl
    from bridge_common.metric_names import BUDGETED, at_budget, cost
    from tune_spaces.analysis.compression import ALONE, INSTEAD, QUANTITIES, WAYS, WITH_PROMPT, Measured
    from tune_spaces.analysis.compression import compression_rows as rows_of

    samples = {key: read_jsonl(folder / "samples.jsonl") for key, folder in finished.items()}
    known = {}
    for key, folder in finished.items():
        result = read_json(folder / "result.json")
        known[key] = {**result["metrics"], **result["timings"]}

    def measured(way: str, tokens: int | None, condition: str, keys: list[tuple[str, int]]) -> Measured:
        correct = np.array([[bool(row[f"{condition}_correct"]) for row in samples[key]] for key in keys])
        values = {q: [known[key].get(cost(q, condition)) for key in keys] for q in QUANTITIES}
        costs = {q: [value for value in of_runs if value is not None] for q, of_runs in values.items()}
        means = {q: float(np.mean(of_runs)) for q, of_runs in costs.items() if of_runs}
        return Measured(way=way, tokens=tokens, correct=correct, costs=means)

    found = []
    for way, sixteen, prefix in ((WITH_PROMPT, "full", "k"), (INSTEAD, "soft_only-long", "soft_only-long-k")):
        for k in sizes:
            name = sixteen if k == 16 else f"{prefix}{k}"
            if keys := [key for key in samples if key[0] == name]:
                found.append(measured(way, k, "bridged", keys))
    first = next(
        (key for key, rows in samples.items() if f"{at_budget(BUDGETED[0], sizes[0])}_correct" in rows[0]), None
    )
    if first is None:
        return []
    found += [measured(way, k, at_budget(way, k), [first]) for way in BUDGETED for k in sizes]
    found.append(measured(ALONE, None, ALONE, [first]))
    found.sort(key=lambda one: (list(WAYS).index(one.way), one.tokens or 0))
    clusters = [row.get("cluster") or row["id"] for row in samples[first]]
    prompt = known[first][cost("prefill_tokens", ALONE)]
    return rows_of(found, prompt, np.unique(clusters, return_inverse=True)[1])


def attention(finished: Finished) -> list[dict[str, Any]]:
    """Return the entropy of attention weights, as a share of the uniform one, at every evaluation of every job."""
    from bridge_common.files import read_log

    rows = []
    for (name, seed), folder in finished.items():
        events = [event for event in read_log(folder / "events.jsonl") if event["kind"] == "metrics"]
        for metric in ("pooling/entropy_share", "cross/entropy_share"):
            curve = {e["step"]: round(e["values"][metric], 4) for e in events if metric in e["values"]}
            if curve:
                rows.append({"variant": name, "seed": seed, "metric": metric, "by_step": curve})
    return rows


def main() -> None:
    """Print the tables of files that `benchmarks.embedded_ablations` wrote, and draw accuracy at K tokens."""
    from tune_spaces.analysis.compression import WAYS
    from tune_spaces.appendix.compression_plots import compression as draw
    from tune_spaces.appendix.compression_table import compression_table
    from tune_spaces.appendix.tables import percent
    from tune_spaces.appendix.tables import table as markdown

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+", metavar="FILE", help="files table.json")
    parser.add_argument("--picture", type=Path, help="PNG file to draw")
    args = parser.parse_args()
    contents = [json.loads(path.read_text()) for path in args.tables]
    found = {(row["way"], row["tokens"]): row for one in contents for row in one.get("compression", ())}
    rows = sorted(found.values(), key=lambda row: (list(WAYS).index(row["way"]), row["tokens"] or 0))
    if rows:
        print(compression_table(rows))
    if rows and args.picture:
        draw(args.picture, rows)
    curves = [row for one in contents for row in one.get("attention", ())]
    if curves:
        header = ("variant", "seed", "entropy of", *(f"step {step}" for step in curves[0]["by_step"]))
        lines = [
            (c["variant"], c["seed"], c["metric"].partition("/")[0], *(percent(v) for v in c["by_step"].values()))
            for c in curves
        ]
        print("\n" + markdown(header, lines))


if __name__ == "__main__":
    main()
