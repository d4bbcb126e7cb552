"""The configurations that were trained with several seeds: which wins, by how much, and whether that is beyond noise.

Where the best two cannot be distinguished and lie close, the simpler one is taken: clearly fewer parameters, a number
that is the same on every machine, where seconds are not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.core.result import Record
from tuner.core.statistics import is_indistinguishable, mcnemar_p, mean_std, paired_p, unpack_bits, unpack_values
from tuner.search import scores

SIMPLER = 0.75  # of the parameters: less of a difference is no reason
PRICE = 0.005  # of the score, at most, is given for it: that a small val split shows no difference is no proof of none


@dataclass(frozen=True)
class Finalist:
    """A configuration that was trained with several seeds, the search's own first; `lost`: seeds without a score."""

    records: tuple[Record, ...]
    lost: int
    first_seed: int

    @property
    def scores(self) -> list[float]:
        return [float(record.result.score or 0.0) for record in self.records]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def best(self) -> Record:
        return scores.scored(self.records)[0]

    @property
    def unchosen(self) -> tuple[Record, ...]:
        """The runs with new seeds, by which the configuration was not chosen; all of them where there are none."""
        return tuple(r for r in self.records if r.item.spec.seed != self.first_seed) or self.records

    @property
    def parameters(self) -> int | None:
        """How many parameters the model has, where the trials recorded it."""
        return next((n for n in map(_parameters, self.records) if n is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the finalist with its scores as they were measured."""
        sign = self.best.direction
        mean, std = mean_std(self.scores)
        return {
            "trial": self.best.result.id,
            "trials": [record.result.id for record in self.records],
            "params": dict(self.best.params),
            "scores": [sign * score for score in self.scores],
            "mean": sign * mean,
            "std": std,
            "lost": self.lost,
            "parameters": self.parameters,
        }


def _parameters(record: Record) -> int | None:
    count = record.result.evidence.get(scores.PREDICTIONS, {}).get("parameters")
    return int(count) if isinstance(count, int) and count > 0 else None


def ranked(trials: Sequence[Record], first_seed: int, count: int) -> list[Finalist]:
    """Return the finalists, the best first."""
    first = [record for record in trials if record.item.spec.seed == first_seed]
    return best_first([finalist_of(chosen, trials, first_seed) for chosen in scores.scored(first)[:count]])


def finalist_of(chosen: Record, trials: Sequence[Record], first_seed: int) -> Finalist:
    """Return the finalist that a trial of the search has become, with all seeds among `trials`."""
    runs = [record for record in trials if scores.same_params(record.params, chosen.params)]
    good = sorted(scores.scored(runs), key=lambda record: record.number)
    return Finalist(tuple(good), len(runs) - len(good), first_seed)


def best_first(finalists: Iterable[Finalist]) -> list[Finalist]:
    """Return finalists in order: fewest seeds lost, then the highest mean, then the earlier trial."""
    return sorted(finalists, key=lambda finalist: (finalist.lost, -finalist.mean, finalist.records[0].number))


def simplest_first(finalists: Sequence[Finalist]) -> tuple[list[Finalist], str]:
    """Return the finalists with the simplest of those that are no worse beyond noise in front, and why (or "")."""
    if not finalists:
        return [], ""
    best = finalists[0]
    size = best.parameters
    equals = [other for other in finalists[1:] if size and _equals(best, other)]
    near = [other for other in equals if best.mean - other.mean <= PRICE]
    simpler = [other for other in near if other.parameters and other.parameters <= SIMPLER * (size or 0)]
    if not simpler:
        return list(finalists), ""
    winner = min(simpler, key=lambda other: other.parameters or 0)  # the first of equals: the higher mean
    share = 100 * (1 - (winner.parameters or 0) / (size or 1))
    reason = f"it cannot be distinguished from {scores.words(best.best.params)} and has {share:.0f} % fewer parameters"
    return [winner, *(other for other in finalists if other is not winner)], reason


def _equals(best: Finalist, other: Finalist) -> bool:
    found = against(best, other)
    return other.lost <= best.lost and is_indistinguishable(
        *(found[f"runner_up_{name}"] for name in ("p", "gap", "error"))
    )


def against(winner: Finalist, other: Finalist) -> dict[str, Any]:
    """Compare with the runner-up: paired on the val examples of the seeds that both have, and by the means."""
    ours, theirs = right_by_seed(winner), right_by_seed(other)
    seeds = sorted(set(ours) & set(theirs))
    p = mcnemar_p([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]) if seeds else None
    if p is None:
        p = _by_values(winner, other)
    (mean, std), (other_mean, other_std) = mean_std(winner.scores), mean_std(other.scores)
    error = None
    if std is not None and other_std is not None:
        error = (std**2 / len(winner.scores) + other_std**2 / len(other.scores)) ** 0.5
    gap = {"runner_up_gap": mean - other_mean, "runner_up_error": error}
    return {"runner_up": other.best.result.id, "runner_up_p": p, **gap}


def _by_values(winner: Finalist, other: Finalist) -> float | None:
    """Return p of the paired test of per-example values, where answers are more than right or wrong."""
    ours, theirs = ({r.item.spec.seed: values_of(r) for r in finalist.records} for finalist in (winner, other))
    seeds = [seed for seed in sorted(set(ours) & set(theirs)) if ours[seed] is not None and theirs[seed] is not None]
    return paired_p([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]) if seeds else None


def values_of(record: Record) -> Any:
    """Return the array of how good each val answer of one trial is, or None."""
    evidence = record.result.evidence.get(scores.PREDICTIONS, {})
    return unpack_values(evidence) if evidence.get("values") is not None else None


def right_by_seed(finalist: Finalist) -> dict[int, Any]:
    """Return the right (1) and wrong (0) answers on val, by seed, where they were stored."""
    found = {record.item.spec.seed: right_of(record) for record in finalist.records}
    return {seed: right for seed, right in found.items() if right is not None}


def right_of(record: Record) -> Any:
    """Return the array of right (1) and wrong (0) answers on val of one trial, or None."""
    evidence = record.result.evidence.get(scores.PREDICTIONS, {})
    return unpack_bits(evidence) if evidence.get("bits") is not None else None
