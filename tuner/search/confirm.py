"""Confirming runs: which short runs tell look-alikes of a diagnosis apart, and what they showed.

An arm changes one thing. It goes on from the winner's weights, beside a control that goes on unchanged; or it starts
from scratch, where the weights themselves may be spoilt (a model at its baseline) or do not fit (another width).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.core.confirming_arms import (
    CONTROL,
    FASTER,
    FREE,
    FREE_FASTER,
    FROM_SCRATCH,
    FULL_PRECISION,
    OFF,
    SLOWER,
    UNCLIPPED,
    WIDER,
)
from tuner.core.result import Record
from tuner.core.statistics import binomial_noise, pooled_variance, wilson
from tuner.recipe.model import Recipe

LEAST_STEPS = 100  # of a run that goes on: an epoch of a small data set is too short to move anything
LEAST_FRESH_STEPS = 200
LEAST_GAIN = 0.01  # an accuracy that rises by less is no cause of anything
SIGMAS = 2.0
LEARNT = 3.0  # standard errors above the majority class: several arms are looked at

# findings that have look-alikes: of the baseline, of an accuracy that stays low, of a rate that is too high
BASELINE = {"CU606"}
LOW = {"CU605", "CU613"}
RISING = {"CU601"}
RATE = {"CU607", "CU608", "CU612", "CU648"}


@dataclass(frozen=True)
class Arm:
    """One confirming run: what it changes, and whether it starts from scratch. `dropout`: False switches it off."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    dropout: bool = True


@dataclass(frozen=True)
class Winner:
    """What the arms are made from. `rate`: the one that goes on, the median of the winner's schedule.

    `drops_out`: the model has dropout modules, whether the recipe has a key for them or the user's code sets them.
    """

    recipe: Recipe
    params: Mapping[str, Any]
    rate: float
    epochs: int
    steps_per_epoch: float
    precision: str
    annealed: bool
    has_gap: bool
    drops_out: bool = False

    def value(self, key: str) -> Any:
        return self.params.get(key, self.recipe.value(key))

    @property
    def peak(self) -> float:
        return float(self.value("optimizer.lr"))

    @property
    def epochs_on(self) -> int:
        """How long an arm goes on: about an epoch."""
        return max(1, min(self.epochs, math.ceil(LEAST_STEPS / self.steps_per_epoch)))

    @property
    def epochs_from_scratch(self) -> int:
        """The horizon of an arm that starts from scratch: a fifth of the winner's."""
        least = math.ceil(LEAST_FRESH_STEPS / self.steps_per_epoch)
        return max(1, min(self.epochs, max(least, math.ceil(self.epochs / 5))))


def regularisers(winner: Winner, fresh: bool) -> dict[str, Any]:
    """Return what keeps the model from fitting, each with the value that switches it off.

    Dropout of the user's own is no key of the recipe: it can be switched off in trained weights alone.
    """
    off: dict[str, Any] = {}
    if winner.value("data.augment"):
        off["data.augment"] = []
    for key in ("model.dropout", "optimizer.weight_decay", "loss.label_smoothing"):
        value = winner.value(key)
        if isinstance(value, (int, float)) and value > 0:
            off[key] = 0.0
    if winner.drops_out and not fresh and winner.value("model.dropout") is None:
        off["model.dropout"] = 0.0
    return off


def first_arms(codes: Collection[str], winner: Winner) -> list[Arm]:
    """Return the arms that the findings ask for; none where nothing has look-alikes."""
    if BASELINE & set(codes):
        rates = [Arm(SLOWER, {"optimizer.lr": winner.peak / 10}, True)]
        rates += [Arm(FASTER, {"optimizer.lr": winner.peak * 10}, True)]
        return [*rates, *_others(winner, fresh=True)]
    low, rate = _is_low(codes, winner), bool(RATE & set(codes))
    if not low and not rate:
        return []
    arms = [Arm(CONTROL)]
    if low:
        arms += [Arm(FASTER, {"optimizer.lr": winner.rate * 10})]
    if rate or not winner.annealed:  # after a decay a lower rate tells nothing: it always gains on a higher one
        arms += [Arm(SLOWER, {"optimizer.lr": winner.rate / 10})]
    return arms + (_others(winner, fresh=False) if low else _precise(winner, fresh=False))


def _is_low(codes: Collection[str], winner: Winner) -> bool:
    """Return whether the accuracy is low: it stays so, or it rises slowly while val keeps up with train."""
    return bool(LOW & set(codes)) or (bool(RISING & set(codes)) and not winner.has_gap)


def _others(winner: Winner, fresh: bool) -> list[Arm]:
    off = regularisers(winner, fresh)
    arms = [_without(FREE, off, fresh)] if off else []
    if winner.value("train.clip_norm") is not None:
        arms += [Arm(UNCLIPPED, {"train.clip_norm": None}, fresh)]
    return arms + _precise(winner, fresh)


def _precise(winner: Winner, fresh: bool) -> list[Arm]:
    return [Arm(FULL_PRECISION, {}, fresh)] if winner.precision != "fp32" else []


