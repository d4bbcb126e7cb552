import math

import pytest

from tuner.recipe.space import Range, space_of
from tuner.search.narrow import Scored, at_borders, narrow, tied
from tuner.search.samplers import design

RATE = {"optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True}}


def scored(key, values, best):
    """Score values by their distance from the best in decades."""
    return [Scored({key: value}, -abs(math.log10(value / best))) for value in values]


def grid(low, high, count):
    return [low * (high / low) ** (i / (count - 1)) for i in range(count)]


def test_narrow_shrinks_around_the_best_in_the_logarithm():
    new = narrow(space_of(RATE), scored("optimizer.lr", grid(1e-4, 1, 16), 1e-2))["optimizer.lr"]
    assert 1e-3 < new.domain.low < 1e-2 < new.domain.high < 1e-1
    assert math.log(1.0 / 1e-4) * 0.2 < math.log(new.domain.high / new.domain.low) < math.log(1.0 / 1e-4) * 0.6
    assert new.reason.startswith("shrunk around the best 4 trials")


@pytest.mark.parametrize(("best", "end", "word"), [(1.0, "high", "upwards"), (1e-4, "low", "downwards")])
def test_narrow_grows_where_the_best_lies_at_a_border(best, end, word):
    new = narrow(space_of(RATE), scored("optimizer.lr", grid(1e-4, 1, 16), best))["optimizer.lr"]
    beyond = new.domain.high / 1.0 if end == "high" else 1e-4 / new.domain.low
    assert beyond == pytest.approx(10, rel=0.01)  # a quarter of four decades
    assert f"grown {word}" in new.reason


def test_narrow_does_not_grow_beyond_a_limit():
    trials = scored("optimizer.lr", grid(1e-4, 1, 16), 1.0)
    new = narrow(space_of(RATE), trials, {"optimizer.lr": (0.0, 3.0)})["optimizer.lr"]
    assert new.domain.high == 3.0


def test_growing_finds_an_optimum_outside_the_range():
    space, best = space_of(RATE), 50.0
    for _ in range(6):
        domain = space["optimizer.lr"].domain
        space = narrow(space, scored("optimizer.lr", grid(domain.low, domain.high, 8), best))
    assert space["optimizer.lr"].domain.low < best < space["optimizer.lr"].domain.high


def test_narrow_respects_what_a_key_can_be():
    space = space_of({"model.dropout": {"low": 0.0, "high": 0.5}})
    trials = [Scored({"model.dropout": value}, -value) for value in (0.0, 0.1, 0.2, 0.4, 0.5)]
    new = narrow(space, trials)["model.dropout"]
    assert new.domain.low == 0.0 and new.domain.high < 0.5
    assert at_borders(space, {"model.dropout": 0.0}) == {}
    assert at_borders(space, {"model.dropout": 0.5}) == {"model.dropout": "high"}


def test_narrow_keeps_whole_numbers_whole():
    space = space_of({"model.depth": {"low": 1, "high": 16}})
    new = narrow(space, [Scored({"model.depth": d}, -abs(d - 6)) for d in range(1, 17)])["model.depth"].domain
    assert isinstance(new.low, int) and isinstance(new.high, int) and 1 < new.low <= 6 <= new.high < 16


def test_narrow_drops_choices_that_no_good_trial_has():
    space = space_of({"model.width": {"choices": [8, 16, 32]}})
    trials = [Scored({"model.width": w}, score) for w, score in [(8, 0.1), (8, 0.2), (16, 0.9), (32, 0.8), (16, 0.85)]]
    new = narrow(space, trials)["model.width"]
    assert new.domain.options == (16, 32)
    assert "dropped: 8" in new.reason


def test_narrow_without_a_scored_trial_changes_nothing():
    assert narrow(space_of(RATE), []) == space_of(RATE)


def test_narrow_keeps_a_key_that_no_good_trial_has():
    space = space_of({**RATE, "optimizer.momentum": {"low": 0.8, "high": 0.9, "when": {"optimizer.name": "sgd"}}})
    new = narrow(space, scored("optimizer.lr", grid(1e-4, 1, 8), 1e-2))["optimizer.momentum"]
    assert new.domain == Range(0.8, 0.9) and new.reason == "kept: no good trial had it"


PAIR = {**RATE, "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True}}
BATCH = {"train.batch_size": {"choices": [32, 64, 128, 256, 512, 1024]}}


def objective(space, count, score):
    return [Scored(params, score(params)) for params in design(space, "sobol", 3, count, {})]


def ridge(params):
    """A rate and a decay whose product is what matters; every point of the ridge is as good."""
    return -abs(math.log10(params["optimizer.lr"] * params["optimizer.weight_decay"] / 1e-6))


def peak(params):
    rate, decay = math.log10(params["optimizer.lr"] / 1e-2), math.log10(params["optimizer.weight_decay"] / 1e-4)
    return -(rate**2) - decay**2


def test_keys_that_move_together_are_not_cut_apart():
    space = space_of(PAIR)
    trials = objective(space, 32, ridge)
    new = narrow(space, trials)
    best = sorted(trials, key=lambda trial: -trial.score)[:11]  # the best third
    for key in space.keys:
        domain = new[key].domain
        assert all(domain.low <= trial.params[key] <= domain.high for trial in best)
        assert "among the best 11 (rank correlation -0.9" in new[key].reason
    assert "moves with optimizer.weight_decay" in new["optimizer.lr"].reason
    along = math.log10(new["optimizer.lr"].domain.high / new["optimizer.lr"].domain.low)
    assert along > 3  # of four decades: the ridge is as long as the space


def test_keys_that_do_not_move_together_are_cut_each_by_itself():
    space = space_of(PAIR)
    new = narrow(space, objective(space, 32, peak))
    for key in space.keys:
        assert "moves with" not in new[key].reason
        assert math.log10(new[key].domain.high / new[key].domain.low) < 2.8


def test_a_rate_that_grows_with_the_batch_keeps_all_batches_of_the_ridge():
    space = space_of({**RATE, **BATCH})
    score = lambda params: -abs(math.log2(params["optimizer.lr"] / params["train.batch_size"] * 2**10))  # noqa: E731
    trials = objective(space, 36, score)
    new = narrow(space, trials)
    best = sorted(trials, key=lambda trial: -trial.score)[:12]
    assert {trial.params["train.batch_size"] for trial in best} <= set(new["train.batch_size"].domain.options)
    assert "moves with optimizer.lr among the best 12 (rank correlation +0" in new["train.batch_size"].reason


@pytest.mark.parametrize("count", [5, 6])
def test_a_ridge_needs_six_trials(count):
    values = grid(1e-4, 1, count)
    trials = [Scored({"optimizer.lr": lr, "optimizer.weight_decay": 1e-6 / lr}, 0.5) for lr in values]
    assert set(tied(space_of(PAIR), trials)) == (set(PAIR) if count == 6 else set())


def test_choices_without_an_order_are_tied_to_nothing():
    space = space_of({**RATE, "optimizer.name": {"choices": ["sgd", "adam"]}})
    trials = [Scored({"optimizer.lr": 10.0**-n, "optimizer.name": ("sgd", "adam")[n % 2]}, 1.0) for n in range(8)]
    assert tied(space, trials) == {}


def test_every_good_value_stays_inside():
    trials = scored("optimizer.lr", grid(1e-4, 1, 16), 3e-2)
    domain = narrow(space_of(RATE), trials)["optimizer.lr"].domain
    best = sorted(trials, key=lambda trial: -trial.score)[:4]
    assert all(domain.low <= trial.params["optimizer.lr"] <= domain.high for trial in best)
