"""What a task needs of a job if nothing else is asked for: room for its answers, and solved exemplars.

A solution of MATH is several times as long as one of GSM8K, an answer of HotpotQA a few words in a prompt of 1,400
tokens, so one default cannot serve all tasks.
"""

from collections.abc import Mapping
from typing import Any

from ray_bridge.config.registry import registry_of
from ray_bridge.config.task_mapping import TaskMapping

NEEDS = {"max_new_tokens": 256, "num_fewshot": 0}
"""Fields of the spec that a task's class may set as class attributes, with their values if it does not."""

# Few-shot counts are those that the data sets are usually reported with, where prompts stay short.
_BY_KIND = {
    "exact": {"max_new_tokens": 32, "num_fewshot": 5},
    "numeric": {"max_new_tokens": 256, "num_fewshot": 8},
    "letter": {"max_new_tokens": 16, "num_fewshot": 5},
    "letter_likelihood": {"max_new_tokens": 16, "num_fewshot": 5},
    "choice_likelihood": {"max_new_tokens": 32, "num_fewshot": 0},
}


def task_needs(task: str, mapping: TaskMapping | None = None) -> dict[str, int]:
    """Return the values that a task gives to the fields of `NEEDS`: by a mapping's kind, or from its class.

    Args:
        task: a name, or MODULE:CLASS.
        mapping: the job's mapping, for tasks that have one.

    Raises:
        UserError: if the class cannot be imported.
    """
    if mapping is not None:
        return dict(_BY_KIND[mapping.kind])
    found = registry_of("task").load(task)
    return {name: int(getattr(found, name, value)) for name, value in NEEDS.items()}


def need_of(name: str, given: Mapping[str, Any]) -> int:
    """Return a field's value by the task of a spec whose earlier fields are given.

    Raises:
        UserError: if the task's class cannot be imported.
    """
    return task_needs(given["task"], given.get("task_mapping"))[name]
