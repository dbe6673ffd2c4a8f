"""Variants as data: a name, the fields it changes, and why it is run. Designs are functions that return lists of them.

All variants of a campaign share every other setting, so a difference between two of them is the difference of their
changes, within the noise that replicates measure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Any

from ray_bridge import JobSpec, settings_of
from tune_spaces.design import toggles

COMPRESSIONS = (64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration of a campaign.

    Attributes:
        name: short and unique in its campaign; part of folder names.
        changes: fields of the base spec that it sets.
        purpose: what running it tells.
        replicate: how many blocks of seeds after the campaign's own it runs under; 0 is the campaign's own.
        replicate_of: the variant that it repeats, if any.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    purpose: str = ""
    replicate: int = 0
    replicate_of: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", dict(self.changes))

    def seeds(self, block: Sequence[int]) -> list[int]:
        """The seeds it runs under: the block itself, or for a replicate the next ones after it."""
        span = max(block) - min(block) + 1
        return [seed + self.replicate * span for seed in block]

    def spec(self, base: JobSpec, seed: int, held: Mapping[str, Any] = MappingProxyType({})) -> JobSpec:
        """Its spec under a seed.

        Args:
            base: the campaign's base.
            seed: seed of weights, order and training noise.
            held: fields that the caller fixed for all variants; they win over the variant's changes.
        """
        changes = {**self.changes, **held, "seed": seed}
        switched = {t.field for t in toggles.all_toggles() if t.field.startswith("extra.")}
        if switched and changes.keys() & {"task", "bridge"}:  # the other class may lack what a toggle switches
            known = settings_of(changes.get("task", base.task), changes.get("bridge", base.bridge))
            unknown = switched - {f"extra.{name}" for name in known}
            changes = {name: value for name, value in changes.items() if name not in unknown}
        return base.replace(**changes)


def full() -> Variant:
    """All toggles on."""
    return Variant(
        name="full", changes=toggles.settings(t.key for t in toggles.all_toggles()), purpose="all toggles on"
    )


def only(*keys: str, name: str | None = None, purpose: str = "") -> Variant:
    """The named toggles on, all others off."""
    return Variant(
        name=name or "+".join(keys) or "none",
        changes=toggles.settings(keys),
        purpose=purpose or (f"only {', '.join(keys)}" if keys else "all toggles off"),
    )


def replicate(of: Variant, number: int, name: str | None = None) -> Variant:
    """A variant once more under the next block of seeds: what differs between the two is noise."""
    return replace(
        of,
        name=name or f"{of.name}-r{number}",
        purpose=f"replicate of {of.name} under the next seed: the noise floor",
        replicate=of.replicate + number,
        replicate_of=of.name,
    )


def attribution() -> dict[str, Variant]:
    """A, B and C of phase 1.5. The plan gives A and B the same toggles; A is run as B's replicate."""
    b = only("kl", name="B", purpose="KL alignment alone")
    c = only("kl", "prompt", "decode", name="C", purpose="everything but the projection")
    return {"A": replicate(b, 1, name="A"), "B": b, "C": c}


def _keys(among: Iterable[str] | None) -> list[str]:
    return [t.key for t in toggles.all_toggles()] if among is None else [toggles.find(name).key for name in among]


def leave_one_out(among: Iterable[str] | None = None) -> list[Variant]:
    """Full, and full without each toggle: what each is worth when all others are there."""
    everything = [t.key for t in toggles.all_toggles()]
    return [full()] + [
        only(*(k for k in everything if k != key), name=f"no-{key}", purpose=f"all but {key}") for key in _keys(among)
    ]


def add_one_in(among: Iterable[str] | None = None) -> list[Variant]:
    """Nothing, and each toggle alone: what each is worth on its own."""
    return [only()] + [only(key, name=f"only-{key}") for key in _keys(among)]


def factorial(among: Iterable[str] | None = None) -> list[Variant]:
    """All 2^k combinations of the named toggles, others off; from these main effects and interactions follow."""
    keys, everything = _keys(among), _keys(None)
    combinations = [[k for k, on in zip(keys, bits, strict=True) if on] for bits in product((1, 0), repeat=len(keys))]
    return [only(*on, name="full" if on == everything else None) for on in combinations]


def compression(sizes: Iterable[int] = COMPRESSIONS) -> list[Variant]:
    """Full with K soft tokens for each K."""
    return [
        Variant(name=f"k{k}", changes={**full().changes, "soft_tokens": k}, purpose=f"{k} soft tokens") for k in sizes
    ]


def replicates(of: Variant, count: int) -> list[Variant]:
    """A variant and `count` - 1 replicates of it over further seeds."""
    return [of] + [replicate(of, number) for number in range(1, count)]
