"""A world in which the truth is known: configurations, seeds and epochs of classifiers, on val and on as many new
examples as one likes.

An example is answered right where merit + luck > difficulty; luck has parts that belong to the configuration, to the
seed and to the epoch, for each example its own. So the accuracy on val errs together for all that was measured on it.
"""

from __future__ import annotations

import statistics

import numpy as np

from tests.search.search_cases import bits
from tuner.core.result import Record, TrialResult
from tuner.core.statistics import wilson
from tuner.core.trial import TrialSpec, WorkItem
from tuner.search.expected_accuracy import estimate
from tuner.search.finalists import ranked, simplest_first
from tuner.search.repeats import lacking

NEW = 20_000


class World:
    def __init__(self, seed, val_n=400, merits=(0.9,) * 8, config=0.3, own=0.6, epoch=0.3, wander=0.0, epochs=12):
        self.random = np.random.default_rng(seed)
        self.val_n, self.merits, self.epochs, self.wander = val_n, merits, epochs, wander
        self.parts = (config, own, epoch)
        self.difficulty = self.random.normal(0, 1, val_n + NEW).astype(np.float32)
        self.luck = [self.normal() * config for _ in merits]
        self.truth = {}

    def normal(self):
        return self.random.standard_normal(len(self.difficulty), dtype=np.float32)

    def trial(self, number, config, seed):
        """Train: the weights of the best epoch on val are kept; the truth about them is noted."""
        merit = self.merits[config] + self.wander * self.random.normal()
        base = self.luck[config] + self.parts[1] * self.normal() - self.difficulty
        best, curve = None, []
        for epoch in range(1, self.epochs + 1):
            right = base + merit - 2.0 * 0.4**epoch + self.parts[2] * self.normal() > 0
            accuracy = float(right[: self.val_n].mean())
            curve.append({"step": epoch, "epoch": epoch, "split": "val", "loss": 1 - accuracy, "accuracy": accuracy})
            if best is None or accuracy > best[0]:
                best = accuracy, epoch, right
        accuracy, epoch, right = best
        item = WorkItem(TrialSpec(tables={}, overrides={"optimizer.lr": 0.1 * (config + 1)}, seed=seed), number)
        evidence = {"val_predictions": bits(right[: self.val_n].astype(int))}
        self.truth[item.spec.id] = float(right[self.val_n :].mean())
        return Record(item, TrialResult(item.spec.id, None, "completed", curve, evidence, accuracy, epoch))

    def search(self, finalists=2, seeds=3):
        """Search as fine does; return the estimate, the truth about the checkpoint, and the naive best val accuracy."""
        first = [self.trial(number, number, 0) for number in range(len(self.merits))]
        chosen = sorted(first, key=lambda record: -record.result.score)[:finalists]
        records = list(first)
        while pairs := lacking(records, chosen, 0, seeds):
            for place, seed in pairs:
                number = chosen[place].number
                records.append(self.trial(100 + number + 50 * seed, number, seed))
        self.repeats = [record for record in records if record.item.spec.seed]
        found, _ = simplest_first(ranked(records, 0, finalists))
        told = estimate(found, first, len(first), self.val_n, 7)
        best = found[0].best
        return told, self.truth[best.result.id], best.result.score


def coverage(repeats, seeds=3, finalists=2, **world):
    """Return how often the interval, and Wilson's around the best val accuracy, hold the truth; biases; the width."""
    inside, naive, bias, naive_bias, width = [], [], [], [], []
    for seed in range(repeats):
        told, truth, best = World(seed, **world).search(finalists, seeds)
        low, high = told.interval
        inside.append(low <= truth <= high)
        width.append(high - low)
        naive_low, naive_high = wilson(best, world.get("val_n", 400))
        naive.append(naive_low <= truth <= naive_high)
        bias.append(told.expected - truth)
        naive_bias.append(best - truth)
    return tuple(map(statistics.fmean, (inside, naive, bias, naive_bias, width)))
