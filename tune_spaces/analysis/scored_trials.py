"""A campaign's trials as the appendix needs them: configuration, seed, and answers aligned to one order of items."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bridge_common.errors import UserError
from bridge_common.metric_names import COST
from tune_spaces.analysis.item_alignment import align_items
from tune_spaces.analysis.pairwise import Matrix, matrix_of
from tune_spaces.analysis.samples import Samples, load_samples

CONTEXT = ("source", "target", "task", "layout", "soft_position", "bridge", "pooling", "injection", "soft_tokens", "K")
COMPARABLE = ("source", "source_revision", "target", "target_revision", "task")
"""Settings in which two variants have to agree for their accuracies to be compared."""
POSITIONS = {"on": True, "true": True, "1": True, "1.0": True, "off": False, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, kw_only=True)
class ScoredTrial:
    """One run of one variant.

    Attributes:
        variant: name of its variant.
        seed: its seed.
        on: toggles that are on.
        context: settings besides toggles and seed, by name; effects of toggles are estimated among trials that agree
            in them.
        soft_tokens: K, or None if the table has no such column.
        kv_saved: share of the text prompt's KV cache that is saved, or None if it is not known.
        samples: its answers.
        costs: what a question takes, by metric name (`cost/...`); empty if it was not recorded.
    """

    variant: str
    seed: int
    on: frozenset[str]
    context: dict[str, Any]
    soft_tokens: int | None
    kv_saved: float | None
    samples: Samples
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Variant and seed, for messages."""
        return f"{self.variant} (seed {self.seed})"


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials of a table.

    Attributes:
        compared: trials on the reference's items, aligned to one order.
        apart: trials on other items, which cannot be paired with the reference.
        without_samples: names of trials without a sample file, because they did not finish.
        reference: the variant that others are compared with.
    """

    compared: list[ScoredTrial]
    apart: list[ScoredTrial]
    without_samples: list[str]
    reference: str

    def variants(self) -> dict[str, list[ScoredTrial]]:
        """Return the compared trials by variant, the reference first, each variant's by seed."""
        grouped: dict[str, list[ScoredTrial]] = {self.reference: []}
        for trial in self.compared:
            grouped.setdefault(trial.variant, []).append(trial)
        return {name: sorted(trials, key=lambda trial: trial.seed) for name, trials in grouped.items()}

    def clusters(self) -> NDArray[np.int64] | None:
        """Return the number of each item's cluster, (items,), or None if no trial's samples name clusters.

        Raises:
            UserError: if trials name different clusters.
        """
        named = [trial for trial in self.compared if trial.samples.clusters is not None]
        if not named:
            return None
        numbers = [_by_first_item(trial.samples.clusters or ()) for trial in named]
        for trial, own in zip(named, numbers, strict=True):
            if own != numbers[0]:
                raise UserError(
                    f"{trial.name} and {named[0].name} put the same items into different clusters: "
                    f"correct the field cluster in {trial.samples.path} or {named[0].samples.path}"
                )
        return np.array(numbers[0], dtype=np.int64)

    def same_setting(self, a: str, b: str) -> bool:
        """Return whether two variants have source, target and task in common, so that accuracies can be compared."""
        variants = self.variants()
        return comparable(variants[a][0]) == comparable(variants[b][0])

    def on_own_items(self, variant: str) -> "Trials | None":
        """Return the trials of one variant on the items that it ran on, the reference's or others; None without any."""
        own = [trial for trial in self.compared if trial.variant == variant]
        if not own:
            own = [trial for trial in self.apart if trial.variant == variant]
        return _grouped(own, [], variant) if own else None

    def cells(self) -> dict[frozenset[str], NDArray[np.bool_]]:
        """Return correct answers by the set of toggles that are on, (seeds, items), in the reference's context.

        A configuration that ran again under the same seed is not a replicate and counts once.
        """
        reference = self.variants()[self.reference][0]
        runs: dict[frozenset[str], dict[int, Samples]] = {}
        for trial in self.compared:
            if trial.context == reference.context:
                runs.setdefault(trial.on, {}).setdefault(trial.seed, trial.samples)
        return {on: matrix_of([by_seed[seed] for seed in sorted(by_seed)]) for on, by_seed in runs.items()}

    def by_soft_tokens(self, layout: str | None = None) -> dict[int, list[ScoredTrial]]:
        """Return trials by K, among those that differ from the reference in K and seed alone.

        A configuration that ran again under the same seed is not a replicate and counts once.

        Args:
            layout: of the trials, which then may differ from the reference in it, too; the reference's if None.
        """
        reference = self.variants()[self.reference][0]
        free = ("soft_tokens", "K", *(() if layout is None else ("layout", "soft_position")))

        def rest(trial: ScoredTrial) -> dict[str, Any]:
            return {name: value for name, value in trial.context.items() if name not in free}

        trials: dict[int, dict[int, ScoredTrial]] = {}
        for trial in self.compared:
            same = trial.on == reference.on and rest(trial) == rest(reference)
            if trial.soft_tokens is not None and same and layout in (None, trial.context.get("layout", layout)):
                trials.setdefault(trial.soft_tokens, {}).setdefault(trial.seed, trial)
        return {k: list(by_seed.values()) for k, by_seed in sorted(trials.items())}


def comparable(trial: ScoredTrial) -> tuple[Any, ...]:
    """Return source, target and task of a trial: accuracies of those that agree in them have a common scale."""
    return tuple(trial.context.get(name) for name in COMPARABLE)


