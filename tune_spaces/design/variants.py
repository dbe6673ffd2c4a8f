"""Variants as data: a name, the fields of the spec that it changes, and why it is run; designs return lists of them.

All variants of a campaign share every other setting, so a difference between two of them is due to their changes,
within the noise that replicates measure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec, random_twin
from tune_spaces.analysis.contexts import CONTEXTS, SOFT_ONLY
from tune_spaces.design import toggles

COMPRESSIONS = (64, 128, 256, 512)
EMBEDDED_COMPRESSIONS = (4, 8, 16, 32, 64)
"""K of the embedded pair, whose prompts have 30 tokens."""
CONSTANT, RANDOM_SOURCE = "constant", "random_source"
CONTROLS = (CONSTANT, RANDOM_SOURCE)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration of a campaign.

    Attributes:
        name: short and unique in its campaign; part of folder names.
        changes: fields of the base spec that the variant sets, with their values.
        purpose: what running it tells.
        replicate: which seeds it runs under: 0 for the campaign's own, n for the n-th block of as many after them.
        replicate_of: name of the variant that it repeats, or None.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    purpose: str = ""
    replicate: int = 0
    replicate_of: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", dict(self.changes))

    def seeds(self, block: Sequence[int]) -> list[int]:
        """Return the seeds that the variant runs under: the campaign's, or for a replicate the next ones after them."""
        span = max(block) - min(block) + 1
        return [seed + self.replicate * span for seed in block]

    def spec(self, base: JobSpec, seed: int, held: Mapping[str, Any] = MappingProxyType({})) -> JobSpec:
        """Return the variant's spec under a seed, without toggles of settings that its task and bridge do not have.

        Args:
            base: the campaign's base spec.
            seed: seed of weights, order of the data and training noise.
            held: fields, with their values, that no variant changes: they take precedence over `changes`.
        """
        changes = {**self.changes, **held, "seed": seed}
        applied = toggles.applicable(changes.get("task", base.task), changes.get("bridge", base.bridge))
        absent = {t.field for t in toggles.all_toggles()} - {t.field for t in applied}
        return base.replace(**{name: value for name, value in changes.items() if name not in absent})


def full() -> Variant:
    """Return the variant with all toggles on."""
    return Variant(
        name="full", changes=toggles.settings(t.key for t in toggles.all_toggles()), purpose="all toggles on"
    )


def constant() -> Variant:
    """Return the control without a source: a learned prompt of the same K, trained step for step like `full`."""
    changes = {**full().changes, "bridge": "constant", "geometry_projection": False}
    return Variant(name=CONSTANT, changes=changes, purpose="control: a learned prompt of the same K without a source")


def random_source(base: JobSpec) -> Variant:
    """Return the control whose source has random weights: what its architecture and the question's tokens give."""
    changes = {**full().changes, "source": random_twin(base.source)}
    return Variant(name=RANDOM_SOURCE, changes=changes, purpose="control: full with a source of random weights")


def controls(base: JobSpec, names: Iterable[str] = CONTROLS) -> tuple[Variant, ...]:
    """Return the named controls of a base spec.

    Raises:
        UserError: for a name that is not in `CONTROLS`.
    """
    made = {CONSTANT: constant(), RANDOM_SOURCE: random_source(base)}
    chosen = list(dict.fromkeys(names))
    if unknown := [name for name in chosen if name not in made]:
        raise UserError(f"unknown control {unknown[0]!r}: there are {', '.join(CONTROLS)}")
    return tuple(made[name] for name in chosen)


def without_prompt(variant: Variant) -> Variant | None:
    """Return a variant's twin whose target does not read the prompt, or None if its injection needs the prompt's text.

    It is the other setting of the field: there soft tokens must say everything.
    """
    if variant.changes.get("injection", "prepend") != "prepend":
        return None
    changes = {**variant.changes, "layout": CONTEXTS[SOFT_ONLY], "soft_position": "first"}
    return replace(
        variant,
        name=f"{variant.name}-{SOFT_ONLY}",
        changes=changes,
        purpose=f"{variant.name}, but the target does not read the prompt",
        replicate_of=None if variant.replicate_of is None else f"{variant.replicate_of}-{SOFT_ONLY}",
    )


