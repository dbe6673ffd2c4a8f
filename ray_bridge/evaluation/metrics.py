"""Compute the reported metrics from scored examples, accuracies with their intervals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bridge_common.intervals import wilson
from bridge_common.metric_names import GAIN, INFORMATION, N, accuracy, accuracy_high, accuracy_low


def metrics_of(
    samples: Sequence[Mapping[str, Any]], conditions: Sequence[str], groups: Sequence[str]
) -> dict[str, float]:
    """Compute the metrics of scored examples, by the names under which they are recorded.

    Args:
        samples: rows of samples.jsonl.
        conditions: conditions that the rows hold, e.g. "bridged".
        groups: fields of the rows by whose values accuracy is reported as well, e.g. "words".

    Returns:
        For every condition C: accuracy/C with its 95 % Wilson bounds accuracy_low/C and accuracy_high/C; correct/C
        (a count); the shares flexible/C, valid/C and truncated/C (answers that reached the limit of new tokens);
        tokens/C (mean); f1/C (mean) if the task has one. For every value V of a group: accuracy/C/V and n/V. Further n,
        and if both sides are there, gain (bridged - target_alone) and information (bridged - shuffled_soft).
    """
    n = len(samples)
    metrics: dict[str, float] = {N: n}
    for condition in conditions:
        correct = sum(bool(row[f"{condition}_correct"]) for row in samples)
        low, high = wilson(correct, n)
        metrics[accuracy(condition)] = correct / n
        metrics[accuracy_low(condition)] = low
        metrics[accuracy_high(condition)] = high
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
                metrics[f"{accuracy(condition)}/{value}"] = sum(outcomes) / len(outcomes)
                metrics[f"n/{value}"] = len(outcomes)
    for name, baseline in ((GAIN, "target_alone"), (INFORMATION, "shuffled_soft")):
        if {"bridged", baseline} <= set(conditions):
            difference = metrics["correct/bridged"] - metrics[f"correct/{baseline}"]
            metrics[name] = difference / n  # 0.205, where a subtraction of shares gives 0.20499999999999996
    return metrics
