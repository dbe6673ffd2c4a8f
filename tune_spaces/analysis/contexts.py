"""The two settings of the field side by side: the target reads the prompt besides the soft tokens, or does not.

With the prompt soft tokens may add to what the target reads; without it they must state the problem. In both the gain
is over the target that reads the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune_spaces.analysis.scored_trials import ScoredTrial, Trials

READS_PROMPT, SOFT_ONLY = "reads_prompt", "soft_only"
CONTEXTS = {READS_PROMPT: "soft_plus_text", SOFT_ONLY: "soft_only"}
"""Both contexts, with the value of the field `layout` that each stands for."""
_NOT_COMPARED = ("layout", "soft_position")  # without a prompt there is one position only


@dataclass(frozen=True, kw_only=True)
class InBothContexts:
    """Two variants that differ in nothing but whether the target reads the prompt.

    Attributes:
        reads_prompt: name of the one whose target reads it.
        soft_only: name of the other.
    """

    reads_prompt: str
    soft_only: str

    def names(self) -> dict[str, str]:
        """Return the variants' names by context."""
        return {READS_PROMPT: self.reads_prompt, SOFT_ONLY: self.soft_only}


def in_both_contexts(trials: "Trials") -> list[InBothContexts]:
    """Return the variants that ran in both contexts with all else equal, in the order of the variants."""
    groups: list[tuple[Any, dict[str, str]]] = []
    for name, runs in trials.variants().items():
        context = next((name for name, layout in CONTEXTS.items() if layout == runs[0].context.get("layout")), None)
        if context is None:
            continue
        rest = _rest(runs)
        group = next((names for key, names in groups if key == rest), None)
        if group is None:
            group = {}
            groups.append((rest, group))
        group.setdefault(context, name)
    return [InBothContexts(**names) for _, names in groups if len(names) == len(CONTEXTS)]


def _rest(runs: "Sequence[ScoredTrial]") -> tuple[frozenset[str], Mapping[str, Any]]:
    settings = {name: value for name, value in runs[0].context.items() if name not in _NOT_COMPARED}
    return runs[0].on, settings
