"""Where the seconds go between a trial's call and its first training step: they are paid again for every variant."""

import time


class StartupTimer:
    """A clock with named parts.

    Attributes:
        parts: seconds by part, in the order in which they ended.
    """

    def __init__(self, asked: float | None = None) -> None:
        """asked: when the trial was called, `time.time()` of a process that may be on another node; None: now."""
        self.parts: dict[str, float] = {}
        if asked is not None:
            self.parts["launch"] = max(0.0, time.time() - asked)
        self._since = time.monotonic()

    def done(self, part: str) -> None:
        """Whatever happened since the last call was this part."""
        now = time.monotonic()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._since
        self._since = now

    def seconds(self, *, launch: bool = True) -> float:
        """Of all parts; without `launch`, of those in this process alone."""
        return sum(value for part, value in self.parts.items() if launch or part != "launch")

    def metrics(self) -> dict[str, float]:
        """The sum and its parts, as they are recorded."""
        parts = {f"start/{part}": round(value, 3) for part, value in self.parts.items()}
        return {"start/seconds_to_first_step": round(self.seconds(), 3), **parts}
