"""What the winner's accuracy will be on new data: the val accuracy less what choosing on val has added, and how sure.

The basis is the runs with new seeds, by which the configuration was not chosen. Two things are subtracted still:

- choosing among configurations. All are measured on the same val examples, so what is hard for all of them favours
  none: only what is a trial's own (from the covariance of the answers, example by example) can be mistaken for merit.
  Drawing val again and again from that covariance tells how much the best gains by chance. What a first seed gained
  reaches the new seeds only as far as the answers that the configuration got by chance are theirs as well.
- choosing the epoch: how far the best epoch stands out from the trend around it, at most what chance gives.

The interval has two independent parts, added in squares: the sampling of val, which all seeds share and no seed makes
smaller, and how the weights of one seed differ from those of others (what val's sampling does not explain of it).

Source: Tsamardinos et al. 2018 (bootstrapping the selection); Efron 1983 (optimism); Jordan 2024, calibrated chaos
(most of the spread between seeds on a test set is that set's sampling).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.core.result import Record
from tuner.core.statistics import binomial_noise, expected_maximum, optimism, pooled_variance, theil_sen, wilson
from tuner.search.finalists import Finalist, right_of

DRAWS = 4000
# The observed scores spread by the noise that is drawn again: of configurations that are equal, the draws then show
# 1/sqrt(2) of the optimism (noise upon noise). The factor makes these exact and others, where it is less, cautious
NOISE_UPON_NOISE = math.sqrt(2)
AROUND = 3  # epochs on either side that the trend at the best epoch is taken from


@dataclass(frozen=True)
class Estimate:
    """What to expect of the winner on new data: `expected` is `basis` less the optimism, the interval is around it."""

    expected: float
    basis: float
    basis_runs: int
    selection: float
    epochs: float
    examples: tuple[float, float] | None
    seeds: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None where nothing says how sure the value is."""
        if self.examples is None:
            return None if self.seeds is None else (self.expected - self.seeds, self.expected + self.seeds)
        low, high = (abs(end - self.expected) for end in self.examples)
        spread = self.seeds or 0.0
        return max(0.0, self.expected - math.hypot(low, spread)), min(1.0, self.expected + math.hypot(high, spread))

    def to_json(self, sign: float = 1.0) -> dict[str, Any]:
        """Return the estimate as JSON; `sign`: -1 where less of the measured score is better."""
        examples = None if self.examples is None else max(abs(end - self.expected) for end in self.examples)
        return {
            "value": sign * self.expected,
            "basis": sign * self.basis,
            "basis_runs": self.basis_runs,
            "selection": self.selection,
            "epochs": self.epochs,
            "examples_half": examples,
            "seeds_half": self.seeds,
        }


def estimate(
    finalists: Sequence[Finalist], first: Sequence[Record], tried: int, val_n: int | None, seed: int
) -> Estimate:
    """Return what to expect of the winner, which is the first of the finalists.

    `first`: the trials that it was chosen among, one per configuration; `tried`: how many configurations there were.
    `val_n`: the number of val examples where the score is an accuracy on them, else None: nothing is subtracted then.
    """
    winner = finalists[0]
    basis = statistics.fmean(float(record.result.score or 0.0) for record in winner.unchosen)
    runs = len(winner.unchosen)
    if val_n is None:
        return Estimate(basis, basis, runs, 0.0, 0.0, None, _seed_half(finalists, None, runs))
    noise = own_noise(finalists, first, val_n)
    chosen = selection(finalists, first, tried, val_n, seed)
    at_best = statistics.fmean(epoch_optimism(record, noise) for record in winner.unchosen)
    expected = min(1.0, max(0.0, basis - chosen - at_best))
    seeds = _seed_half(finalists, val_n, runs)
    return Estimate(expected, basis, runs, chosen, at_best, wilson(expected, val_n), seeds)


def own_noise(finalists: Sequence[Finalist], first: Sequence[Record], val_n: int) -> float:
    """Return the noise of a val accuracy that is a trial's own: what two trials differ by through val's sampling.

    Half of the variance of their difference, which is the share of examples on which just one of them is right.
    Without the answers: the whole binomial noise, which is more.
    """
    groups = [_answers(finalist.records) for finalist in finalists]
    groups = [group for group in groups if len(group) > 1] or [_answers(first)]
    shares = [float((a != b).mean()) for group in groups for i, a in enumerate(group) for b in group[:i]]
    if not shares:
        return binomial_noise(finalists[0].mean, val_n)
    return math.sqrt(statistics.fmean(shares) / 2 / val_n)


