"""TPE through ask and tell, with a test for each of Optuna's pitfalls."""

import itertools
import json
import math
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest

from tests.replay import epochs, failure
from tests.search.search_cases import recipe_of
from tuner.core.result import Record, TrialResult
from tuner.core.trial import WorkItem, canonical_json
from tuner.recipe.space import space_of
from tuner.search.samplers import design
from tuner.search.tpe import MOST_TOLD, Told, _study, ask, telling, told
from tuner.stages import Inputs

MIXED = {
    "optimizer.momentum": {"low": 0.8, "high": 0.99, "when": {"optimizer.name": "sgd"}},  # before what it depends on
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.width": {"choices": [16, 32, 64]},
    "model.depth": {"low": 1, "high": 4},
    "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.05},
    "optimizer.name": {"choices": ["sgd", "adam"]},
}
RATE = {"optimizer.lr": MIXED["optimizer.lr"]}


def score(params):
    return 0.9 - 0.1 * abs(math.log10(params["optimizer.lr"] / 0.02))


def seen(space, count=12, seed=5):
    return [Told(params, score(params)) for params in design(space, "random", seed, count, {})]


def asked(space, entries, count=8, seed=0, generation=1, base=None):
    return ask(space, seed, generation, count, base or {}, entries, [entry.params for entry in entries])


def record(result, number=0, **params):
    return Record(
        WorkItem(Inputs().spec(recipe_of(), params or {"optimizer.lr": 0.1}, horizon_epochs=3), number), result
    )


def test_it_stays_in_the_space_and_honours_conditions():
    space = space_of(MIXED)
    points = asked(space, seen(space), 40)
    assert len({canonical_json(point) for point in points}) == 40
    for point in points:
        assert 1e-4 <= point["optimizer.lr"] <= 1e-1
        assert point["model.width"] in (16, 32, 64)
        assert point["model.depth"] in (1, 2, 3, 4) and isinstance(point["model.depth"], int)
        assert point["model.dropout"] * 20 == pytest.approx(round(point["model.dropout"] * 20))
        assert ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd")


def test_a_condition_on_the_recipes_own_value_is_honoured():
    search = {key: value for key, value in MIXED.items() if key != "optimizer.name"}
    space = space_of(search)
    entries = seen(space)
    points = [point for name in ("sgd", "adam") for point in asked(space, entries, 3, base={"optimizer.name": name})]
    assert ["optimizer.momentum" in point for point in points] == [True] * 3 + [False] * 3


def test_it_goes_where_the_good_ones_are():
    space = space_of(RATE)
    points = asked(space, seen(space, 20), 8)
    assert sum(abs(math.log10(point["optimizer.lr"] / 0.02)) < 0.5 for point in points) >= 6


def test_the_same_history_gives_the_same_points_in_another_process():
    space = space_of(MIXED)
    code = (
        "import json; from tests.search.test_tpe import *; space = space_of(MIXED); "
        "print(json.dumps(asked(space, seen(space), 6)))"
    )
    for seed in ("1", "2"):  # Python's string hashing differs between processes
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert json.loads(done.stdout) == asked(space, seen(space), 6)


def test_each_generation_and_each_seed_has_its_own_points():
    space = space_of(RATE)
    entries = seen(space)
    drawn = [asked(space, entries, 4, seed, generation) for seed, generation in ((0, 1), (0, 2), (1, 1))]
    assert len({canonical_json(points) for points in drawn}) == 3


def test_a_larger_generation_only_adds():
    space = space_of(MIXED)
    assert asked(space, seen(space), 8)[:3] == asked(space, seen(space), 3)


def test_the_global_generators_are_left_alone():
    import random

    import numpy as np

    space = space_of(MIXED)
    before = random.getstate(), np.random.get_state()[1].tolist()
    asked(space, seen(space), 4)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_no_two_of_a_generation_are_alike_on_a_discrete_space():
    space = space_of({"model.width": {"choices": [16, 32, 64]}, "model.depth": {"low": 1, "high": 4}})
    entries = [Told({"model.width": width, "model.depth": 2}, width / 100) for width in (16, 32, 64)]
    points = asked(space, entries, 9)
    every = [canonical_json(point) for point in [*points, *(dict(entry.params) for entry in entries)]]
    assert len(set(every)) == 12
    assert asked(space, [Told(point, 0.5) for point in map(json.loads, every)], 3) == []  # there are no more


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_score_that_is_not_finite_is_never_told(value):
    assert told([record(TrialResult("", None, "completed", score=value))]) == []


