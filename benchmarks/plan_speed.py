"""Time the plan of a large sweep: every variant is validated, fingerprinted, given a cost and written to plan.json.

    python -m benchmarks.plan_speed [--variants 10000]

Prints and saves one JSON object: the median seconds of a new plan, and the same scaled to 10,000 variants.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.harness import default_device, save, timed
from ray_bridge.config.presets import tiny, tiny_run
from tune_spaces.campaign import Campaign
from tune_spaces.design import variants
from tune_spaces.design.phases import Phase


def main() -> None:
    """Measure, print and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=10_000)
    options = parser.parse_args()
    sizes, seeds = range(1, 1 + min(2000, options.variants)), range(-(-options.variants // 2000))
    sweep, device = Phase(name="sweep", goal="all K", first=tuple(variants.compression(sizes))), default_device()
    with tempfile.TemporaryDirectory() as name:
        names = iter(range(1000))  # an existing plan would only be read

        def plan() -> int:
            campaign = Campaign(
                sweep, tiny(), tiny_run(), storage=Path(name), name=f"s{next(names)}", seeds=tuple(seeds)
            )
            return len(campaign.freeze()["trials"])

        trials = plan()
        seconds = timed(plan, device)
    result = {"trials": trials, "seconds": round(seconds, 3), "seconds_per_10000": round(1e4 * seconds / trials, 3)}
    print(json.dumps(result))
    save("planning", result)


if __name__ == "__main__":
    main()
