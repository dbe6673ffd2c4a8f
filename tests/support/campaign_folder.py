"""Makes a campaign's folder as a campaign leaves it, for tests of what reads such folders."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bridge_common import files
from bridge_common.intervals import wilson
from bridge_common.metric_names import CONDITIONS

TOGGLES = ("kl_alignment", "prompt_alignment", "decode_aware", "geometry_projection")
RATES = {"bridged": 0.72, "target_alone": 0.6, "source_alone": 0.95, "shuffled_soft": 0.58, "random_soft": 0.57}
VARIANTS = {
    "full": TOGGLES,
    "A": ("kl_alignment",),
    "B": ("kl_alignment",),
    "C": ("kl_alignment", "prompt_alignment", "decode_aware"),
}
START = 1_760_000_000.0
TERMS = ("answer_nll", "answer_kl", "prompt_alignment", "flow", "contrast", "decode_aware")


def spec(variant: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A flat spec of the size of a real one."""
    toggles = {toggle: toggle in VARIANTS.get(variant, TOGGLES) for toggle in TOGGLES}
    base = {"task": "synthetic", "bridge": "dit", "soft_tokens": 64, "sampler_steps": 4, "lr": 3e-4, "steps": 40}
    return {**base, **toggles, "seed": seed, **changes}


def fingerprint(variant: str, seed: int = 0) -> str:
    """16 hex digits that depend on the variant and the seed."""
    return f"{random.Random(f'{variant}/{seed}').getrandbits(64):016x}"


def step_event(step: int, time: float, seed: int = 0) -> dict[str, Any]:
    """The metrics event of one training step: eleven values."""
    noise = random.Random(seed * 1_000_003 + step)
    values = {f"loss/{term}": 2.0 / (1 + step) + 0.01 * noise.random() for term in TERMS}
    total = sum(values.values())
    return {
        "kind": "metrics",
        "time": time,
        "step": step,
        "values": {
            **values,
            "loss/total": total,
            "grad_norm": 1 + noise.random(),
            "lr": 3e-4,
            "tokens_per_second": 900 + noise.random(),
            "seconds_per_step": 0.1 + noise.random() / 100,
        },
    }


def samples(n: int, seed: int = 0, rates: dict[str, float] = RATES) -> list[dict[str, Any]]:
    """Rows of a samples.jsonl."""
    noise = random.Random(seed)
    rows = []
    for index in range(n):
        row: dict[str, Any] = {"id": f"test-{index}", "index": index, "question": f"What is {index} + 1?"}
        row |= {"gold": str(index + 1), "words": ("none", "seen", "transfer")[index % 3]}
        for condition in CONDITIONS:
            right = noise.random() < rates.get(condition, 0.5)
            answer = str(index + 1 if right else index)
            row |= {f"{condition}_output": f"So it is #### {answer}", f"{condition}_answer": answer}
            row |= {f"{condition}_correct": right, f"{condition}_flexible": right}
            row |= {f"{condition}_valid": True, f"{condition}_tokens": 7}
        rows.append(row)
    return rows


def metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The metrics of the final evaluation of some samples."""
    n, found = len(rows), {}
    for condition in CONDITIONS:
        correct = sum(row[f"{condition}_correct"] for row in rows)
        low, high = wilson(correct, n)
        found |= {
            f"accuracy/{condition}": correct / n,
            f"correct/{condition}": correct,
            f"flexible/{condition}": correct / n,
        }
        found |= {f"accuracy_low/{condition}": low, f"accuracy_high/{condition}": high}
        for group in ("none", "seen", "transfer"):
            part = [row for row in rows if row["words"] == group]
            found[f"accuracy/{condition}/{group}"] = sum(row[f"{condition}_correct"] for row in part) / len(part)
    found["gain"] = found["accuracy/bridged"] - found["accuracy/target_alone"]
    found["information"] = found["accuracy/bridged"] - found["accuracy/shuffled_soft"]
    return {"n": n, **found}


def begin_trial(campaign: Path, variant: str, *, phase: str = "phase1", seed: int = 0, **changes: Any) -> Path:
    """A trial's folder with its `spec.json` and nothing else."""
    digest = fingerprint(variant, seed)
    folder = campaign / "trials" / f"{variant}-{digest[:8]}"
    row = {
        "variant": variant,
        "phase": phase,
        "fingerprint": digest,
        "seed": seed,
        "spec": spec(variant, seed, **changes),
    }
    files.write_json(folder / "spec.json", {**row, "run": {"workers": 4, "use_gpu": True, "eval_batch_size": 36}})
    return folder


def emit(folder: Path, *events: dict[str, Any]) -> None:
    """Append events to a trial's event log."""
    for event in events:
        files.append_jsonl(folder / "events.jsonl", event)


def status_event(status: str, time: float = START) -> dict[str, Any]:
    """The event of a status."""
    return {"kind": "status", "time": time, "status": status}


def end_trial(
    folder: Path, *, steps: int, n: int = 120, status: str = "FINISHED", rates: dict[str, float] = RATES
) -> None:
    """What a trial leaves when it ends: samples, metrics, the last events, and last of all its result."""
    about, now = files.read_json(folder / "spec.json"), START + steps
    if status == "FINISHED":
        rows = samples(n, about["seed"], rates)
        values = metrics(rows)
        files.write_jsonl(folder / "samples.jsonl", rows)
        files.write_json(folder / "metrics.json", values)
        emit(folder, {"kind": "metrics", "time": now, "step": steps, "values": values})
        emit(folder, {"kind": "artifact", "time": now, "path": "samples.jsonl"})
        checkpoint = str(folder / "train" / "checkpoint_000003")
        result = {
            "variant": about["variant"],
            "fingerprint": about["fingerprint"],
            "metrics": values,
            "checkpoint": checkpoint,
        }
        files.write_json(folder / "result.json", {**result, "node_id": "f00d", "seconds": 90.0})
    emit(folder, status_event(status, now + 1))


def make_trial(
    campaign: Path,
    variant: str,
    *,
    phase: str = "phase1",
    seed: int = 0,
    steps: int = 40,
    status: str = "FINISHED",
    **more: Any,
) -> Path:
    """A whole trial: spec, event log, samples, metrics, result."""
    folder = begin_trial(campaign, variant, phase=phase, seed=seed)
    rows = [step_event(step, START + step, seed) for step in range(1, steps + 1)]
    tags = {"kind": "tags", "time": START, "values": {"node": "f00d", "gpu": "H200"}}
    files.write_jsonl(folder / "events.jsonl", [status_event("RUNNING"), tags, *rows])
    end_trial(folder, steps=steps, status=status, **more)
    return folder


def make_campaign(
    storage: Path, name: str = "demo", variants: Iterable[str] = tuple(VARIANTS), *, phase: str = "phase1", **more: Any
) -> Path:
    """A finished campaign: STORAGE/NAME with its settings, plan, gate and trials; `more` goes to `make_trial`."""
    campaign, names = storage / name, list(variants)
    files.write_json(campaign / "campaign.json", {"phase": phase, "preset": "tiny", "settings": {}})
    files.write_json(campaign / "plan.json", {"phase": phase, "variants": names})
    for variant in names:
        make_trial(campaign, variant, phase=phase, **more)
    decision = {"branch": "pass", "accuracy": 0.72, "low": 0.65, "high": 0.78, "n": 200, "uncertain": True}
    settings = {"passes": 0.7, "attribute": 0.65}
    gate = {"settings": settings, "branch": "pass", "uncertain": True, "decisions": [decision]}
    files.write_json(campaign / "gate.json", gate)
    return campaign
