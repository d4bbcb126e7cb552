"""Which example is in which split: stratified by class, and moved by nothing but the split seed."""

from __future__ import annotations

from collections.abc import Sequence

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


def split(
    targets: np.ndarray, fractions: dict[str, float], split_seed: int, class_names: Sequence[str] | None, source: str
) -> dict[str, np.ndarray]:
    """Set aside the named splits in order (`test` before `val`), each a fraction of what is left; the rest is `train`.

    Raises:
        InputError: a class with fewer examples than there are splits (named).
        UsageError: a fraction that leaves a split without examples.
    """
    needed = len(fractions) + 1
    labels, sizes = np.unique(targets, return_counts=True)
    rare = [(label, size) for label, size in zip(labels, sizes, strict=True) if size < needed]
    if rare and fractions:
        names = [f"{_name(int(label), class_names)} has {size}" for label, size in rare[:5]]
        raise InputError(
            f"data.source {source}: too few examples of a class to be in {', '.join(['train', *reversed(fractions)])}: "
            f"class {', class '.join(names)}{' ...' if len(rare) > 5 else ''} (needed: {needed})",
            "Add examples, merge or drop rare classes; if the target is a quantity, tuner cannot fit it.",
        )
    left = np.arange(len(targets))
    result = {}
    for name, fraction in fractions.items():
        total = int(np.floor(len(left) * fraction + 0.5))
        for side, size in ((name, total), ("train", len(left) - total)):
            if size == 0:
                raise UsageError(
                    f"data.{name}_fraction: {fraction} of {len(left)} examples leaves none for {side}",
                    "Choose a fraction nearer to 0.2.",
                )
        rest, taken = take(targets[left], total, derive_seed(split_seed, name), spread=True)
        result[name], left = left[taken], left[rest]
    result["train"] = left
    return result


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return repr(class_names[label]) if class_names is not None and 0 <= label < len(class_names) else str(label)
