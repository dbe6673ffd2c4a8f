"""What each phase runs and why. A phase is data; a campaign of one's own is a function that returns one.

Example:
    def ladder() -> Phase:
        return Phase(name="ladder", goal="what each fix adds", first=(only("kl"), only("kl", "prompt"), full()))
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from bridge_common.errors import UserError
from ray_bridge import JobSpec
from tune_spaces.design import toggles, variants
from tune_spaces.design.rivals import RIVAL_QUESTIONS, rival_variants
from tune_spaces.design.search import Search
from tune_spaces.design.variants import CONTROLS, Variant, attribution, full
from tune_spaces.gate.decision import Branch

DESIGNS = ("leave-one-out", "add-one-in", "factorial", "compression")
LARGE_TARGET = "meta-llama/Llama-3.1-70B-Instruct"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What runs first, and what each outcome of the gate adds.

    Attributes:
        name: its name on the command line.
        goal: what the phase is for.
        first: variants that always run, in this order.
        branches: variants that each outcome of the gate adds; empty if the phase has no gate.
        controls: variants that run under every decision of the gate; reports keep them apart from the plan's effects.
        contexts: twins of the first variants whose target does not read the prompt; run and kept apart as controls are.
        follow_up: name of the phase that those variants belong to; this one if None.
        needs: names of phases that must have passed before.
        asks: the plan's questions, each as (question, a, b): answered by comparing variant a with b, which may be phase
            1's `full`, or a condition of a's own evaluation, such as `target_alone`. They are one family.
        margin: largest difference of accuracies that counts as none, for verdicts of equivalence; None declares none.
        needs_free_gpus: start only if the GPUs that the phase needs are free, instead of waiting for them.
        search: proposes further variants while the phase runs; None if all are planned.
    """

    name: str
    goal: str
    first: tuple[Variant, ...]
    branches: Mapping[str, tuple[Variant, ...]] = field(default_factory=dict)
    controls: tuple[Variant, ...] = ()
    contexts: tuple[Variant, ...] = ()
    follow_up: str | None = None
    needs: tuple[str, ...] = ()
    asks: tuple[tuple[str, str, str], ...] = ()
    margin: float | None = 0.02
    needs_free_gpus: bool = False
    search: Search | None = None

    def __post_init__(self) -> None:
        if not self.first and self.search is None:
            raise UserError(f"{self.name}: a phase needs at least one variant")
        _refuse_repeats(self.name, [v.name for v in (*self.first, *self.beside)])
        known: dict[str, Variant] = {}
        for variant in (v for chosen in (self.first, *self.branches.values(), self.beside) for v in chosen):
            if known.setdefault(variant.name, variant) != variant:
                raise UserError(f"{self.name}: {variant.name} means two different variants")

    @property
    def gated(self) -> bool:
        """Whether the outcome of the first variants decides what else runs."""
        return bool(self.branches)

    @property
    def beside(self) -> tuple[Variant, ...]:
        """Variants that run under every decision of the gate, outside the family of the plan's effects."""
        return (*self.controls, *self.contexts)

    def variants(self) -> list[Variant]:
        """Return every variant that may run, each once: the first ones, those of the branches, those beside them."""
        return list({v.name: v for chosen in (self.first, self.followers(), self.beside) for v in chosen}.values())

    def followers(self) -> list[Variant]:
        """Return every variant that an outcome of the gate adds, each once, those of the largest branch first."""
        branches = sorted(self.branches.values(), key=len, reverse=True)
        first = {v.name for v in self.first}
        return list({v.name: v for chosen in branches for v in chosen if v.name not in first}.values())

    def each(self, change: Callable[[Variant], Variant]) -> "Phase":
        """Return the phase with every variant replaced by what `change` returns for it."""
        return replace(
            self,
            first=tuple(map(change, self.first)),
            branches={name: tuple(map(change, chosen)) for name, chosen in self.branches.items()},
            controls=tuple(map(change, self.controls)),
            contexts=tuple(map(change, self.contexts)),
        )

    def with_controls(self, base: JobSpec, names: Iterable[str] = CONTROLS) -> "Phase":
        """Return the phase with controls beside its variants.

        Args:
            base: the spec that the phase's variants change.
            names: `constant`, a learned prompt of the same K without a source, and `random_source`, `full` with a
                source of random weights.

        Raises:
            UserError: for another name.
        """
        return replace(self, controls=variants.controls(base, names))

    def with_both_contexts(self) -> "Phase":
        """Return the phase with a twin of each first variant, and control, whose target does not read the prompt."""
        twins = (variants.without_prompt(variant) for variant in (*self.first, *self.controls))
        return replace(self, contexts=tuple(twin for twin in twins if twin is not None))


def _refuse_repeats(phase: str, names: list[str]) -> None:
    if repeated := next((name for name, count in Counter(names).items() if count > 1), None):
        raise UserError(f"{phase}: variants need names of their own; {repeated} comes twice")


def phase1(base: JobSpec) -> Phase:
    """Return phase 1: `full` with a gate at 70 %; below it, phase 1.5 attributes what is missing."""
    v = attribution()
    return Phase(
        name="phase1",
        goal="do all fixes at once pass the gate; below it, attribution of effects (phase 1.5)",
        first=(full(),),
        branches={
            Branch.PASS: (),
            Branch.SOME: (v["B"], v["C"]),
            Branch.ALL: (v["A"], v["B"], v["C"]),
        },
        follow_up="phase1.5",
        asks=(
            ("Does the projection matter?", "full", "C"),
            ("Do the other three fixes matter beyond KL alignment?", "C", "B"),
        ),
    )


