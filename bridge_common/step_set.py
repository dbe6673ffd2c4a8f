"""A set of step numbers that stays small, for processes that follow training curves of millions of steps."""

_PAGE = 256  # steps whose bits share one number: half a byte a step in steps without gaps


class StepSet:
    """Step numbers as bits, by page: far smaller than a `set`, and as exact."""

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def add(self, step: int) -> bool:
        """Add a step and return whether it is new."""
        page, bit = divmod(step, _PAGE)
        known = self._pages.get(page, 0)
        if known >> bit & 1:
            return False
        self._pages[page] = known | 1 << bit
        return True