def test_what_records_teach():
    curve = epochs([0.1, 0.2]).curve
    records = [
        record(TrialResult("a", None, "completed", curve, score=0.2)),
        record(TrialResult("b", 2, "stopped", curve, score=0.1)),
        record(TrialResult("c", None, "diverged")),
        record(failure("oom")),
        record(failure("crash")),
    ]
    assert [(entry.score, entry.epochs, entry.whole) for entry in told(records)] == [
        (0.2, 2, True),
        (0.1, 2, False),
        (None, 0, True),
        (None, 0, True),
    ]
    assert not any(entry.whole for entry in told(records[:2], whole=False))


def test_stopped_and_diverged_trials_rank_behind_whole_ones_and_no_value_is_infinite():
    space = space_of(RATE)
    entries = [Told({"optimizer.lr": 0.01}, 0.1), Told({"optimizer.lr": 0.02}, 0.9, 1, False)]
    trials = _study(space, 0, [*entries, Told({"optimizer.lr": 0.1}, None)]).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [trial.intermediate_values for trial in trials] == [{0: 0.1}, {1: 0.9}, {}]


def test_a_region_that_diverges_is_avoided():
    space = space_of(RATE)
    rates = [1e-4 * 10 ** (3 * i / 23) for i in range(24)]
    entries = [Told({"optimizer.lr": rate}, None if rate > 0.01 else 0.5 + 0.001 * i) for i, rate in enumerate(rates)]
    points = asked(space, entries, 10)
    assert sum(point["optimizer.lr"] > 0.02 for point in points) <= 2


def test_choices_that_were_narrowed_away_and_values_outside_are_left_out():
    space = space_of({**RATE, "model.width": {"choices": [32, 64]}})
    entries = [
        Told({"optimizer.lr": 0.01, "model.width": 16}, 0.9),
        Told({"optimizer.lr": 0.5, "model.width": 32}, 0.8),
        Told({"optimizer.lr": 0.01, "model.width": 64}, 0.7),
    ]
    assert [trial.params for trial in _study(space, 0, entries).trials] == [{"optimizer.lr": 0.01, "model.width": 1}]
    assert len(asked(space, entries, 4)) == 4


def test_choices_may_be_any_json_value():
    options = [[], ["hflip"], [{"name": "random_crop", "padding": 4}]]
    space = space_of({**RATE, "data.augment": {"choices": options}})
    points = asked(space, seen(space), 12)
    assert all(point["data.augment"] in options for point in points)


def test_too_little_to_learn_from_gives_sobol():
    space = space_of(MIXED)
    entries = [*seen(space, 2), Told({"optimizer.lr": 0.01}, None), Told({"optimizer.lr": 0.02}, 0.5, 1, False)]
    taken = [entry.params for entry in entries]
    assert asked(space, entries, 5) == design(space, "sobol", 0, 5, {}, taken)


def test_it_warns_of_nothing():
    space = space_of(MIXED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked(space, seen(space), 3)


def test_of_many_trials_the_best_and_an_even_sample_of_the_others_are_told():
    space = space_of(MIXED)
    few = seen(space, MOST_TOLD)
    assert telling(few) == few
    entries = [replace(entry, epochs=9) for entry in seen(space, 1000)]
    entries[::7] = [replace(entry, score=None) for entry in entries[::7]]
    entries[::5] = [replace(entry, whole=False, epochs=3) for entry in entries[::5]]
    told = telling(entries)
    places = [entries.index(entry) for entry in told]
    assert len(told) == MOST_TOLD and places == sorted(set(places))
    whole = [entry for entry in entries if entry.whole and entry.score is not None]
    best = sorted(whole, key=lambda entry: -entry.score)[:25]
    assert all(entry in told for entry in best)
    assert max(b - a for a, b in itertools.pairwise(places)) <= 7  # 5.6 on average


def test_a_thousand_trials_cost_under_50_ms_per_ask():
    space = space_of(MIXED)
    entries = seen(space, 1000)
    started = time.process_time()
    asked(space, entries, 20)
    assert (time.process_time() - started) / 20 < 0.05
