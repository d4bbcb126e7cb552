"""Which value of the recipe's own configuration no good trial shares: what a search has cured, and hides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuner.core.result import Record
from tuner.recipe.space import RATE
from tuner.search import scores

NEAR = 0.05  # accuracy below the best that still counts as good


def left_behind(trials: Sequence[Record]) -> dict[str, Any]:
    """Return the val accuracy of the recipe's own configuration, the first, and its values that no good trial shares.

    `left_behind`: key -> {own, best}, of the searched keys but the rate, which lr-sweep has set already. A number
    counts as shared where good trials lie on both sides of it.
    """
    own = next((record for record in trials if record.item.number == 0), None)
    ranked = [record for record in scores.scored(trials) if scores.val_accuracy(record) is not None]
    if own is None or not ranked:
        return {"own_accuracy": None, "left_behind": {}}
    best = ranked[0]
    least = (scores.val_accuracy(best) or 0.0) - NEAR
    good = [record.params for record in ranked if (scores.val_accuracy(record) or 0.0) >= least]
    found = {
        key: {"own": own.params.get(key), "best": best.params[key]}
        for key in best.params
        if key != RATE and key in own.params and not _shared(own.params[key], [params.get(key) for params in good])
    }
    return {"own_accuracy": scores.val_accuracy(own), "left_behind": found}


def _shared(own: Any, good: Sequence[Any]) -> bool:
    if own in good:
        return True
    numbers = [value for value in good if isinstance(value, (int, float))]
    if not isinstance(own, (int, float)) or not numbers:
        return False
    return min(numbers) <= own <= max(numbers)