def selection(finalists: Sequence[Finalist], first: Sequence[Record], tried: int, val_n: int, seed: int) -> float:
    """Return by how much choosing among configurations makes the basis overstate itself."""
    if tried < 2:
        return 0.0
    repeated = any(record.item.spec.seed != finalists[0].first_seed for record in finalists[0].records)
    candidates = [(record, right) for record in first if (right := right_of(record)) is not None]
    if len(candidates) < 2:  # the answers are not known: independent errors, the most that there can be
        return 0.0 if repeated else optimism(tried, binomial_noise(finalists[0].mean, val_n))
    scores = [float(record.result.score or 0.0) for record, _ in candidates]
    answers = [right for _, right in candidates]
    more = expected_maximum(tried) / expected_maximum(len(candidates))  # those that a rung stopped were compared too
    if not repeated:
        return more * _gain(scores, answers, answers, val_n, seed, 1)
    carried = _carried_over(finalists, answers)
    by_first = carried * more * _gain(scores, answers, answers, val_n, seed, len(finalists))
    answers_of = [(f.mean, _mean(f.records), _mean(f.unchosen)) for f in finalists]
    known = [entry for entry in answers_of if entry[1] is not None and entry[2] is not None]
    if len(known) < 2:
        return by_first
    means, every, new = ([entry[i] for entry in known] for i in range(3))
    return by_first + _gain(means, every, new, val_n, seed, 1)


def _gain(
    scores: Sequence[float], chosen_by: Sequence[Any], told_by: Sequence[Any], val_n: int, seed: int, count: int
) -> float:
    """Draw val again: how much the best `count` by one set of answers gain, by chance, in another set of answers."""
    import numpy as np

    both = np.asarray([*chosen_by, *told_by], dtype=float)
    covariance = np.atleast_2d(np.cov(both)) / val_n
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    noise = np.random.default_rng(seed).standard_normal((DRAWS, len(both))) @ root.T
    of_choice, of_telling = noise[:, : len(chosen_by)], noise[:, len(chosen_by) :]
    best = np.argsort(-(np.asarray(scores) + of_choice), axis=1, kind="stable")[:, :count]
    gained = np.take_along_axis(of_telling, best, axis=1).mean() - of_telling.mean()
    return max(0.0, round(NOISE_UPON_NOISE * float(gained), 9))  # to the digits that every linear algebra agrees on


def _carried_over(finalists: Sequence[Finalist], first: Sequence[Any]) -> float:
    """Return which share of what is a trial's own, in its answers, is its configuration's: 0 none, 1 all of it.

    From covariances over the examples: of a trial with itself, with other seeds of its configuration, with others.
    """
    import numpy as np

    groups = [np.asarray(group, dtype=float) for f in finalists if (group := _answers(f.records))]
    repeats = [np.cov(group) for group in groups if len(group) > 1]
    if not repeats:
        return 1.0
    own = statistics.fmean(float(np.diag(c).mean()) for c in repeats)
    same = statistics.fmean(float((c.sum() - np.trace(c)) / (c.size - len(c))) for c in repeats)
    means = [group.mean(0) for group in groups] if len(groups) > 1 else [np.asarray(a, dtype=float) for a in first]
    across = np.cov(np.asarray(means))
    other = float((across.sum() - np.trace(across)) / (across.size - len(across)))
    return min(1.0, max(0.0, (same - other) / (own - other))) if own > other else 1.0


def epoch_optimism(record: Record, noise: float) -> float:
    """Return by how much the best epoch's accuracy stands out from the trend around it: at most what chance gives."""
    values = [float(row["accuracy"]) for row in record.rows("val") if isinstance(row.get("accuracy"), (int, float))]
    best = record.result.best_epoch
    if best is None or len(values) <= AROUND or best > len(values):
        return 0.0
    start = max(0, best - 1 - AROUND)
    near = values[start : best + AROUND]
    slope = theil_sen(near)
    level = statistics.median(value - slope * place for place, value in enumerate(near))
    above = near[best - 1 - start] - (level + slope * (best - 1 - start))
    return min(max(0.0, above), optimism(len(near), noise))


def _seed_half(finalists: Sequence[Finalist], val_n: int | None, runs: int) -> float | None:
    """Return half the width of the 95 % interval that the seed of the weights alone would give, or None.

    The spread of all finalists together, less what the sampling of val makes of it; t, since the seeds are few.
    """
    from scipy.special import stdtrit

    several = [finalist for finalist in finalists if len(finalist.records) > 1]
    variance, degrees = pooled_variance(finalist.scores for finalist in several)
    if not degrees:
        return None
    if val_n is not None and all(len(_answers(finalist.records)) > 1 for finalist in several):
        variance -= own_noise(several, (), val_n) ** 2
    return float(stdtrit(degrees, 0.975)) * math.sqrt(max(0.0, variance) * (1 + 1 / runs))


def _answers(records: Sequence[Record]) -> list[Any]:
    return [right for record in records if (right := right_of(record)) is not None]


def _mean(records: Sequence[Record]) -> Any:
    """Return the mean answer per example over the seeds, or None where they were not stored."""
    import numpy as np

    answers = _answers(records)
    return np.asarray(answers, dtype=float).mean(0) if answers else None
