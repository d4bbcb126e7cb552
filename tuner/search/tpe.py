"""TPE: configurations that learn from what has been tried. Optuna proposes (ask and tell); the records are the truth.

Each generation has a study of its own, rebuilt in memory from the records of the generations before it and seeded by
(seed, stage, generation), so a stage that goes on asks for what an uninterrupted one would.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tuner.core.result import Record
from tuner.core.streams import derive_seed
from tuner.core.trial import canonical_json
from tuner.recipe.space import Choices, Dimension, Range, Space
from tuner.search.samplers import decoded, design, distribution

LEAST_SCORES = 3  # with fewer finished trials there is nothing to learn from
SHORTER = 0.5  # of a finished trial is what one that a rung has stopped, or that trains on, counts for that
REPEATS = 20  # asks of a generation that may give what was tried already
GOOD_SHARE, MOST_GOOD = 0.15, 25  # of the trials told, and at most: those that the density of the good is made of
MOST_TOLD = 200  # more would cost time with every ask, and say little more of where the bad ones are
CANDIDATES = 24


@dataclass(frozen=True)
class Told:
    """What a trial taught: its score after `epochs`, whether these were all (`whole`); no score: it diverged."""

    params: Mapping[str, Any]
    score: float | None
    epochs: int = 0
    whole: bool = True


def told(records: Sequence[Record], whole: bool = True) -> list[Told]:
    """Return what records teach. A crash teaches nothing; divergence and lack of memory are as bad as can be.

    `whole` = False: the trials were shorter than those to be asked for, so that each of these counts for more.
    """
    found = []
    for record in records:
        result = record.result
        memory = result.error is not None and result.error.kind == "oom"
        if result.status == "diverged" or memory:
            found.append(Told(record.params, None))
        elif result.status in ("completed", "stopped") and result.score is not None and math.isfinite(result.score):
            epochs = max((int(row["epoch"]) for row in result.curve), default=0)
            found.append(Told(record.params, result.score, epochs, whole and result.status == "completed"))
    return found


def ask(
    space: Space,
    seed: int,
    generation: int,
    count: int,
    base: Mapping[str, Any],
    told: Sequence[Told],
    taken: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return `count` configurations that are not in `taken`; fewer where the space has no more.

    Where too little is known, or TPE only repeats what was tried, scrambled Sobol gives the rest.
    """
    known = [(json.dumps(dict(entry.params)), entry.score, entry.epochs, entry.whole) for entry in told]
    text = json.dumps([space.to_json(), dict(base), [dict(params) for params in taken]])  # in their own order
    return [dict(params) for params in _ask(seed, generation, count, tuple(known), text)]


@lru_cache(maxsize=16)  # a plan is asked again while a generation runs
def _ask(
    seed: int, generation: int, count: int, known: Sequence[tuple[str, float | None, int, bool]], text: str
) -> list[dict[str, Any]]:
    space_json, base, taken = json.loads(text)
    space = Space.from_json(space_json)
    told = [Told(json.loads(text), score, epochs, whole) for text, score, epochs, whole in known]
    chosen: list[dict[str, Any]] = []
    if sum(1.0 if entry.whole else SHORTER for entry in told if entry.score is not None) >= LEAST_SCORES:
        seen = {canonical_json(params) for params in taken}
        study = _study(space, derive_seed(seed, "tpe", generation), telling(told))
        for _ in range(count + REPEATS):
            if len(chosen) == count:
                break
            params = _asked(study.ask(), space, base)
            text = canonical_json(params)
            if text not in seen:
                seen.add(text)
                chosen.append(params)
    return chosen + design(space, "sobol", seed, count - len(chosen), base, taken=[*taken, *chosen])


