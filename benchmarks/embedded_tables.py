"""Tables of the jobs of `benchmarks.embedded_ablations` besides its own: accuracy at K tokens, entropy of attention.

    python -m benchmarks.embedded_tables OUT/table.json --picture docs/compression.png

prints both as Markdown, of one or several files of tables, and draws accuracy at K tokens. Of a row that several files
have, the last file's counts; which rows no other one beats is judged over all of them.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Finished = Mapping[tuple[str, int], Path]
"""Folders of finished jobs, by variant and seed."""


def compressed(sizes: Sequence[int]) -> dict[str, tuple[str, int]]:
    """Return, by variant, what its target reads of the soft tokens (a name of `WAYS`) and how many there are.

    K soft tokens are those of `kK` and `soft_only-long-kK`, 16 those of the names without K.
    """
    from tune_spaces.analysis.compression import INSTEAD, WITH_PROMPT

    ways = ((WITH_PROMPT, "full", "k"), (INSTEAD, "soft_only-long", "soft_only-long-k"))
    return {sixteen if k == 16 else f"{prefix}{k}": (way, k) for way, sixteen, prefix in ways for k in sizes}


def compression(finished: Finished, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return accuracy at K tokens by what the target reads: soft tokens, text of as many tokens, the whole prompt.

    Empty unless jobs of several K, or one with text at numbers of tokens (`text_budgets`), have finished.

    Args:
        finished: the jobs; see `compressed`.
        sizes: every K.
    """
    import numpy as np

    from benchmarks.latencies import ALONE_FILE
    from bridge_common.files import read_json, read_jsonl
    from bridge_common.metric_names import BUDGETED, at_budget, cost
    from tune_spaces.analysis.compression import ALONE, QUANTITIES, WAYS, Measured
    from tune_spaces.analysis.compression import compression_rows as rows_of

    names = compressed(sizes)
    finished = {key: folder for key, folder in finished.items() if key[0] in names}
    samples = {key: read_jsonl(folder / "samples.jsonl") for key, folder in finished.items()}
    known = {}
    for key, folder in finished.items():
        result = read_json(folder / "result.json")
        alone = read_json(folder / ALONE_FILE) if (folder / ALONE_FILE).is_file() else {"timings": {}}
        known[key] = {**result["metrics"], **result["timings"], **alone["timings"]}

    def measured(way: str, tokens: int | None, condition: str, keys: list[tuple[str, int]]) -> Measured:
        correct = np.array([[bool(row[f"{condition}_correct"]) for row in samples[key]] for key in keys])
        values = {q: [known[key].get(cost(q, condition)) for key in keys] for q in QUANTITIES}
        costs = {q: [value for value in of_runs if value is not None] for q, of_runs in values.items()}
        means = {q: float(np.mean(of_runs)) for q, of_runs in costs.items() if of_runs}
        return Measured(way=way, tokens=tokens, correct=correct, costs=means)

    found = []
    for name, (way, k) in names.items():
        if keys := [key for key in samples if key[0] == name]:
            found.append(measured(way, k, "bridged", keys))
    asked = f"{at_budget(BUDGETED[0], sizes[0])}_correct"
    with_text = next((key for key, rows in samples.items() if asked in rows[0]), None)
    if with_text is None and len(found) < 2:
        return []
    if with_text:
        found += [measured(way, k, at_budget(way, k), [with_text]) for way in BUDGETED for k in sizes]
    first = with_text or next(iter(samples))
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
    from tune_spaces.analysis.compression import WAYS, with_front
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
    rows = with_front(sorted(found.values(), key=lambda row: (list(WAYS).index(row["way"]), row["tokens"] or 0)))
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