def phase2(base: JobSpec) -> Phase:
    """Return phase 2: source and target exchanged, and text anchoring by residual addition and by gated adapters."""
    on = full().changes
    swap = {
        "source": base.target,
        "target": base.source,
        "source_revision": base.target_revision,
        "target_revision": base.source_revision,
    }
    return Phase(
        name="phase2",
        goal="does direction matter, and does text anchoring close the gap",
        first=(
            Variant(name="swap", changes={**on, **swap}, purpose="source and target change places"),
            Variant(
                name="hybrid-residual",
                changes={**on, "injection": "residual"},
                purpose="literal prompt kept, bridge output added to it",
            ),
            Variant(
                name="hybrid-adapter",
                # With gates that start closed hardly any gradient of the answers reaches the bridge: see CHANGELOG.
                changes={**on, "injection": "adapter", "gate_init": 1.0},
                purpose="literal prompt kept, bridge output read by gated adapters",
            ),
        ),
        needs=("phase1",),
        asks=(
            ("Does direction matter?", "swap", "full"),
            ("Does anchoring by residual addition close the gap?", "hybrid-residual", "full"),
            ("Does anchoring by gated adapters close the gap?", "hybrid-adapter", "full"),
        ),
    )


def phase3(base: JobSpec) -> Phase:
    """Return phase 3: compression, other bridges and poolings, other tasks, and a larger target."""
    on = full().changes
    compressed = variants.compressions(base)
    least, *more = (variant.changes["soft_tokens"] for variant in compressed)
    return Phase(
        name="phase3",
        goal="compression, conditioning, other tasks, a larger target",
        first=(
            *compressed,
            Variant(
                name="attention-pooling", changes={**on, "pooling": "attention"}, purpose="pooling with diagnostics"
            ),
            Variant(
                name="dit-xattn",
                changes={**on, "bridge": "dit_xattn"},
                purpose="DiT with cross-attention to the source",
            ),
            Variant(
                name="hotpotqa",
                changes={**on, "task": "hotpotqa"},
                purpose="multi-hop questions, context in the prompt",
            ),
            Variant(name="math", changes={**on, "task": "math"}, purpose="competition problems"),
            Variant(name="target-70b", changes={**on, "target": LARGE_TARGET}, purpose="a 70B target"),
        ),
        needs=("phase1",),
        asks=(
            *((f"Do {k} soft tokens do better than {least}?", f"k{k}", f"k{least}") for k in more),
            ("Does attention pooling help?", "attention-pooling", "full"),
            ("Does cross-attention to the source help?", "dit-xattn", "full"),
            ("Does the bridge help on multi-hop questions?", "hotpotqa", "target_alone"),
            ("Does the bridge help on competition problems?", "math", "target_alone"),
            ("Does the bridge gain more with a larger target?", "target-70b", "full"),
        ),
        needs_free_gpus=True,
    )


def rivals(base: JobSpec) -> Phase:
    """Return the phase that runs the field's rivals step for step beside phase 1's `full`."""
    return Phase(
        name="rivals",
        goal="how the bridge compares with other ways to pass on what the source knows",
        first=rival_variants(),
        needs=("phase1",),
        asks=RIVAL_QUESTIONS,
    )


def ablate(base: JobSpec, designs: Iterable[str] = ("leave-one-out",), among: Iterable[str] | None = None) -> Phase:
    """Return a phase that runs toggles under one or several designs; a variant that two designs share runs once.

    Args:
        base: the spec that the variants change.
        designs: names among `DESIGNS`.
        among: keys or fields of the toggles; all by default.

    Raises:
        UserError: for an unknown design or toggle, or a toggle of a setting that the base does not have or use.
    """
    designs, unused = list(designs), base.unused
    of_base = toggles.applicable(base.task, base.bridge)
    applied = [toggle.key for toggle in of_base if among is not None or toggle.field not in unused]
    keys = applied if among is None else [toggles.find(name).key for name in among]
    if absent := [key for key in keys if key not in applied]:
        raise UserError(
            f"toggle {absent[0]!r} switches {toggles.find(absent[0]).field}, which neither task {base.task} nor bridge "
            f"{base.bridge} has: --set bridge or --task to a class that has it"
        )
    varied = [*(toggles.find(key).field for key in keys), *(["soft_tokens"] if "compression" in designs else [])]
    if void := [name for name in varied if name in unused]:
        raise UserError(f"{void[0]} changes nothing with {unused[void[0]]}: leave it out")
    make: dict[str, Callable[[], list[Variant]]] = {
        "leave-one-out": lambda: variants.leave_one_out(keys),
        "add-one-in": lambda: variants.add_one_in(keys),
        "factorial": lambda: variants.factorial(keys, applied),
        "compression": lambda: variants.compressions(base),
    }
    chosen: list[Variant] = []
    for design in designs:
        if design not in make:
            raise UserError(f"unknown design {design!r}: there are {', '.join(make)}")
        known = [dict(variant.changes) for variant in chosen]
        chosen += [variant for variant in make[design]() if dict(variant.changes) not in known]
    named = "all toggles" if among is None else ", ".join(keys)
    return Phase(name="ablate", goal=f"effects of {named}", first=tuple(chosen))


PHASES: dict[str, Callable[..., Phase]] = {
    "phase1": phase1,
    "phase2": phase2,
    "phase3": phase3,
    "rivals": rivals,
    "ablate": ablate,
}