def telling(told: Sequence[Told]) -> list[Told]:
    """Return what a study is told of many trials: the best, as TPE ranks them, and an even sample of the others."""
    if len(told) <= MOST_TOLD:
        return list(told)
    best = set(sorted(range(len(told)), key=lambda i: _standing(told[i]))[:MOST_GOOD])
    others = [i for i in range(len(told)) if i not in best]
    count = MOST_TOLD - len(best)
    sample = {others[i * len(others) // count] for i in range(count)}
    return [told[i] for i in sorted(best | sample)]


def _standing(entry: Told) -> tuple[bool, bool, int, float]:
    """Return the key by which TPE ranks: whole trials first, then those that went further; without a score, last."""
    if entry.score is None:
        return True, True, 0, 0.0
    return False, not entry.whole, 0 if entry.whole else -entry.epochs, -entry.score


def _study(space: Space, seed: int, told: Sequence[Told]) -> Any:
    """Make a study that knows what was told; every argument is given, because defaults change between versions.

    Neither NaN nor infinity is told (Optuna makes FAIL of one and a value of the other): a trial that diverged is one
    that was pruned without a value, the worst there is. One that a rung stopped was pruned with the value it had: it
    ranks behind all that are whole, further ones first. What lies outside the space now is left out.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = optuna.trial.TrialState
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `group` is experimental; giving what has a default is deprecated
        sampler = optuna.samplers.TPESampler(
            consider_prior=True,
            prior_weight=1.0,
            consider_magic_clip=True,
            consider_endpoints=False,
            n_startup_trials=0,
            n_ei_candidates=CANDIDATES,
            gamma=_good,
            weights=_equal,
            seed=seed % 2**32,
            multivariate=True,
            group=True,  # keys with the same condition are drawn together
            warn_independent_sampling=False,
            constant_liar=True,  # what was asked in this generation counts as bad: no two alike
            constraints_func=None,
        )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for entry in told:
        params = _encoded(space, entry.params)
        if params is None:
            continue
        whole = entry.whole and entry.score is not None
        study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if whole else states.PRUNED,
                params=params,
                distributions={key: distribution(space[key], categories=True) for key in params},
                value=entry.score if whole else None,
                intermediate_values={} if entry.score is None else {entry.epochs: entry.score},
            )
        )
    return study


def _good(count: int) -> int:
    return min(math.ceil(GOOD_SHARE * count), MOST_GOOD)


def _equal(count: int) -> Any:
    import numpy as np

    return np.ones(count)


def _encoded(space: Space, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return parameters as Optuna has them; None where one lies outside the space."""
    found = {key: _inside(space[key], value) for key, value in params.items() if key in space}
    return None if None in found.values() else found


def _inside(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension.domain, Choices):
        texts = [canonical_json(option) for option in dimension.domain.options]
        text = canonical_json(value)
        return texts.index(text) if text in texts else None
    domain = dimension.domain
    if not isinstance(domain, Range) or not isinstance(value, (int, float)) or not domain.low <= value <= domain.high:
        return None
    step = domain.step or (1 if domain.integer else None)
    if step is None:
        return float(value)
    snapped = domain.low + round((value - domain.low) / step) * step  # rounding to four digits may leave the grid
    return int(snapped) if domain.integer else snapped


def _asked(trial: Any, space: Space, base: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the keys whose condition is met, those that others depend on first."""
    params: dict[str, Any] = {}
    waiting = list(space.dimensions)
    while waiting:
        keys = {dimension.key for dimension in waiting}
        ready = [dimension for dimension in waiting if not keys & (set(dimension.when) - {dimension.key})]
        for dimension in ready:
            if dimension.key in space.active({**params, dimension.key: None}, base):
                params[dimension.key] = decoded(dimension, _suggested(trial, dimension))
        waiting = [dimension for dimension in waiting if dimension not in ready]
    return params


def _suggested(trial: Any, dimension: Dimension) -> Any:
    """Ask for one key, with the distribution it was told with."""
    asked = distribution(dimension, categories=True)
    if isinstance(dimension.domain, Choices):
        return trial.suggest_categorical(dimension.key, asked.choices)
    if isinstance(dimension.domain, Range) and dimension.domain.integer:
        return trial.suggest_int(dimension.key, asked.low, asked.high, step=asked.step, log=asked.log)
    return trial.suggest_float(dimension.key, asked.low, asked.high, step=asked.step, log=asked.log)
