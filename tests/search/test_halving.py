import itertools
import math
import random
from dataclasses import replace

import pytest

from tests.replay import ReplayExecutor, epochs
from tests.search.search_cases import cut, recipe_of
from tuner.core.result import Record, TrialResult
from tuner.core.trial import WorkItem, canonical_json
from tuner.search.halving import Climb, Ladder, fine_rungs, ladder, next_items, rank, read_rungs, saved
from tuner.stages import Inputs

RECIPE = recipe_of()


def make(params, number):
    return WorkItem(Inputs().spec(RECIPE, params, horizon_epochs=9), number)


def numbered(index, numbers, before):
    return [{"optimizer.lr": 0.001 * (number + 1)} for number in numbers]


def climb(plan, script, configure=numbered):
    """Return [(number, until_epoch), ...] per generation, and all records."""
    records, asked = [], []
    while items := next_items(plan, records, configure, make):
        asked.append([(item.number, item.until_epoch) for item in items])
        records += [Record(item, result) for item, result in zip(items, ReplayExecutor(script).run(items), strict=True)]
    return asked, records


def by_number(item):
    """The higher the number the better, from the first epoch on."""
    return cut(lambda item: epochs([0.5 + 0.01 * item.number] * 9))(item)


def test_each_rung_keeps_its_share():
    asked, _ = climb(Climb(8, 8, Ladder((1, 3), 0.5, 2)), by_number)
    assert asked[0] == [(number, 1) for number in range(8)]
    assert asked[1] == [(number, 3) for number in (4, 5, 6, 7)]
    assert asked[2] == [(number, None) for number in (6, 7)]


def test_at_least_so_many_go_on():
    assert [Ladder((1,), 0.25, 3).passing(reached) for reached in (1, 4, 12, 13, 16)] == [3, 3, 3, 4, 4]
    assert Ladder((1,), 0.1, 1).passing(30) == 3  # 0.1 * 30 is a little more than 3 in floating point


def test_a_later_generation_is_compared_with_the_earlier_ones():
    def falling(item):
        return cut(lambda item: epochs([0.9 - 0.01 * item.number] * 9))(item)

    asked, _ = climb(Climb(8, 4, Ladder((3,), 0.5, 1)), falling)
    assert asked == [
        [(number, 3) for number in range(4)],
        [(0, None), (1, None), *((number, 3) for number in range(4, 8))],  # all worse than the best half of the eight
    ]


def test_the_exempt_always_go_on_unless_they_diverge():
    def script(item):
        return TrialResult("", None, "diverged") if item.number == 1 else by_number(item)

    asked, _ = climb(Climb(6, 6, Ladder((3,), 0.3, 1), exempt=2), script)
    assert asked == [
        [(0, None), (1, None), (2, 3), (3, 3), (4, 3), (5, 3)],  # to the horizon at once
        [(4, None), (5, None)],
    ]


def test_the_exempt_count_at_a_rung_with_what_they_had_there():
    def late(item):
        """Trials 0 and 1 are the worst of all at epoch 3, and the best at epoch 9."""
        rising = [0.1, 0.1, 0.1, *[0.95] * 6]
        return cut(lambda item: epochs(rising if item.number < 2 else [0.5 + 0.01 * item.number] * 9))(item)

    asked, _ = climb(Climb(6, 6, Ladder((3,), 0.5, 1), exempt=2), late)
    assert asked[1] == [(3, None), (4, None), (5, None)]

    def early(item):
        falling = [0.95, 0.95, 0.95, *[0.1] * 6]
        return cut(lambda item: epochs(falling if item.number < 2 else [0.5 + 0.01 * item.number] * 9))(item)

    asked, _ = climb(Climb(6, 6, Ladder((3,), 0.5, 1), exempt=2), early)
    assert asked[1] == [(5, None)]


def test_an_exempt_trial_that_an_older_search_left_at_a_rung_goes_on():
    plan = Climb(4, 4, Ladder((3,), 0.5, 1), exempt=1)
    items = [replace(make(*numbered(0, [number], ())[:1], number), until_epoch=3) for number in range(4)]
    history = [Record(item, result) for item, result in zip(items, ReplayExecutor(by_number).run(items), strict=True)]
    found = next_items(plan, history, numbered, make)
    assert [(item.number, item.until_epoch) for item in found] == [(0, None), (3, None)], "3 whatever 0 shows"


