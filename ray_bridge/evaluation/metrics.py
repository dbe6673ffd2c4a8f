"""From scored examples to the numbers that are reported: always with their interval."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bridge_common.intervals import wilson


def metrics_of(
    samples: Sequence[Mapping[str, Any]], conditions: Sequence[str], groups: Sequence[str]
) -> dict[str, float]:
    """Flat metrics of a set of samples.

    Args:
        samples: rows of samples.jsonl.
        conditions: conditions that the rows hold, e.g. "bridged".
        groups: fields by whose value accuracy is reported separately, e.g. "words".

    Returns:
        accuracy/C with Wilson bounds accuracy_low/C and accuracy_high/C, correct/C, flexible/C, valid/C, tokens/C,
        truncated/C (share of answers that hit the limit of new tokens), accuracy/C/VALUE and n/VALUE for each value of
        each group, n; and gain (bridged − target_alone) and
        information (bridged − shuffled_soft) where both sides are there.
    """
    n = len(samples)
    metrics: dict[str, float] = {"n": n}
    for condition in conditions:
        correct = sum(bool(row[f"{condition}_correct"]) for row in samples)
        low, high = wilson(correct, n)
        metrics[f"accuracy/{condition}"] = correct / n
        metrics[f"accuracy_low/{condition}"] = low
        metrics[f"accuracy_high/{condition}"] = high
        metrics[f"correct/{condition}"] = correct
        metrics[f"flexible/{condition}"] = sum(bool(row[f"{condition}_flexible"]) for row in samples) / n
        metrics[f"valid/{condition}"] = sum(bool(row[f"{condition}_valid"]) for row in samples) / n
        metrics[f"tokens/{condition}"] = sum(row[f"{condition}_tokens"] for row in samples) / n
        metrics[f"truncated/{condition}"] = sum(bool(row.get(f"{condition}_truncated")) for row in samples) / n
        if samples and f"{condition}_f1" in samples[0]:
            metrics[f"f1/{condition}"] = sum(row[f"{condition}_f1"] for row in samples) / n
        for group in groups:
            parts: dict[str, list[bool]] = defaultdict(list)
            for row in samples:
                parts[row[group]].append(bool(row[f"{condition}_correct"]))
            for value, outcomes in sorted(parts.items()):
                metrics[f"accuracy/{condition}/{value}"] = sum(outcomes) / len(outcomes)
                metrics[f"n/{value}"] = len(outcomes)
    for name, baseline in (("gain", "target_alone"), ("information", "shuffled_soft")):
        if {"bridged", baseline} <= set(conditions):
            metrics[name] = metrics["accuracy/bridged"] - metrics[f"accuracy/{baseline}"]
    return metrics
