"""Which configurations a search tries, generation by generation: known beforehand, or learnt from what came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.core.result import Record
from tuner.recipe.space import Space
from tuner.search import tpe
from tuner.search.samplers import design

LEARNING = ("tpe",)


def at_once(sampler: str, count: int, size: int, kept: int = 0) -> int:
    """Return how many of `count` configurations are asked for at once; the first generation holds all that are kept."""
    return max(size, kept) if sampler in LEARNING else max(count, 1)


@dataclass(frozen=True)
class Source:
    """Gives the configurations of a search: `kept` first, then the sampler's, all different.

    `seed` is of (run, stage); `base`: the recipe's own values, for conditions; `prior`: what shorter trials of an
    earlier stage taught. A sampler that does not learn gives all configurations as one generation.
    """

    space: Space
    sampler: str
    seed: int
    count: int
    base: Mapping[str, Any]
    kept: Sequence[Mapping[str, Any]] = ()
    size: int = 8
    prior: Sequence[tpe.Told] = ()

    @property
    def learns(self) -> bool:
        return self.sampler in LEARNING

    @property
    def generation(self) -> int:
        return at_once(self.sampler, self.count, self.size, len(self.kept))

    def configure(self, index: int, numbers: range, before: Sequence[Record]) -> list[dict[str, Any]]:
        """Return the configurations of generation `index`, in the order of their numbers; see `halving.next_items`."""
        if index == 0:
            kept = [dict(params) for params in self.kept[: self.count]]
            sampler = "sobol" if self.learns else self.sampler
            wanted = (self.count if not self.learns else len(numbers)) - len(kept)
            return kept + design(self.space, sampler, self.seed, max(wanted, 0), self.base, taken=kept)
        taken = [dict(record.params) for record in before]
        known = [*self.prior, *tpe.told(before)]
        return tpe.ask(self.space, self.seed, index, len(numbers), self.base, known, taken)
