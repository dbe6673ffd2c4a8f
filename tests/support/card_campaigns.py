"""Campaigns as they look when they have ended, with made answers, for what is shown of a campaign."""

import random
from pathlib import Path
from typing import Any

from bridge_common import files
from bridge_common.intervals import wilson
from bridge_common.metric_names import CONDITIONS
from ray_bridge import tiny, tiny_run
from tests.support.campaign_folder import START, status_event
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.design.variants import compression, full, leave_one_out
from tune_spaces.gate.decision import Branch

RATES = {"target_alone": 0.52, "source_alone": 0.9, "text_bridge": 0.8, "shuffled_soft": 0.5, "random_soft": 0.49}
WITHOUT = {"no-kl": 0.64, "no-prompt": 0.68, "no-decode": 0.61, "no-projection": 0.57, "k8": 0.6, "k64": 0.66}
HOSTILE = (
    '<script>window.hostile = 1</script><img src=x onerror="window.hostile = 1"> {{data}} \x1b[31mred\x1b[0m '
    '\u202enuf\u202c & "done"'
)
STEPS = ("Tom has", "apples and buys", "more, so he has", "in all. He gives", "away and keeps", "for himself.")


def planned(storage: Path, name: str, seeds: tuple[int, ...], sizes: tuple[int, ...] = (8, 64)) -> Campaign:
    """A gated campaign of `full`, what leaves one toggle out, and two other numbers of soft tokens."""
    ablations = (*leave_one_out()[1:], *compression(sizes))
    phase = Phase(
        name="phase1",
        goal="bridged accuracy of at least 70 %; below it, attribution of effects",
        first=(full(),),
        branches={Branch.PASS: (), Branch.SOME: ablations, Branch.ALL: ablations},
        asks=(("Does the projection matter?", "full", "no-projection"),),
    )
    base = tiny()
    return Campaign(phase, base, tiny_run(), storage=storage, name=name, seeds=seeds, request={"preset": "tiny"})


def make_ended(
    storage: Path, name: str = "spring", *, items: int = 200, seeds: tuple[int, ...] = (0, 1), hostile: bool = True,
    sentences: int = 2, unfinished: int = 0, sizes: tuple[int, ...] = (8, 64), curve_points: int = 20,
    start: float = START,
) -> Campaign:  # fmt: skip
    """A campaign whose trials have ended, the last `unfinished` of them with an error; the first began at `start`."""
    campaign = planned(storage, name, seeds, sizes)
    campaign.freeze()
    campaign._record_start([], {})
    trials = list(campaign.plan.trials.values())
    for number, trial in enumerate(trials):
        folder = campaign.records.begin(trial, campaign.run_spec)
        began = start + 100.0 * number
        _write_curves(folder.events_file, trial, curve_points, began)
        if number >= len(trials) - unfinished:
            folder.write_error({"error": f"CUDA out of memory {HOSTILE}", "traceback": "", "attempt": 1})
            continue
        rows = _answers(trial, items, sentences, hostile)
        files.write_jsonl(folder.samples_file, rows)
        metrics: dict[str, Any] = {"n": items}
        for condition in CONDITIONS:
            correct = sum(row[f"{condition}_correct"] for row in rows)
            metrics |= {f"accuracy/{condition}": correct / items, f"correct/{condition}": correct}
            low, high = wilson(correct, items)
            metrics |= {f"accuracy_low/{condition}": low, f"accuracy_high/{condition}": high}
        metrics["gain"] = (metrics["correct/bridged"] - metrics["correct/target_alone"]) / items
        metrics |= {"cost/flops/bridged": 3.1e9, "cost/flops/target_alone": 2.0e9, "cost/bridge_parameters": 1.2e6}
        result = {
            "variant": trial.variant,
            "fingerprint": trial.fingerprint,
            "metrics": metrics,
            "seconds": 80.0 + number,
        }
        folder.write_result({**result, "node_id": "node", "gpu": None, "checkpoint": None})
        files.append_jsonl(folder.events_file, status_event("FINISHED", began + 80.0 + number))
    campaign.records.write_gate(campaign.policy().record())
    return campaign


def _write_curves(path: Path, trial: PlannedTrial, points: int, began: float) -> None:
    noise = random.Random(f"{trial.name} curve")
    goal = WITHOUT.get(trial.variant, 0.68)
    rows = [status_event("RUNNING", began)]
    for point in range(1, points + 1):
        share = point / points
        loss = 2.6 * (1 - share) ** 2 + 0.5 + 0.05 * noise.random() + (0.7 - goal)
        reached = max(0.0, goal * (1 - (1 - share) ** 2) + 0.04 * (noise.random() - 0.5))
        # A job validates before its first step.
        values = {"validation/n": 128, "validation/accuracy/bridged": reached, "loss/total": loss}
        rows.append({"kind": "metrics", "time": began + 70 * share, "step": 40 * point, "values": values})
    files.write_jsonl(path, rows)


def _answers(trial: PlannedTrial, items: int, sentences: int, hostile: bool) -> list[dict[str, Any]]:
    """Rows of samples: baselines are the same in every trial, as they are in a campaign."""
    own, common = random.Random(trial.name), random.Random(0)
    rows = []
    for index in range(items):
        gold, ease = index % 90 + 3, common.random()
        row: dict[str, Any] = {"id": f"test-{index}", "index": index, "gold": str(gold)}
        row["question"] = (
            f"Tom has {gold - 2} apples and gets {index % 7 + 2} more; he gives {index % 7} away. How many has he?"
        )
        for condition in CONDITIONS:
            noise = own if condition in ("bridged", "shuffled_soft", "random_soft") else common
            rate = RATES.get(condition, WITHOUT.get(trial.variant, 0.68))
            right, valid = 0.6 * ease + 0.4 * noise.random() < 0.12 + 0.76 * rate, noise.random() > 0.03
            answer = str(gold) if right else str(gold + noise.randrange(1, 9))
            text = " ".join(f"{part} {noise.randrange(2, 60)}" for _ in range(sentences) for part in STEPS)
            output = f"{text} #### {answer}" if valid else text
            row |= {f"{condition}_output": output, f"{condition}_answer": answer if valid else None}
            row |= {f"{condition}_correct": right and valid, f"{condition}_valid": valid}
        rows.append(row)
    if hostile:
        rows[0] |= {"question": f"What is {HOSTILE}?", "bridged_output": f"It is {HOSTILE} #### 3"}
        rows[1]["id"] = 'odd id "&<b>#é'
    return rows
