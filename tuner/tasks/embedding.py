"""Features whose nearness says which examples are of one identity: val and test are query and gallery at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.tasks import scores
from tuner.tasks.base import Array, Rows, Tensor, number_of
from tuner.tasks.classification import Classification, largest_plus_one


@dataclass(frozen=True)
class Embedding:
    """Targets (N,) int: identities; outputs (N, D) features in eval mode.

    Splits that tuner cuts have whole identities: what is measured is how well unseen ones are told apart.
    """

    name: str = "embedding"
    score: str = "map"
    always: tuple[str, ...] = ("map", "rank_1")
    scores: tuple[str, ...] = ("map", "rank_k")
    noun: str = "identity"

    def as_targets(self, values: Any, where: str) -> Array:
        return Classification().as_targets(values, where)

    def width(self, *targets: Array) -> int:
        return largest_plus_one(targets)

    def strata(self, targets: Array) -> Array:
        return targets

    def by_group(self) -> bool:
        return True

    def rows(self, outputs: Any, targets: Tensor, threshold: float = 0.0) -> Rows | None:
        fits = outputs.ndim == 2 and outputs.shape[1] > 1 and len(outputs) == len(targets)
        return (outputs, targets) if fits else None

    def measure(self, names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
        matches = scores.ranked_matches(outputs, targets)
        if not matches:
            return dict.fromkeys(names)
        found: dict[str, float | None] = {}
        for name in names:
            number = number_of(name)
            if name == "map":
                found[name] = float(np.mean(scores.retrieval_map(matches)))
            elif number is not None:
                found[name] = scores.rank_k(matches, int(number))
        return found

    def constant(self, targets: Array) -> Array:
        """Return features drawn at random, which have nothing to do with the identities."""
        return np.random.default_rng(0).standard_normal((len(targets), 16))

    def per_example(self, outputs: Array, targets: Array) -> Array:
        """Return each query's average precision; a query without a match is left out."""
        return np.asarray(scores.retrieval_map(scores.ranked_matches(outputs, targets)))

    def picture(self, outputs: Array, targets: Array) -> dict[str, Any]:
        matches = scores.ranked_matches(outputs, targets)
        most = min(20, min((len(hit) for hit in matches), default=0))
        return {"ranks": [scores.rank_k(matches, k) for k in range(1, most + 1)]}
