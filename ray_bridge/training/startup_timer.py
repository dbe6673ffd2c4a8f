"""Time each stage of start-up, up to the first training step. Every variant of a campaign pays it again."""

import time
from collections.abc import Callable


class StartupTimer:
    """A clock that attributes the time since its last call to a named stage.

    Args:
        called_at: when the trial was called, by `time.time()` of a process that may be on another node; the time since
            then is the stage `launch`. None if there was no launch.
        on_stage: called whenever a stage has ended.

    Attributes:
        stages: seconds by stage, in the order in which they ended.
    """

    def __init__(self, called_at: float | None = None, on_stage: Callable[[], None] = lambda: None) -> None:
        self.stages: dict[str, float] = {}
        if called_at is not None:
            self.stages["launch"] = max(0.0, time.time() - called_at)
        self._since, self._on_stage = time.monotonic(), on_stage

    def done(self, stage: str) -> None:
        """Add the time since the last call, or since the start, to a stage."""
        now = time.monotonic()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._since
        self._since = now
        self._on_stage()

    def seconds(self, *, launch: bool = True) -> float:
        """Return the sum of all stages, or without `launch` of those in this process alone."""
        return sum(value for stage, value in self.stages.items() if launch or stage != "launch")

    def metrics(self) -> dict[str, float]:
        """Return the sum and each stage under the names by which they are recorded."""
        stages = {f"start/{stage}": round(value, 3) for stage, value in self.stages.items()}
        return {"start/seconds_to_first_step": round(self.seconds(), 3), **stages}
