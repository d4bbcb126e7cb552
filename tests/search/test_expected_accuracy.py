"""Oracle: a world in which the truth about every checkpoint is known (searched_world)."""

import pytest

from tests.replay import epochs
from tests.search.search_cases import bits
from tests.search.searched_world import World, coverage
from tuner.core.result import Record, TrialResult
from tuner.core.statistics import expected_maximum, wilson
from tuner.core.trial import TrialSpec, WorkItem
from tuner.search.expected_accuracy import Estimate, epoch_optimism, estimate, own_noise
from tuner.search.finalists import Finalist, ranked, simplest_first


def record(number, score, seed=0, right=None, curve=None, **evidence):
    item = WorkItem(TrialSpec(tables={}, overrides={"optimizer.lr": float(number)}, seed=seed), number)
    evidence = evidence | (bits(right) if right is not None else {})
    answer = epochs(curve or [score], evidence={"val_predictions": evidence})
    return Record(item, TrialResult(item.spec.id, None, "completed", answer.curve, answer.evidence, score, 1))


@pytest.mark.parametrize(
    "world",
    [
        {},  # eight configurations that are equal: all that the best has more is chance
        {"merits": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9)},
        {"own": 1.0, "config": 0.6, "epoch": 0.5},
        {"seeds": 1},
    ],
    ids=["equal", "spread", "noisy", "one seed"],
)
def test_the_interval_holds_the_truth_about_the_checkpoint_and_the_naive_one_does_not(world, monkeypatch):
    monkeypatch.setattr("tests.search.searched_world.NEW", 4000)
    inside, naive, bias, naive_bias, _ = coverage(40, **world)
    assert inside >= 0.92  # 37 of 40: 95 % less one standard error
    assert naive < 0.87 and naive_bias > 0.02
    assert abs(bias) < 0.008  # its standard error is 0.003


def test_an_estimate_is_the_same_whenever_it_is_made():
    assert World(3).search()[0] == World(3).search()[0]


def test_one_configuration_is_not_chosen_among_others():
    only = record(0, 0.9, right=[1] * 90 + [0] * 10)
    told = estimate(ranked([only], 0, 1), [only], 1, 100, 0)
    assert told.selection == 0.0 and told.interval == pytest.approx(wilson(0.9, 100))


def test_of_one_seed_without_answers_all_errors_count_as_independent():
    trials = [record(number, 0.9) for number in range(8)]
    told = estimate(ranked(trials, 0, 1), trials, 8, 400, 0)
    assert told.selection == pytest.approx(expected_maximum(8) * 0.015)  # sqrt(0.9 * 0.1 / 400)
    assert told.expected == pytest.approx(0.9 - told.selection) and told.interval == pytest.approx(
        wilson(told.expected, 400)
    )


def test_where_all_answer_alike_nothing_is_gained_by_choosing():
    same = [1] * 90 + [0] * 10
    trials = [record(number, 0.9, right=same) for number in range(8)]
    assert estimate(ranked(trials, 0, 1), trials, 8, 100, 0).selection == 0.0


def test_the_basis_is_the_new_seeds():
    trials = [record(0, 0.96), record(0, 0.9, seed=1), record(0, 0.92, seed=2)]
    told = estimate(ranked(trials, 0, 1), trials[:1], 1, None, 0)
    assert (told.basis, told.basis_runs) == (pytest.approx(0.91), 2)
    low, high = told.interval  # t with two degrees of freedom: 4.303; std 0.030551, of one seed and the mean of two
    assert (high - low) / 2 == pytest.approx(4.3027 * 0.030551 * 1.5**0.5, rel=1e-3)


def test_one_seed_of_another_measure_has_no_interval():
    assert estimate(ranked([record(0, -3.5)], 0, 1), [record(0, -3.5)], 1, None, 0).interval is None


def test_the_parts_of_the_interval_add_in_squares():
    told = Estimate(0.9, 0.92, 2, 0.015, 0.005, (0.87, 0.93), 0.04)
    assert told.interval == pytest.approx((0.9 - 0.05, 0.9 + 0.05))


def test_own_noise_is_half_of_what_two_trials_differ_by():
    a, b = [1] * 80 + [0] * 20, [1] * 70 + [0] * 10 + [1] * 10 + [0] * 10  # 20 of 100 answered by just one
    pair = Finalist((record(0, 0.8, right=a), record(0, 0.8, seed=1, right=b)), 0, 0)
    assert own_noise([pair], [], 100) == pytest.approx((0.2 / 2 / 100) ** 0.5)


@pytest.mark.parametrize(
    ("curve", "best", "noise", "expected"),
    [
        ([0.90, 0.90, 0.93, 0.90, 0.90], 3, 1.0, 0.03),  # stands out alone
        ([0.90, 0.90, 0.93, 0.90, 0.90], 3, 0.01, 0.01163),  # five normal draws: their largest is 1.163 on average
        ([0.80, 0.82, 0.84, 0.86, 0.88], 5, 1.0, 0.0),  # still rising
        ([0.90, 0.93, 0.90], 2, 1.0, 0.0),  # too short to tell
    ],
)
def test_what_the_best_epoch_has_more_than_the_trend(curve, best, noise, expected):
    one = record(0, max(curve), curve=curve)
    one = Record(one.item, TrialResult("", None, "completed", one.result.curve, {}, max(curve), best))
    assert epoch_optimism(one, noise) == pytest.approx(expected, abs=1e-5)


def test_the_simplest_of_several_equals_is_put_first():
    trials = [record(n, 0.9 - n / 1000, right=[1, 0] * 50, parameters=p) for n, p in enumerate((1000, 500, 400))]
    found, reason = simplest_first(ranked(trials, 0, 3))
    assert [finalist.parameters for finalist in found] == [400, 1000, 500]
    assert reason == "it cannot be distinguished from lr 0 and has 60 % fewer parameters"


@pytest.mark.parametrize(("worse", "taken"), [(0.004, 500), (0.006, 1000)])
def test_a_simpler_one_is_taken_at_half_a_point_at_most_though_the_val_split_shows_no_difference(worse, taken):
    sizes = {0.9: 1000, 0.9 - worse: 500}
    trials = [record(n, s, right=[1, 0] * 50, parameters=p) for n, (s, p) in enumerate(sizes.items())]
    found, _ = simplest_first(ranked(trials, 0, 2))
    assert found[0].parameters == taken


@pytest.mark.parametrize("sizes", [(None, None), (1000, None), (None, 500)])
def test_without_sizes_the_order_stays(sizes):
    known = [{} if size is None else {"parameters": size} for size in sizes]
    trials = [record(n, 0.9, right=[1, 0] * 50, **size) for n, size in enumerate(known)]
    found, reason = simplest_first(ranked(trials, 0, 2))
    assert [finalist.best.number for finalist in found] == [0, 1] and reason == ""
