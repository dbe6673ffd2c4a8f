"""Time the card of a large campaign: how long it takes to write, how large it is, how fast a browser opens it.

    python -m benchmarks.card_speed --seeds 8 --items 1319

A made campaign of `full`, four variants without a toggle, and so many seeds of each.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.harness import save
from tests.support.browsers import CHROMIUM, DRIVER
from tests.support.card_campaigns import make_ended
from tests.support.pages import page
from tune_spaces.card.write import write_card

OPENED = """
const [navigation] = performance.getEntriesByType("navigation");
return [navigation.domContentLoadedEventEnd, performance.now()];
"""


def measure(seeds: int, items: int, sentences: int) -> dict[str, float]:
    """Return seconds and bytes of writing and opening a card."""
    with tempfile.TemporaryDirectory() as folder:
        campaign = make_ended(
            Path(folder), items=items, seeds=tuple(range(seeds)), sentences=sentences, sizes=(), curve_points=500
        )
        began = time.monotonic()
        path = write_card(campaign.folder)
        found = {
            "trials": len(campaign.plan.trials),
            "items": items,
            "write_s": round(time.monotonic() - began, 2),
            "page_mb": round(path.stat().st_size / 1e6, 2),
            "beside_mb": round(sum(p.stat().st_size for p in path.parent.glob("card_answers/*")) / 1e6, 2),
        }
        if CHROMIUM and DRIVER:
            with page() as opened:
                for name in ("first", "second"):
                    opened.open(path)
                    parsed, ready = opened.run(OPENED)
                    found |= {f"{name}_parsed_s": round(parsed / 1000, 2), f"{name}_ready_s": round(ready / 1000, 2)}
        return found


def main() -> None:
    """Measure, print and save one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8, help="seeds of each of the five variants")
    parser.add_argument("--items", type=int, default=1319)
    parser.add_argument("--sentences", type=int, default=3, help="length of an answer: about 90 characters each")
    given = parser.parse_args()
    found = measure(given.seeds, given.items, given.sentences)
    print(json.dumps(found))
    save("card-speed", found)


if __name__ == "__main__":
    main()
