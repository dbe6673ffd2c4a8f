"""Measure the field's rivals on the embedded pair beside `full`, step for step and under the same controls.

    python -m benchmarks.rivals --out benchmarks/results/rivals.json --device cpu --processes 2 --seeds 0,1,2

The variants are those of the phase `rivals`, with phase 1's `full`, the control without a source, and two resamplers
without the projection, which read the source layer of `full` or the last one: they stand between `resampler` and
`latent-thoughts`. Each but the control has a twin NAME-random_source, trained step for step with a source of random
weights: a column of the table, after all other jobs. Each job runs in a process of its own, without Ray and MLflow.
FILE gets the table, FILE with suffix .md the same for reading, and the folder FILE without suffix the jobs. Finished
jobs are kept, so a second call runs only those that are missing.
"""

from typing import Any

from benchmarks.embedded_ablations import Study, random_twin_of
from bridge_common.metric_names import BRIDGE_BYTES, BRIDGE_PARAMETERS, cost


def variants() -> dict[str, dict[str, Any]]:
    """Return, by the name of each variant, the fields that it changes in the preset `tiny`."""
    from ray_bridge import random_twin
    from ray_bridge.config.presets import tiny
    from tune_spaces.design.rivals import rival_variants
    from tune_spaces.design.variants import constant, full

    plain = {"bridge": "resampler", "geometry_projection": False}
    with_source = {variant.name: dict(variant.changes) for variant in (full(), *rival_variants())}
    with_source |= {
        "resampler-no-projection": {**full().changes, **plain},
        "resampler-last-layer": {**full().changes, **plain, "source_layer": -1},
    }
    twin = {"source": random_twin(tiny().source)}
    twins = {random_twin_of(name): {**changes, **twin} for name, changes in with_source.items()}
    return {**with_source, constant().name: dict(constant().changes), **twins}


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown: accuracies and differences in percent, costs of one question.

    Twins with a random source are columns of their methods' rows: their accuracy, and what the method has over them.
    """
    head = (
        "| method | seeds | bridged | 95 % interval | seen | transfer | gain | information | − full | random source | "
        "− random source | MFLOP | passed, bytes | trained, thousands | file, MB |"
    )
    lines = [head, "|---" * head.count(" |") + "|"]
    bridged = {row["variant"]: row["bridged"] for row in rows}
    twins = {random_twin_of(name) for name in bridged}
    for row in (row for row in rows if row["variant"] not in twins):
        twin = bridged.get(random_twin_of(row["variant"]))
        costs = row["costs"]
        flops, passed = (costs.get(cost(name, "bridged")) for name in ("flops", "passed_bytes"))
        cells = [
            row["variant"],
            str(len(row["seeds"])),
            f"{100 * row['bridged']:.1f}",
            f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]",
            *(f"{100 * row[f'bridged/{group}']:.1f}" for group in ("seen", "transfer")),
            *(_gap(row.get(f"minus_{other}")) for other in ("target_alone", "shuffled_soft", "full")),
            "" if twin is None else f"{100 * twin:.1f}",
            _gap(row.get("minus_random_source")),
            "" if flops is None else f"{flops / 1e6:.1f}",
            "" if passed is None else f"{passed:,.0f}",
            f"{costs[BRIDGE_PARAMETERS] / 1e3:,.0f}",
            f"{costs[BRIDGE_BYTES] / 1e6:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _gap(gap: dict[str, float] | None) -> str:
    if gap is None:
        return ""
    return f"{100 * gap['estimate']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"


RIVALS = Study(
    module="benchmarks.rivals",
    about=str(__doc__),
    variants=variants,
    markdown=markdown,
    places=lambda out: (out.with_suffix(""), out.with_suffix(".json"), out.with_suffix(".md")),
)


if __name__ == "__main__":
    RIVALS.main()