def test_there_are_no_rungs_where_nothing_could_be_stopped():
    assert climb(Climb(2, 2, Ladder((3,), 0.5, 2)), by_number)[0] == [[(0, None), (1, None)]]
    assert climb(Climb(3, 3, Ladder((3,), 0.5, 1), exempt=3), by_number)[0] == [[(n, None) for n in range(3)]]


def test_a_space_without_more_configurations_ends_the_search():
    def configure(index, numbers, before):
        return numbered(index, numbers, before)[: max(0, 5 - numbers[0])]

    asked, _ = climb(Climb(12, 4, Ladder()), by_number, configure)
    assert asked == [[(number, None) for number in range(4)], [(4, None)]]


def test_a_generation_learns_from_the_first_rung_of_the_one_before_and_from_all_of_those_before_that():
    seen = {}

    def configure(index, numbers, before):
        seen[index] = [(record.number, record.item.until_epoch) for record in before]
        return numbered(index, numbers, before)

    climb(Climb(6, 2, Ladder((3,), 0.5, 1)), by_number, configure)
    assert seen == {0: [], 1: [(0, 3), (1, 3)], 2: [(0, 3), (1, None), (2, 3), (3, 3)]}


def test_a_generation_begins_while_the_best_of_the_one_before_train_on_but_not_two_ahead():
    plan = Climb(6, 2, Ladder((3,), 0.5, 1))
    records = []

    def asked():
        return [(item.number, item.until_epoch) for item in next_items(plan, records, numbered, make)]

    def run(*which):
        items = [item for item in next_items(plan, records, numbered, make) if item.number in which]
        records.extend(Record(item, r) for item, r in zip(items, ReplayExecutor(by_number).run(items), strict=True))

    run(0, 1)
    assert asked() == [(1, None), (2, 3), (3, 3)]
    run(2, 3)
    assert asked() == [(1, None), (2, None), (3, None)], "2 of 4 go on: these, whatever 1 shows at the end"
    run(1)
    assert asked() == [(2, None), (3, None), (4, 3), (5, 3)]


def test_when_all_diverge_nothing_goes_on():
    asked, _ = climb(Climb(4, 4, Ladder((1, 3), 0.5, 2)), lambda item: TrialResult("", None, "diverged"))
    assert asked == [[(number, 1) for number in range(4)]]


@pytest.mark.parametrize("score", [None, math.nan, math.inf])
def test_a_score_that_is_not_finite_ranks_last(score):
    item = make({"optimizer.lr": 0.1}, 0)
    rows = [{"step": 1, "epoch": 1, "split": "val", "loss": 9.0, "accuracy": -5.0}]
    good = Record(make({"optimizer.lr": 0.2}, 1), TrialResult("b", 1, "stopped", rows, score=-5.0))
    assert rank(good) < rank(Record(item, TrialResult("a", 1, "stopped", score=score)))


def test_the_order_of_the_history_does_not_matter():
    plan = Climb(5, 5, Ladder((1, 3), 0.5, 1))
    _, records = climb(plan, by_number)
    first = [record for record in records if record.item.until_epoch == 1]
    items = {tuple(next_items(plan, order, numbered, make)[i].number for i in range(3)) for order in permuted(first)}
    assert items == {(2, 3, 4)}


def beside_each_other(plan, script, workers, seed, waits=False):
    """Run a climb with so many workers and durations that differ; return its records, and the time they waited.

    `waits`: what comes next is asked for when everything asked before has ended.
    """

    def learnt(index, numbers, before):
        told = canonical_json([record.to_json() for record in before])
        return [{"optimizer.lr": random.Random(f"{told}-{number}").uniform(0.1, 1)} for number in numbers]

    random_of = random.Random(seed)
    records, waiting, running, now, idle, asked = [], [], [], 0.0, 0.0, set()
    while True:
        if not waits or not (waiting or running):
            new = [item for item in next_items(plan, records, learnt, make) if item.key not in asked]
            waiting += new
            asked |= {item.key for item in new}
        while waiting and len(running) < workers:
            running.append((now + random_of.uniform(0.5, 1.5), len(asked), waiting.pop(0)))
        if not running:
            return sorted(records, key=lambda record: record.order), idle
        ended = min(running, key=lambda one: one[0])
        idle += (workers - len(running)) * (ended[0] - now)
        running.remove(ended)
        now = ended[0]
        (result,) = ReplayExecutor(script).run([ended[2]])
        records.append(Record(ended[2], result))


