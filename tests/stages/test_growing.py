"""From coarse to fine by replay: a best that lies outside the range is found; long searches stay quick and small."""

import math
import random
import time
import tracemalloc
from dataclasses import replace

import pytest

from tests.replay import ReplayExecutor, epochs, replay
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


def searched(script, seed=0, sampler="tpe", search=SEARCH):
    """Return the results of coarse and fine, and fine's records."""
    recipe = recipe_of(search=search, seed=seed, optimizer=OPTIMIZER)
    settings = coarse.Settings(trials=32)  # with fewer the best need not lie near enough to the border to be seen there
    first = replay(coarse, recipe, inputs_of(), settings, script)
    found = coarse.judge(recipe, inputs_of(), settings, first).to_json()
    inputs = replace(inputs_of(coarse=found), trials={"coarse": last_of_each(first)})
    own = fine.Settings(trials=12, sampler=sampler)
    second = replay(fine, recipe, inputs, own, script)
    return found, fine.judge(recipe, inputs, own, second).to_json(), second


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sampler", ["tpe", "sobol", "random"])
@pytest.mark.parametrize(("best", "way", "end"), [(2e-4, "upwards", "high"), (5e-7, "downwards", "low")])
def test_a_best_beyond_the_range_is_found_by_growing(seed, sampler, best, way, end):
    wide = {**SEARCH, DECAY: {"low": 1e-6, "high": 1e-4, "log": True}}
    coarse_result, fine_result, _ = searched(slope(best), seed, sampler, wide)
    entry = coarse_result["choice"]["space"][DECAY]
    assert f"grown {way}" in entry["reason"]
    old = wide[DECAY]
    beyond = entry[end] > old["high"] if end == "high" else entry[end] < old["low"]
    assert beyond
    won = fine_result["choice"]["params"][DECAY]
    tops = [top["params"][DECAY] for top in coarse_result["choice"]["top"]]
    assert won > old["high"] if end == "high" else won < old["low"]
    assert abs(math.log10(won / best)) < min(abs(math.log10(top / best)) for top in tops)


@pytest.mark.parametrize("seed", range(3))
def test_a_best_inside_the_range_grows_nothing(seed):
    coarse_result, fine_result, _ = searched(slope(1e-5, noise=0.002), seed)
    assert "grown" not in coarse_result["choice"]["space"][DECAY]["reason"]
    assert 1e-6 <= fine_result["choice"]["params"][DECAY] <= 1e-4


@pytest.mark.parametrize(("sampler", "most"), [("sobol", 0.005), ("random", 0.005), ("tpe", 0.055)])
def test_a_thousand_trials_are_planned_and_judged_quickly(sampler, most):
    recipe, script = recipe_of(search=SEARCH, optimizer=OPTIMIZER), slope(1e-5)
    settings = coarse.Settings(trials=1000, sampler=sampler, generation=100)
    started = time.process_time()
    records = replay(coarse, recipe, inputs_of(), settings, script)
    result = coarse.judge(recipe, inputs_of(), settings, records)
    scripted = time.process_time()
    list(ReplayExecutor(script).run([record.item for record in records]))  # what the scripted trials take of it
    spent = scripted - started - (time.process_time() - scripted)
    assert result.metrics.trials == 1000
    assert spent / 1000 < most


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
