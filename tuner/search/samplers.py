"""Samplers: which configurations a search tries. Optuna proposes (ask and tell); what is done with it is ours.

`design` gives the configurations that can be known before anything is trained (Sobol, random, grid): a pure function of
the space, the seed and the count, so that a resumed stage asks for the same ones, and a larger count only adds to them.
The sampler that learns from results is in `tuner.search.tpe`.
"""

from __future__ import annotations

import itertools
import json
import random
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tuner.core.streams import derive_seed
from tuner.core.trial import canonical_json
from tuner.recipe.space import Auto, Choices, Dimension, Range, Space, tidy

ENUMERABLE = 4096  # spaces up to this size are finished by counting when drawing gives nothing new
STALLED = 100  # draws in a row that gave nothing new


def design(
    space: Space,
    sampler: str,
    seed: int,
    count: int,
    base: Mapping[str, Any],
    taken: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return `count` different configurations, none of them in `taken`; fewer where the space has no more.

    `base`: the recipe's values by dotted key, for conditions on keys that do not vary.
    """
    texts = (canonical_json(value) for value in (space.to_json(), dict(base), [dict(params) for params in taken]))
    return [dict(params) for params in _design(sampler, seed, count, *texts)]


@lru_cache(maxsize=64)  # a stage plans generation after generation: the sequence is drawn once
def _design(
    sampler: str, seed: int, count: int, space_text: str, base_text: str, taken_text: str
) -> list[dict[str, Any]]:
    space, base = Space.from_json(json.loads(space_text)), json.loads(base_text)
    seen = {canonical_json(params) for params in json.loads(taken_text)}
    chosen: list[dict[str, Any]] = []
    draws = _grid(space, count, seed) if sampler == "grid" else _drawn(space, sampler, seed)
    missed = 0
    for point in itertools.chain(draws, _counted(space, seed)):
        if len(chosen) >= count:
            break
        params = space.active(point, base)
        text = canonical_json(params)
        if text not in seen:
            seen.add(text)
            chosen.append(params)
            missed = 0
        elif sampler != "grid":
            missed += 1
            if missed == STALLED:
                draws.close()
    return chosen


def _drawn(space: Space, sampler: str, seed: int) -> Generator[dict[str, Any], None, None]:
    """Ask Optuna for one configuration after the other.

    One new study per sequence. A seeded RandomSampler repeats itself when it is made again, so each draw has its own
    seed; QMCSampler ignores its seed unless it scrambles, takes its space from the study's first trial (which it
    draws at random), and knows no categories: it is shown a trial first, and choices are asked as whole numbers.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {dimension.key: distribution(dimension) for dimension in space.dimensions}
    number = 0
    study = optuna.create_study(sampler=_qmc(seed)) if sampler == "sobol" else None
    if study is not None:
        shown = {key: distribution.low for key, distribution in distributions.items()}
        study.add_trial(optuna.trial.create_trial(params=shown, distributions=distributions, value=0.0))
    while True:
        if study is None:
            source = optuna.samplers.RandomSampler(seed=derive_seed(seed, "random", number) % 2**32)
            asked = optuna.create_study(sampler=source).ask(distributions)
        else:
            asked = study.ask(distributions)
        yield {dimension.key: decoded(dimension, asked.params[dimension.key]) for dimension in space.dimensions}
        number += 1


def _qmc(seed: int) -> Any:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.QMCSampler(
            qmc_type="sobol",
            scramble=True,
            seed=derive_seed(seed, "sobol") % 2**32,
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )


def distribution(dimension: Dimension, categories: bool = False) -> Any:
    """Return Optuna's name for a domain; choices are whole numbers in order, or `categories` of their places."""
    import optuna

    match dimension.domain:
        case Choices(options) if categories:
            return optuna.distributions.CategoricalDistribution(tuple(range(len(options))))
        case Choices(options):
            return optuna.distributions.IntDistribution(0, len(options) - 1)
        case Range(low, high, log, step, True):
            return optuna.distributions.IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        case Range(low, high, log, step, False):
            return optuna.distributions.FloatDistribution(low, high, log=log, step=step)
    raise ValueError(f"{dimension.key} is still 'auto': the band of lr-sweep must be put in first")


def decoded(dimension: Dimension, drawn: float) -> Any:
    """Turn what Optuna drew into the recipe's value; four digits are enough, and the range is kept."""
    if isinstance(dimension.domain, Choices):
        return dimension.domain.options[int(drawn)]
    assert isinstance(dimension.domain, Range)
    return min(dimension.domain.high, max(dimension.domain.low, tidy(drawn, dimension.domain.integer)))


def _counted(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Yield every point of a small finite space, in an order of its own."""
    size = space.size()
    if size is None or size > ENUMERABLE:
        return
    points = list(space.points())
    random.Random(derive_seed(seed, "count")).shuffle(points)
    yield from points


def _grid(space: Space, count: int, seed: int) -> Generator[dict[str, Any], None, None]:
    """Yield a grid in an order of its own, so that a part of it covers the space as well.

    Choices and small whole ranges are taken in full; a range has as many levels as there is room for, at least two.
    """
    fixed = 1
    for dimension in space.dimensions:
        values = _all_values(dimension)
        fixed *= len(values) if values else 1
    open_ranges = sum(_all_values(dimension) is None for dimension in space.dimensions)
    levels = 2
    while open_ranges and (levels + 1) ** open_ranges * fixed <= count:
        levels += 1
    columns = [_all_values(dimension) or _levels(dimension, levels) for dimension in space.dimensions]
    points = [dict(zip(space.keys, values, strict=True)) for values in itertools.product(*columns)]
    random.Random(derive_seed(seed, "grid")).shuffle(points)
    yield from points


def _all_values(dimension: Dimension) -> list[Any] | None:
    """Return the values of a domain that a grid takes in full: at most eight."""
    values = None if isinstance(dimension.domain, Auto) else dimension.domain.values()
    if values is not None and (isinstance(dimension.domain, Choices) or len(values) <= 8):
        return values
    return None


def _levels(dimension: Dimension, levels: int) -> list[float]:
    """Return `levels` values from end to end, evenly spaced in the sampled scale."""
    domain = dimension.domain
    if not isinstance(domain, Range):
        raise ValueError(f"{dimension.key} is still 'auto': the band of lr-sweep must be put in first")
    low, high = domain.scaled(domain.low), domain.scaled(domain.high)
    spaced = (domain.unscaled(low + (high - low) * index / (levels - 1)) for index in range(levels))
    return list(dict.fromkeys(decoded(dimension, value) for value in spaced))
