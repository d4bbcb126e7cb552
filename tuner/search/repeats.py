"""Which finalist is trained with which new seed: round by round, as far as that can change the choice.

In the first round all finalists get two new seeds: fewer show only differences that nobody doubts, and machines with
room for all of them would wait for nothing. Before each round after it, of one seed, a finalist is left out that is
beaten already: by the paired test on the val examples and by the means over the seeds, each at a level that is shared
out among all the looks, so that looking again and again finds no difference that is not there. The last one that is
left gets the rest of its seeds at once: with so few, each makes its interval clearly narrower.

Source: Pocock 1977 (repeated looks at accumulating data); Bonferroni's share per look, which is on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner.core.result import Record
from tuner.core.statistics import SIGNIFICANT, pooled_variance
from tuner.search import scores
from tuner.search.finalists import Finalist, against, best_first, finalist_of

FIRST = 2  # new seeds of every finalist in the first round


def lacking(trials: Sequence[Record], chosen: Sequence[Record], first_seed: int, seeds: int) -> list[tuple[int, int]]:
    """Return (place among the finalists, seed) of what the round that has begun still lacks, or the next one whole.

    `trials`: one record per trial, of all seeds. `chosen`: the finalists' first runs, the best first. Empty: what is
    known is enough.
    """
    going_on, seed, end = list(range(len(chosen))), first_seed + 1, first_seed + seeds
    while going_on and seed < end:
        upto = end if len(going_on) == 1 else min(end, max(seed + 1, first_seed + 1 + FIRST))
        there = [record for record in trials if record.item.spec.seed < upto]
        asked = [(place, each) for each in range(seed, upto) for place in going_on]
        if left := [(place, each) for place, each in asked if not _has_run(chosen[place], each, there)]:
            return left
        known = {place: finalist_of(chosen[place], there, first_seed) for place in going_on}
        best, looks = best_first(known.values())[0], seeds - 1 - FIRST
        going_on = [place for place, one in known.items() if one is best or not is_beaten(best, one, looks)]
        seed = upto
    return []


def _has_run(first: Record, seed: int, trials: Sequence[Record]) -> bool:
    return any(r.item.spec.seed == seed and scores.same_params(r.params, first.params) for r in trials)


def is_beaten(best: Finalist, other: Finalist, looks: int) -> bool:
    """Return whether a finalist is worse than the best one beyond doubt, at one of so many looks.

    It is where a seed of it was lost that the best one came through. Else neither the paired test nor Student's t on
    the means (the scatter pooled, as few seeds as there are) may leave a doubt.
    """
    from scipy.special import stdtrit

    if other.lost != best.lost:
        return other.lost > best.lost
    level = SIGNIFICANT / max(1, looks)
    found = against(best, other)
    p, gap = found["runner_up_p"], found["runner_up_gap"]
    variance, degrees = pooled_variance([best.scores, other.scores])
    if not degrees or (p is not None and p >= level):
        return False
    error = math.sqrt(variance * (1 / len(best.scores) + 1 / len(other.scores)))
    return gap > float(stdtrit(degrees, 1 - level / 2)) * error
