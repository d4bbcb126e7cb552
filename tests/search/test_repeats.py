"""Oracle: a world in which the truth about every configuration is known (searched_world); the rest by hand."""

import itertools

import pytest

from tests.search.search_cases import bits
from tests.search.searched_world import World
from tuner.core.result import Record, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.search.finalists import Finalist
from tuner.search.repeats import is_beaten, lacking


def run(config, seed, score, right=None):
    spec = TrialSpec(tables={}, overrides={"optimizer.lr": 0.1 * (config + 1)}, seed=seed)
    evidence = {} if right is None else {"val_predictions": bits(right)}
    status = "diverged" if score is None else "completed"
    return Record(WorkItem(spec, 10 * seed + config), TrialResult(spec.id, None, status, [], evidence, score, 1))


def repeated(scores, seeds=3):
    """Run rounds of repeats; scores[config][seed]. Return what each round asked for."""
    chosen = [run(config, 0, row[0]) for config, row in enumerate(scores)]
    records, rounds = list(chosen), []
    while asked := lacking(records, chosen, 0, seeds):
        rounds.append(asked)
        records += [run(place, seed, scores[place][seed]) for place, seed in asked]
    return rounds


def test_where_two_lie_close_both_get_all_seeds_round_by_round():
    close = [[0.90, 0.91, 0.89, 0.90, 0.9], [0.89, 0.90, 0.91, 0.90, 0.9]]
    first = [(0, 1), (1, 1), (0, 2), (1, 2)]
    assert repeated(close, seeds=5) == [first, [(0, 3), (1, 3)], [(0, 4), (1, 4)]]
    assert repeated(close, seeds=3) == [first] and repeated(close, seeds=2) == [first[:2]]


def test_a_finalist_that_is_beaten_gets_no_more_seeds_and_the_other_the_rest_of_its_own_at_once():
    clear = [[0.900, 0.901, 0.9, 0.9, 0.9], [0.800, 0.801, 0.8]]
    assert repeated(clear, seeds=5) == [[(0, 1), (1, 1), (0, 2), (1, 2)], [(0, 3), (0, 4)]]


def test_a_finalist_that_lost_a_seed_is_beaten_by_one_that_did_not():
    assert repeated([[0.90, None, 0.9], [0.89] * 4], seeds=4) == [[(0, 1), (1, 1), (0, 2), (1, 2)], [(1, 3)]]


def test_one_finalist_gets_its_seeds_at_once_and_none_gets_none():
    assert repeated([[0.9] * 4], seeds=4) == [[(0, 1), (0, 2), (0, 3)]]
    assert repeated([[0.9], [0.8]], seeds=1) == []
    assert lacking([], [], 0, 3) == []


def test_a_round_is_the_same_whichever_of_its_runs_are_there():
    scores = [[0.900, 0.901, 0.9, 0.9, 0.9], [0.800, 0.801, 0.8], [0.899, 0.902, 0.9, 0.9, 0.9]]
    chosen = [run(config, 0, row[0]) for config, row in enumerate(scores)]
    records = list(chosen)
    while asked := lacking(records, chosen, 0, 5):
        new = [run(place, seed, scores[place][seed]) for place, seed in asked]
        for some in itertools.chain.from_iterable(itertools.combinations(new, n) for n in range(len(new))):
            there = {(record.number % 10, record.item.spec.seed) for record in some}
            assert lacking([*some, *records], chosen, 0, 5) == [pair for pair in asked if pair not in there]
        records += new
    assert {(r.number % 10, r.item.spec.seed) for r in records if r.item.spec.seed > 2} == {
        (0, 3),
        (0, 4),
        (2, 3),
        (2, 4),
    }


@pytest.mark.parametrize(("gap", "beaten"), [(0.019, False), (0.021, True)])
def test_means_must_differ_by_students_t_for_as_few_seeds_as_there_are(gap, beaten):
    def finalist(config, mean):  # standard deviation of 0.003 in each; t of 4 degrees at 5 % in two looks is 3.495
        return Finalist(tuple(run(config, s, mean + d) for s, d in enumerate((-0.003, 0.0, 0.003))), 0, 0)

    gap *= 3.495 * 0.003 * (2 / 3) ** 0.5 / 0.02
    assert is_beaten(finalist(0, 0.9), finalist(1, 0.9 - gap), looks=2) is beaten


def test_examples_that_are_too_few_leave_a_doubt_that_seeds_alone_do_not():
    def finalist(config, right, n):
        scores = ((right + extra) / n for extra in (0, 1))
        answers = [1] * right + [0] * (n - right)
        return Finalist(tuple(run(config, s, score, right=answers) for s, score in enumerate(scores)), 0, 0)

    assert not is_beaten(finalist(0, 18, 20), finalist(1, 13, 20), looks=1)  # p = 0.0625: five examples, all one way
    assert is_beaten(finalist(0, 180, 200), finalist(1, 130, 200), looks=1)


def test_equal_configurations_are_seldom_told_apart_and_unequal_ones_save_repeats(monkeypatch):
    monkeypatch.setattr("tests.search.searched_world.NEW", 10)

    def repeats(merits, worlds):
        counts = []
        for seed in range(worlds):
            world = World(seed, merits=merits, val_n=1000, epochs=3)
            world.search(finalists=2, seeds=6)
            counts.append(len(world.repeats))
        return counts

    equal, unequal = repeats((0.9, 0.9), 60), repeats((0.9, 0.2), 20)
    assert sum(count < 10 for count in equal) <= 6  # 5 % of 60 by chance, and two standard errors
    assert sum(unequal) <= 8 * len(unequal)