def mixed(seed):
    """Trials that rise, fall, tie, diverge and fail, drawn by number."""

    def script(item):
        drawn = random.Random(f"{seed}-{item.number}")
        if drawn.random() < 0.1:
            return TrialResult("", None, "diverged")
        values = [round(drawn.uniform(0.3, 0.9), 1) for _ in range(9)]
        return cut(lambda item: epochs(values))(item)

    return script


@pytest.mark.parametrize("seed", range(30))
def test_what_is_run_does_not_depend_on_the_workers_nor_on_what_they_wait_for(seed):
    plans = [
        Climb(16, 16, Ladder((1, 3), 0.5, 3), exempt=1),
        Climb(12, 4, Ladder((5,), 0.5, 2), exempt=3),
        Climb(9, 4, Ladder((1, 2, 4), 0.4, 1)),
    ]
    for plan in plans:
        alone, _ = beside_each_other(plan, mixed(seed), 1, seed, waits=True)
        for workers in (2, 5):
            found, _ = beside_each_other(plan, mixed(seed), workers, seed + workers)
            assert [record.to_json() for record in found] == [record.to_json() for record in alone]


def test_workers_wait_less_where_a_trial_goes_on_as_soon_as_nothing_can_stop_it():
    plan = Climb(16, 16, Ladder((1, 3), 0.5, 3), exempt=1)
    both = [[beside_each_other(plan, mixed(s), 4, s, waits)[1] for s in range(30)] for waits in (False, True)]
    assert sum(both[0]) < 0.6 * sum(both[1])


def test_a_trial_goes_on_while_others_run_once_they_cannot_push_it_out():
    plan = Climb(4, 4, Ladder((3,), 0.5, 1))
    items = next_items(plan, [], numbered, make)
    results = list(ReplayExecutor(by_number).run(items))
    records = [Record(item, result) for item, result in zip(items, results, strict=True)]
    three = [(item.number, item.until_epoch) for item in next_items(plan, records[1:], numbered, make)]
    assert three == [(0, 3), (3, None)], "2 of 4 go on: 3 is among them, 2 if 0 is worse"
    two = [(item.number, item.until_epoch) for item in next_items(plan, records[2:], numbered, make)]
    assert two == [(0, 3), (1, 3)]


def permuted(records):
    return list(itertools.permutations(records))


def test_what_was_saved_counts_each_trial_once():
    _, records = climb(Climb(8, 8, Ladder((1, 3), 0.5, 2)), by_number)
    assert saved(records, 9) == {"epochs_run": 4 * 1 + 2 * 3 + 2 * 9, "epochs_full": 8 * 9}


def test_a_diverged_trial_saves_nothing():
    curve = [{"step": 3, "epoch": 2, "split": "train", "loss": None}]
    record = Record(make({"optimizer.lr": 1.0}, 0), TrialResult("a", None, "diverged", curve))
    assert saved([record], 9) == {"epochs_run": 2, "epochs_full": 2}


def test_the_setting_is_read_from_text_lists_and_numbers():
    assert [read_rungs(value) for value in ("auto", "none", "1, 2", [1, 2], 5, "5")] == [
        "auto",
        "none",
        "1,2",
        "1,2",
        "5",
        "5",
    ]


def test_rungs_at_or_beyond_the_horizon_are_none():
    assert ladder("1,2,5", [], 5, 0.5, 2).rungs == (1, 2)
    assert ladder("none", [1], 5, 0.5, 2).rungs == ()
    assert [fine_rungs(epochs) for epochs in (5, 6, 15, 20)] == [[], [3], [8], [10]]
