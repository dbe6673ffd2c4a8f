"""Names under which a job's numbers are recorded: conditions, metrics and series."""

# Metrics.
N = "n"
GAIN = "gain"
INFORMATION = "information"
SECONDS = "seconds"
GPU_HOURS = "gpu_hours"
LOSS = "loss/"
SERIES = (LOSS, "grad_norm", "lr", "tokens_per_second", "seconds_per_step")

BASELINES = ("target_alone", "source_alone", "text_bridge")
CONTROLS = ("shuffled_soft", "random_soft")
CONDITIONS = ("bridged", *BASELINES, *CONTROLS)


def accuracy(condition: str, group: str | None = None) -> str:
    """Name of a condition's accuracy, over all items or over one group of them."""
    return f"accuracy/{condition}" + (f"/{group}" if group else "")


def accuracy_low(condition: str) -> str:
    """Name of the lower 95 % Wilson bound of a condition's accuracy."""
    return f"accuracy_low/{condition}"


def accuracy_high(condition: str) -> str:
    """Name of the upper 95 % Wilson bound of a condition's accuracy."""
    return f"accuracy_high/{condition}"


def is_series(name: str) -> bool:
    """Whether a metric is a training curve: one value a step, so that a step done again after a resume is no news."""
    return name.startswith(SERIES)
