"""How commands that run a campaign end on a signal: one line, exit code 1."""

from collections.abc import Callable

FAILED = 1


def or_stopped(run: Callable[[], int]) -> int:
    """Run a campaign and return its exit code, or print in one line by which signal it was stopped and return 1.

    Args:
        run: imports what is heavy itself, so that a signal meanwhile is received, too.
    """
    from tune_spaces.ray_tune.interrupts import interruptible

    with interruptible(ends_process=True) as interrupts:
        try:
            return run()
        except KeyboardInterrupt:
            print(interrupts.line(), flush=True)
            return FAILED
