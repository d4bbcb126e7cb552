"""Oracle: scores made from known keys; closed forms of the shares of variance that they explain."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.replay import epochs, replay
from tests.search.search_cases import SEARCH, bowl, inputs_of, recipe_of
from tuner.core.result import Record, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.space import space_of
from tuner.search.importance import at_common_epoch, importance
from tuner.search.samplers import design
from tuner.stages import coarse, fine

SPACE = space_of(
    {
        "optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True},
        "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
        "optimizer.name": {"choices": ["sgd", "adam", "rmsprop"]},
        "optimizer.momentum": {"low": 0.5, "high": 0.99, "when": {"optimizer.name": "sgd"}},
    }
)


def record(number, params, curve, status="completed", until=None):
    item = WorkItem(TrialSpec(tables={}, overrides=params, seed=0, horizon_epochs=9), number, until)
    if status == "diverged":
        return Record(item, TrialResult(item.spec.id, until, "diverged"))
    answer = epochs(curve)
    return Record(item, TrialResult(item.spec.id, until, status, answer.curve, {}, max(curve), 1))


def searched(count, accuracy, seed=0, noise=0.01):
    random = np.random.default_rng(seed)
    configurations = design(SPACE, "sobol", seed, count, {})
    return [record(n, p, [accuracy(p) + random.normal(0, noise)]) for n, p in enumerate(configurations)]


def entries(records, seed=0):
    return {entry["key"]: entry for entry in importance(records, SPACE, seed)["importance"]}


def by_rate(params):
    return 0.8 - 0.1 * abs(math.log10(params["optimizer.lr"]) + 2)


def test_the_key_that_makes_the_score_is_told_and_the_others_are_not():
    found = entries(searched(32, by_rate))
    assert next(iter(found)) == "optimizer.lr" and found["optimizer.lr"]["enough"]
    assert found["optimizer.lr"]["importance"] > 0.5
    assert found["optimizer.lr"]["low"] <= found["optimizer.lr"]["importance"] <= found["optimizer.lr"]["high"]
    assert not any(entry["enough"] for key, entry in found.items() if key != "optimizer.lr")


def test_scores_of_noise_alone_tell_no_key():
    told = [entry["enough"] for seed in range(8) for entry in entries(searched(16, lambda p: 0.5, seed)).values()]
    assert len(told) == 32 and sum(told) <= 1  # one key of one search in twenty


def test_a_choice_is_told():
    found = entries(searched(32, lambda p: 0.6 + 0.2 * (p["optimizer.name"] == "adam")))
    assert next(iter(found)) == "optimizer.name" and found["optimizer.name"]["enough"]


def test_keys_that_matter_only_together_are_both_told():
    def ridge(params):
        return 0.9 - 0.1 * abs(math.log10(params["optimizer.lr"] * params["optimizer.weight_decay"]) + 6)

    found = entries(searched(64, ridge))
    assert {key for key, entry in found.items() if entry["enough"]} == {"optimizer.lr", "optimizer.weight_decay"}


def test_a_key_with_a_condition_counts_where_it_is_met():
    def of_momentum(params):
        return 0.5 + params.get("optimizer.momentum", 0.75)

    found = entries(searched(64, of_momentum))
    assert next(iter(found)) == "optimizer.momentum" and found["optimizer.momentum"]["enough"]


@pytest.mark.parametrize(("count", "known"), [(9, False), (10, True)])
def test_few_trials_tell_nothing(count, known):
    found = entries(searched(count, by_rate))
    assert {entry["importance"] is not None for entry in found.values()} == {known}
    assert known or not any(entry["enough"] for entry in found.values())


def test_equal_scores_tell_nothing():
    assert not any(entry["enough"] for entry in entries(searched(16, lambda p: 0.5, noise=0.0)).values())


def test_a_key_with_one_value_is_left_out():
    records = [record(n, {"optimizer.lr": 10.0**-n, "optimizer.weight_decay": 1e-4}, [n / 10]) for n in range(9)]
    assert [entry["key"] for entry in importance(records, SPACE, 0)["importance"]] == ["optimizer.lr"]


def test_the_seed_decides():
    records = searched(16, by_rate)
    assert entries(records, 1) == entries(records, 1) and entries(records, 1) != entries(records, 2)


def test_all_are_compared_at_the_epoch_that_each_reached():
    first = record(0, {"optimizer.lr": 0.1}, [0.2, 0.6, 0.5, 0.9])
    stopped = record(1, {"optimizer.lr": 0.2}, [0.5, 0.4], "stopped", 2)
    gone = record(2, {"optimizer.lr": 0.3}, [], "diverged")
    epoch, scored = at_common_epoch([first, stopped, gone])
    assert epoch == 2
    assert [(found.number, score) for found, score in scored] == [(0, 0.6), (1, 0.5), (2, 0.5)]


def test_a_measure_that_is_minimised_is_turned():
    found = record(0, {"optimizer.lr": 0.1}, [0.2, 0.6])  # the scripted loss is one less the accuracy
    spec = replace(found.item.spec, tables={"train": {"monitor": "val_loss", "monitor_mode": "min"}})
    records = [replace(found, item=replace(found.item, spec=spec))]
    assert at_common_epoch(records) == (2, [(records[0], pytest.approx(-0.4))])


def test_without_a_val_curve_there_is_nothing_to_compare():
    gone = record(2, {"optimizer.lr": 0.3}, [], "diverged")
    assert importance([gone], SPACE, 0) == {
        "importance": [], "importance_epoch": None, "importance_trials": 0
    }  # fmt: skip


def test_a_thousand_trials_are_thinned():
    configurations = design(SPACE, "random", 0, 300, {})
    records = [record(n, p, [by_rate(p)]) for n, p in enumerate(configurations)]
    assert importance(records, SPACE, 0)["importance_trials"] == 150


@pytest.mark.parametrize(("stage", "trials"), [(coarse, 24), (fine, 16)])
def test_stages_say_what_mattered_among_trials_that_were_stopped(stage, trials):
    recipe, settings = recipe_of(search=SEARCH), stage.Settings(trials=trials, sampler="sobol")
    records = replay(stage, recipe, inputs_of(), settings, bowl(best=0.3))
    metrics = stage.judge(recipe, inputs_of(), settings, records).metrics
    assert metrics.stopped > 0 and metrics.importance_trials == trials  # finalists with new seeds do not count
    assert metrics.importance_epoch == settings.ladder.rungs[0]
    told = {entry.key: entry.enough for entry in metrics.importance}
    assert told == {"optimizer.lr": True, "model.width": False}
