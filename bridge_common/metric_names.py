"""Names under which a job records its metrics, and the conditions that it evaluates.

Metrics are the numbers of an evaluation, such as `accuracy/bridged`. Series are training curves, such as `loss/total`,
with one value per step.
"""

from collections.abc import Iterable

BASELINES = ("target_alone", "source_alone", "text_bridge")
CONTROLS = ("shuffled_soft", "random_soft")
CONDITIONS = ("bridged", *BASELINES, *CONTROLS)
BUDGETED = ("question_cut", "source_summary", "text_bridge")
"""Conditions that can be measured at a number of tokens of text, beside K soft tokens."""
TRANSLATED = ("bridged", "shuffled_soft")  # the source reads a question, and the bridge makes soft tokens of it

N = "n"  # number of evaluated items
GAIN = "gain"
INFORMATION = "information"
SECONDS = "seconds"
GPU_HOURS = "gpu_hours"

COST = "cost/"
BRIDGE_PARAMETERS = f"{COST}bridge_parameters"
BRIDGE_BYTES = f"{COST}bridge_bytes"  # of the file of weights
SECONDS_A_QUESTION = "seconds"  # `cost/seconds/CONDITION`, which is timed, unlike all other costs

LOSS = "loss/"
SERIES = (LOSS, "grad_norm", "lr", "tokens_per_second", "seconds_per_step")  # what their names start with


def accuracy(condition: str, group: str | None = None) -> str:
    """Return the name of a condition's accuracy, over all items or over one group of them."""
    return f"accuracy/{condition}" + (f"/{group}" if group else "")


def accuracy_low(condition: str) -> str:
    """Return the name of the lower 95 % Wilson bound of a condition's accuracy."""
    return f"accuracy_low/{condition}"


def accuracy_high(condition: str) -> str:
    """Return the name of the upper 95 % Wilson bound of a condition's accuracy."""
    return f"accuracy_high/{condition}"


def at_budget(condition: str, tokens: int) -> str:
    """Return the name of one of `BUDGETED` at a number of tokens, such as `text_bridge_64`."""
    return f"{condition}_{tokens}"


def budgeted(budgets: Iterable[int]) -> tuple[str, ...]:
    """Return the names of all of `BUDGETED` at some numbers of tokens, by number."""
    return tuple(at_budget(condition, tokens) for tokens in budgets for condition in BUDGETED)


def budget_of(name: str) -> tuple[str, int] | None:
    """Return the condition and the number of tokens that a name of `at_budget` stands for; None for other names."""
    condition, _, tokens = name.rpartition("_")
    return (condition, int(tokens)) if condition in BUDGETED and tokens.isdecimal() else None


def cost(quantity: str, condition: str) -> str:
    """Return the name of what a question takes under a condition, such as `cost/flops/bridged`."""
    return f"{COST}{quantity}/{condition}"


def is_series(name: str) -> bool:
    """Return whether a metric is a training curve, for which a resumed job may report a step a second time."""
    return name.startswith(SERIES)
