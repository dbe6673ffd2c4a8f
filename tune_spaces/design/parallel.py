"""How many trials may run at once, as a request says it."""

from bridge_common.errors import UserError
from tune_spaces.design.plan import MOST_TRIALS

AUTO = "auto"
"""As many as the cluster holds; what follows a gate runs one by one, on the node of the first trial."""

Parallel = int | str
"""A number of trials from 1, or `auto`."""


def parse_parallel(value: Parallel) -> Parallel:
    """Return a number of trials, or `auto`.

    Raises:
        UserError: for anything else.
    """
    if value == AUTO:
        return AUTO
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_TRIALS:
        raise UserError(f"parallel {value}: use auto, or a number of trials from 1 to {MOST_TRIALS}")
    return number