def _without(name: str, off: Mapping[str, Any], fresh: bool) -> Arm:
    """Switch regularisers off. Dropout in trained weights is a rate set to 0: another layout would not take them."""
    if fresh:
        return Arm(name, off, True)
    others = {key: value for key, value in off.items() if key != "model.dropout"}
    return Arm(name, others, False, dropout="model.dropout" not in off)


def second_arms(codes: Collection[str], winner: Winner, known: Mapping[str, Mapping[str, Any]]) -> list[Arm]:
    """Return what the first answers leave open: which regulariser, whether from the start on, whether the width."""
    helped = {name for name, answer in known.items() if answer["helps"]}
    if not known:
        return []
    fresh = bool(BASELINE & set(codes))
    off = regularisers(winner, fresh)
    arms: list[Arm] = []
    if _is_low(codes, winner) and not helped and off and not fresh:
        free = _without(FREE_FASTER, off, fresh)
        arms += [replace(free, changes={**free.changes, "optimizer.lr": winner.rate * 10})]
    if FREE in helped and len(off) > 1:
        arms += [_without(key + OFF, {key: value}, fresh) for key, value in off.items()]
    if fresh:
        return arms
    width = winner.value("model.width")
    from_start = []
    if SLOWER in helped:
        from_start += [Arm(SLOWER + FROM_SCRATCH, {"optimizer.lr": winner.peak / 10}, True)]
    if LOW & set(codes) and not helped and isinstance(width, int):
        from_start += [Arm(WIDER + FROM_SCRATCH, {"model.width": 2 * width}, True)]
    return [*arms, Arm(CONTROL + FROM_SCRATCH, {}, True), *from_start] if from_start else arms


def answers(runs: Sequence[tuple[Arm, Sequence[Record]]], facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return per arm its accuracy, its gain over the control, the noise of that, and whether it helps.

    Accuracy is the mean over val and the train subset at the end of the run: an over-fitting gain is none, and twice
    the examples tell more. Noise adds, in squares, the scatter between seeds (pooled over the arms) and the sampling.
    """
    scores = {arm.name: [score for record in records if (score := _score(record)) is not None] for arm, records in runs}
    spread = math.sqrt(pooled_variance(scores.values())[0])
    found = {}
    for arm, records in runs:
        own = scores[arm.name]
        answer: dict[str, Any] = {
            "arm": arm.name,
            "changes": dict(arm.changes) | ({} if arm.dropout else {"model.dropout": 0.0}),
            "fresh": arm.fresh,
            "runs": len(records),
            "trials": [record.result.id for record in records],
            "accuracy": statistics.fmean(own) if own else None,
            "control": None, "gain": None, "noise": None, "helps": False,
        }  # fmt: skip
        beside = scores.get(CONTROL + FROM_SCRATCH if arm.name.endswith(FROM_SCRATCH) else CONTROL, [])
        if beside and own and not arm.name.startswith(CONTROL):
            answer |= _against(own, beside, spread, facts.get("val_n"))
        elif own and arm.fresh and not arm.name.endswith(FROM_SCRATCH):
            answer |= _learnt(records, facts)
        found[arm.name] = answer
    return found


def refuted(key: str, old: Any, new: Any, confirmed: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether confirming runs have tried to turn this key this way, and none of them helped.

    A run that turned the rate together with something else, and did not help, says nothing about either.
    """
    tried = [
        answer
        for answer in confirmed.values()
        if key in answer["changes"] and answer["gain"] is not None and _same_way(old, new, answer["changes"][key])
    ]
    alone = [answer for answer in tried if "optimizer.lr" not in answer["changes"] or len(answer["changes"]) == 1]
    return bool(alone) and not any(answer["helps"] for answer in tried)


def _same_way(old: Any, new: Any, tried: Any) -> bool:
    return tried == new or (_is_number(old, new, tried) and (new > old) == (tried > old))


def _is_number(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _against(own: Sequence[float], beside: Sequence[float], spread: float, n: int | None) -> dict[str, Any]:
    control, gain = statistics.fmean(beside), statistics.fmean(own) - statistics.fmean(beside)
    sampling = binomial_noise(control, 2 * n) if n else 0.0
    noise = math.hypot(spread * math.sqrt(1 / len(own) + 1 / len(beside)), sampling)
    return {"control": control, "gain": gain, "noise": noise, "helps": gain > max(SIGMAS * noise, LEAST_GAIN)}


def _learnt(records: Sequence[Record], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether runs from a baseline have learnt: val accuracy, alone, clearly above the majority class."""
    share, n = facts["majority_share"], facts["val_n"]
    accuracy = statistics.fmean([_last(record, "val") or 0.0 for record in records])
    low, high = wilson(accuracy, n, LEARNT)
    noise = (high - low) / (2 * LEARNT)
    helps = low > share + LEAST_GAIN
    return {"accuracy": accuracy, "control": share, "gain": accuracy - share, "noise": noise, "helps": helps}


def _score(record: Record) -> float | None:
    values = [_last(record, "val"), _last(record, "train_eval")]
    known = [value for value in values if value is not None]
    whole = record.result.status == "completed" and not record.result.evidence.get("continued", {}).get("diverged")
    return statistics.fmean(known) if known and whole and values[0] is not None else None


def _last(record: Record, split: str) -> float | None:
    rows = record.rows(split)
    value = rows[-1].get("accuracy") if rows else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
