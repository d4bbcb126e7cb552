"""From coarse to fine by replay: a best that lies outside the range is found; long searches stay quick and small."""

import math
import random
import tracemalloc
from dataclasses import replace
from functools import cache

import pytest

from tests.replay import epochs, replay
from tests.search.search_cases import cut, inputs_of, recipe_of
from tuner.core.result import last_of_each
from tuner.stages import coarse, fine

DECAY = "optimizer.weight_decay"
SEARCH = {"optimizer.lr": "auto", DECAY: {"low": 1e-6, "high": 1e-4, "log": True}}
OPTIMIZER = {"name": "sgd", "lr": 0.03, "weight_decay": 1e-5}


def slope(best_decay, best_lr=0.03, noise=0.0):
    """Accuracy falls with the distance of both keys from the best, in decades."""

    def script(item):
        params = item.spec.overrides
        accuracy = 0.95 - 0.08 * abs(math.log10(params[DECAY] / best_decay))
        accuracy -= 0.005 * abs(math.log10(params["optimizer.lr"] / best_lr))
        accuracy += random.Random(item.spec.id).gauss(0, noise)
        return epochs([accuracy * (1 - 0.5**epoch) for epoch in range(1, item.spec.horizon_epochs + 1)])

    return cut(script)


@cache
def after_coarse(best, noise, seed):
    """Return the recipe, and what coarse finds."""
    recipe = recipe_of(search=SEARCH, seed=seed, optimizer=OPTIMIZER)
    settings = coarse.Settings(trials=32)  # with fewer the best need not lie near enough to the border to be seen there
    records = replay(coarse, recipe, inputs_of(), settings, slope(best, noise=noise))
    return recipe, coarse.judge(recipe, inputs_of(), settings, records).to_json(), records


def searched(best, noise=0.0, seed=0, sampler="tpe"):
    """Return the results of coarse and fine where this weight decay is the best."""
    recipe, found, first = after_coarse(best, noise, seed)
    inputs = replace(inputs_of(coarse=found), trials={"coarse": last_of_each(first)})
    own = fine.Settings(trials=12, sampler=sampler)
    second = replay(fine, recipe, inputs, own, slope(best, noise=noise))
    return found, fine.judge(recipe, inputs, own, second).to_json()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sampler", ["tpe", "sobol", "random"])
@pytest.mark.parametrize(("best", "way", "end"), [(2e-4, "upwards", "high"), (5e-7, "downwards", "low")])
def test_a_best_beyond_the_range_is_found_by_growing(seed, sampler, best, way, end):
    coarse_result, fine_result = searched(best, 0.0, seed, sampler)
    entry = coarse_result["choice"]["space"][DECAY]
    assert f"grown {way}" in entry["reason"]
    old = SEARCH[DECAY]
    beyond = entry[end] > old["high"] if end == "high" else entry[end] < old["low"]
    assert beyond
    won = fine_result["choice"]["params"][DECAY]
    tops = [top["params"][DECAY] for top in coarse_result["choice"]["top"]]
    assert won > old["high"] if end == "high" else won < old["low"]
    assert abs(math.log10(won / best)) < min(abs(math.log10(top / best)) for top in tops)


@pytest.mark.parametrize("seed", range(3))
def test_a_best_inside_the_range_grows_nothing(seed):
    coarse_result, fine_result = searched(1e-5, 0.002, seed)
    assert "grown" not in coarse_result["choice"]["space"][DECAY]["reason"]
    assert 1e-6 <= fine_result["choice"]["params"][DECAY] <= 1e-4


def test_planning_holds_on_to_nothing():
    """A search of 1,000 trials is planned again and again: what is kept does not grow with the number of times."""
    recipe, inputs = recipe_of(search=SEARCH, optimizer=OPTIMIZER), inputs_of()
    settings = coarse.Settings(trials=1000)
    records = replay(coarse, recipe, inputs, settings, slope(1e-5))
    coarse.plan(recipe, inputs, settings, records)
    tracemalloc.start()
    try:
        held = []
        for _ in range(4):
            assert coarse.plan(recipe, inputs, settings, records) == []
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[-1] - held[0] < 100_000