def only(*keys: str, name: str | None = None, purpose: str = "") -> Variant:
    """Return a variant with the named toggles on and all others off."""
    return Variant(
        name=name or "+".join(keys) or "none",
        changes=toggles.settings(keys),
        purpose=purpose or (f"only {', '.join(keys)}" if keys else "all toggles off"),
    )


def replicate(of: Variant, number: int, name: str | None = None) -> Variant:
    """Return a variant once more, under the next block of seeds: what differs between the two is noise."""
    return replace(
        of,
        name=name or f"{of.name}-r{number}",
        purpose=f"replicate of {of.name} under the next seed: the noise floor",
        replicate=of.replicate + number,
        replicate_of=of.name,
    )


def attribution() -> dict[str, Variant]:
    """Return A, B and C of phase 1.5 by name. A and B have the same toggles by design, so A is B's replicate."""
    b = only("kl", name="B", purpose="KL alignment alone")
    c = only("kl", "prompt", "decode", name="C", purpose="everything but the projection")
    return {"A": replicate(b, 1, name="A"), "B": b, "C": c}


def _keys(among: Iterable[str] | None) -> list[str]:
    return [t.key for t in toggles.all_toggles()] if among is None else [toggles.find(name).key for name in among]


def leave_one_out(among: Iterable[str] | None = None) -> list[Variant]:
    """Return full, and full without each toggle: the effect of each while all others are on."""
    everything = [t.key for t in toggles.all_toggles()]
    return [full()] + [
        only(*(k for k in everything if k != key), name=f"no-{key}", purpose=f"all but {key}") for key in _keys(among)
    ]


def add_one_in(among: Iterable[str] | None = None) -> list[Variant]:
    """Return the variant with all toggles off, and each toggle alone: the effect of each on its own."""
    return [only()] + [only(key, name=f"only-{key}") for key in _keys(among)]


def factorial(among: Iterable[str] | None = None, everything: Iterable[str] | None = None) -> list[Variant]:
    """Return all 2^k combinations of toggles, from which main effects and interactions follow.

    Args:
        among: the toggles that are combined, all others off; by default all.
        everything: the toggles that are on in the combination named `full`; by default all.
    """
    keys, everything = _keys(among), _keys(everything)
    combinations = [[k for k, on in zip(keys, bits, strict=True) if on] for bits in product((1, 0), repeat=len(keys))]
    return [only(*on, name="full" if on == everything else None) for on in combinations]


def compression(sizes: Iterable[int] = COMPRESSIONS, *, texts: Sequence[int] = ()) -> list[Variant]:
    """Return full with K soft tokens for each K in `sizes`.

    Args:
        sizes: every K.
        texts: numbers of tokens at which each trial also measures text (`text_budgets`). Those answers depend on no
            bridge, so trials on a node share them, and one trial that measures all of them is enough.
    """
    changes = {**full().changes, **({"text_budgets": list(texts)} if texts else {})}
    return [Variant(name=f"k{k}", changes={**changes, "soft_tokens": k}, purpose=f"{k} soft tokens") for k in sizes]


def compressions(base: JobSpec) -> list[Variant]:
    """Return the variants of compression that suit a base's target, each measured beside text of every K tokens."""
    sizes = EMBEDDED_COMPRESSIONS if base.target.startswith("embedded:") else COMPRESSIONS
    return compression(sizes, texts=sizes)


def replicates(of: Variant, count: int) -> list[Variant]:
    """Return a variant and `count` - 1 replicates of it under further seeds."""
    return [of] + [replicate(of, number) for number in range(1, count)]
