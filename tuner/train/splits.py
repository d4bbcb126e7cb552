"""Which example is in which split: stratified by class, and moved by nothing but the split seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.core.errors import InputError, UsageError
from tuner.core.streams import derive_seed


def counts_of(class_sizes: np.ndarray, total: int) -> np.ndarray:
    """Share `total` among the classes in proportion to their sizes, by largest remainder (ties: the lower class)."""
    exact = class_sizes * (total / max(1, class_sizes.sum()))
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def take(targets: np.ndarray, total: int, seed: int, spread: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Draw about `total` positions stratified by class; return (the rest, the drawn), both sorted.

    `spread`: every class with two or more examples keeps one on each side, so the total can be off by rare classes.
    """
    labels, inverse, sizes = np.unique(targets, return_inverse=True, return_counts=True)
    counts = counts_of(sizes, total)
    if spread:
        counts = np.clip(counts, np.minimum(1, sizes - 1), np.maximum(sizes - 1, 0))
    generator = np.random.default_rng(seed)
    drawn = [np.empty(0, dtype=np.int64)]
    for label in range(len(labels)):
        members = np.flatnonzero(inverse == label)
        drawn.append(generator.permutation(members)[: counts[label]])
    taken = np.sort(np.concatenate(drawn))
    rest = np.setdiff1d(np.arange(len(targets)), taken, assume_unique=True)
    return rest, taken


@dataclass(frozen=True)
class Cutting:
    """How splits are cut. `whole_strata`: each stratum (an identity) is in one split alone."""

    split_seed: int
    class_names: Sequence[str] | None
    source: str
    whole_strata: bool = False


def split(targets: np.ndarray, fractions: dict[str, float], how: Cutting) -> dict[str, np.ndarray]:
    """Set aside the named splits in order (`test` before `val`), each a fraction of what is left; the rest is `train`.

    `targets`: the stratum of each example.

    Raises:
        InputError: a class with fewer examples than there are splits (named), too few identities.
        UsageError: a fraction that leaves a split without examples.
    """
    if not how.whole_strata:
        _refuse_rare(targets, fractions, how)
    left = np.arange(len(targets))
    result = {}
    for name, fraction in fractions.items():
        seed = derive_seed(how.split_seed, name)
        if how.whole_strata:
            rest, taken = take_whole(targets[left], fraction, seed, how.source)
        else:
            rest, taken = take(targets[left], _share(len(left), name, fraction), seed, spread=True)
        result[name], left = left[taken], left[rest]
    result["train"] = left
    return result


def _share(size: int, name: str, fraction: float) -> int:
    """Return how many of `size` examples a fraction is."""
    total = int(np.floor(size * fraction + 0.5))
    for side, count in ((name, total), ("train", size - total)):
        if count == 0:
            raise UsageError(
                f"data.{name}_fraction: {fraction} of {size} examples leaves none for {side}",
                "Choose a fraction nearer to 0.2.",
            )
    return total


def take_whole(strata: np.ndarray, fraction: float, seed: int, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw a fraction of the identities, at least two; return (the rest, the drawn) positions, both sorted."""
    known = np.unique(strata)
    count = max(2, round(fraction * len(known)))
    if len(known) - count < 2:
        raise InputError(
            f"data.source {source}: {len(known)} identities are too few for splits that share none",
            "Give more identities, or return the splits yourself.",
        )
    drawn = np.isin(strata, np.random.default_rng(seed).permutation(known)[:count])
    return np.flatnonzero(~drawn), np.flatnonzero(drawn)


def _refuse_rare(targets: np.ndarray, fractions: dict[str, float], how: Cutting) -> None:
    needed = len(fractions) + 1
    labels, sizes = np.unique(targets, return_counts=True)
    rare = [(label, size) for label, size in zip(labels, sizes, strict=True) if size < needed]
    if rare and fractions:
        names = [f"{_name(int(label), how.class_names)} has {size}" for label, size in rare[:5]]
        raise InputError(
            f"data.source {how.source}: too few examples of a class to be in "
            f"{', '.join(['train', *reversed(fractions)])}: "
            f"class {', class '.join(names)}{' ...' if len(rare) > 5 else ''} (needed: {needed})",
            'Add examples, merge or drop rare classes; if the target is a quantity, set data.task = "regression".',
        )


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return repr(class_names[label]) if class_names is not None and 0 <= label < len(class_names) else str(label)