def _by_first_item(clusters: Sequence[str]) -> list[int]:
    """Return clusters as the number of the first item in each: the same for any names."""
    first: dict[str, int] = {}
    return [first.setdefault(name, number) for number, name in enumerate(clusters)]


def matrix(trials: Sequence[ScoredTrial], condition: str = "bridged") -> Matrix:
    """Return the correct answers of trials, (trials, items)."""
    return matrix_of([trial.samples for trial in trials], condition)


def _is_on(value: Any, column: str, trial: str) -> bool:
    position = POSITIONS.get(str(value).strip().lower())
    if position is None:
        raise UserError(f"{trial}: toggle {column} is {value!r}; it must be on or off")
    return position


def _setting(value: Any) -> Any:
    """Return a setting in a form that can be compared, in which missing values equal one another."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _number(row: dict[str, Any], *names: str) -> float | None:
    for name in names:
        value = row.get(name)
        if value is not None and not pd.isna(value):
            return float(value)
    return None


def read_trials(
    frame: pd.DataFrame,
    toggles: Sequence[str],
    *,
    reference: str = "full",
    context: Sequence[str] = CONTEXT,
    samples_column: str = "samples",
    root: Path | None = None,
) -> Trials:
    """Read the sample files that a tidy table of trials points to.

    Args:
        frame: one row per trial: `variant`, `seed`, a column per toggle, the path of its samples, and any settings.
        toggles: columns that are toggles, with values on/off, true/false or 1/0.
        reference: the variant that others are compared with, or the first one with samples if it has none. If it ran
            on several sets of items, the set that most trials share is compared.
        context: settings in which trials must agree for an effect of toggles; columns that are absent are ignored.
        samples_column: column with the path of `samples.jsonl`; empty if a trial did not finish.
        root: folder to which relative paths refer.

    Raises:
        UserError: a column is missing, a toggle is neither on nor off, or a sample file cannot be read.
    """
    absent = [column for column in ("variant", "seed", samples_column, *toggles) if column not in frame]
    if absent:
        raise UserError(f"the table of trials has no column {', '.join(absent)}: rebuild it from the campaign's folder")
    shared = [column for column in context if column in frame]
    trials, without = [], []
    for record in frame.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        seed = _number(row, "seed")
        name = f"{row['variant']} (seed {seed if seed is None else int(seed)})"
        path = row[samples_column]
        if path is None or pd.isna(path) or not str(path):
            without.append(name)
            continue
        k = _number(row, "K", "soft_tokens")
        trials.append(
            ScoredTrial(
                variant=str(row["variant"]),
                seed=int(seed or 0),
                on=frozenset(toggle for toggle in toggles if _is_on(row[toggle], toggle, name)),
                context={column: _setting(row[column]) for column in shared},
                soft_tokens=None if k is None else int(k),
                kv_saved=_number(row, "kv_saved"),
                samples=load_samples(Path(root or ".") / str(path)),
                costs={n: float(v) for n, v in row.items() if n.startswith(COST) and v is not None and not pd.isna(v)},
            )
        )
    if not trials:
        raise UserError("no trial has samples yet: the appendix needs at least one finished evaluation")
    return _grouped(trials, without, reference)


def trials_of_samples(runs: Mapping[str, Samples]) -> Trials:
    """Return single runs of which only names are known, without toggles or settings; the first is the reference.

    Raises:
        UserError: they are not on the same items.
    """
    trials = [
        ScoredTrial(variant=name, seed=0, on=frozenset(), context={}, soft_tokens=None, kv_saved=None, samples=samples)
        for name, samples in align_items(runs).items()
    ]
    return Trials(compared=trials, apart=[], without_samples=[], reference=next(iter(runs)))


def _named(trials: list[ScoredTrial]) -> list[ScoredTrial]:
    """Rename variants so that each name has one configuration: a second one of the same name is numbered."""
    known: dict[str, list[tuple[frozenset[str], dict[str, Any]]]] = {}
    named = []
    for trial in trials:
        configurations = known.setdefault(trial.variant, [])
        own = (trial.on, trial.context)
        if own not in configurations:
            configurations.append(own)
        number = configurations.index(own)
        named.append(trial if number == 0 else replace(trial, variant=f"{trial.variant} #{number + 1}"))
    return named


def _items(samples: Samples) -> frozenset[tuple[str, ...]]:
    return frozenset(zip(*samples.keys.values(), samples.gold, strict=True))


def _grouped(trials: list[ScoredTrial], without: list[str], reference: str) -> Trials:
    if reference not in {trial.variant for trial in trials}:
        reference = trials[0].variant
    sets = [_items(trial.samples) for trial in trials]
    shared = Counter(sets)  # by hash: comparing each set with every other took three quarters of an appendix
    own = [items for items, trial in zip(sets, trials, strict=True) if trial.variant == reference]
    chosen = max(own, key=shared.__getitem__)
    compared = _named([trial for items, trial in zip(sets, trials, strict=True) if items == chosen])
    apart = [trial for items, trial in zip(sets, trials, strict=True) if items != chosen]
    first = next(trial for trial in compared if trial.variant == reference)
    aligned = align_items({str(i): trial.samples for i, trial in enumerate([first, *compared])})
    return Trials(
        compared=[replace(trial, samples=aligned[str(i)]) for i, trial in enumerate(compared, 1)],
        apart=apart,
        without_samples=without,
        reference=reference,
    )
