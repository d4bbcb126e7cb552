"""What a search adds to what runs, while it runs."""

from types import SimpleNamespace

import pytest

from tests.replay import ReplayExecutor, epochs
from tests.search.search_cases import cut, recipe_of
from tuner.core.result import Record
from tuner.core.store import StageDir
from tuner.core.trial import WorkItem
from tuner.search.halving import Climb, Ladder, next_items
from tuner.stages import Inputs
from tuner.workflow import batch
from tuner.workflow.batch import Batch

PLAN = Climb(4, 4, Ladder((3,), 0.5, 1))


def make(params, number):
    return WorkItem(Inputs().spec(recipe_of(), params, horizon_epochs=9), number)


def rates(index, numbers, before):
    return [{"optimizer.lr": 0.001 * (number + 1)} for number in numbers]


def result_of(item):
    (result,) = ReplayExecutor(cut(lambda item: epochs([0.5 + 0.01 * item.number] * 9))).run([item])
    return Record(item, result)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A function that begins a batch of four trials of which the later ones are the better ones."""
    monkeypatch.setattr(batch, "PAUSE", 0)

    def begin(finished=(), searches=True):
        def plan(history):
            return next_items(PLAN, history, rates, make)

        work = SimpleNamespace(folder=StageDir(tmp_path), plan=plan)
        return Batch(work, [], plan([]), {record.item.key: record.result for record in finished}, searches)

    return begin


def told(items):
    return [(item.number, item.until_epoch) for item in items]


def test_a_trial_that_nothing_can_stop_is_added_once(begun):
    found = begun()
    assert told(found.todo) == [(number, 3) for number in range(4)]
    added = []
    for item in found.todo[:0:-1]:  # 3, 2, 1
        found.end(result_of(item))
        added.append(told(found.more()))
    assert added == [[], [], [(3, None)]]
    assert told(found.todo)[-1] == (3, None)


def test_nothing_is_added_where_nothing_runs_or_the_plan_is_no_search(begun):
    found = begun()
    for item in list(found.todo):
        found.end(result_of(item))
    assert found.more() == []
    other = begun(searches=False)
    for item in other.todo[1:]:
        other.end(result_of(item))
    assert other.more() == []


def test_what_an_earlier_command_has_finished_is_not_run_again_and_what_follows_from_it_is_begun(begun):
    first = [result_of(item) for item in begun().todo]
    late = result_of(make({"optimizer.lr": 0.001 * 4}, 3))
    found = begun(finished=[*first[1:], late])
    assert told(found.todo) == [(0, 3)]
    assert told(record.item for record in found.there) == [(1, 3), (2, 3), (3, 3), (3, None)]


def test_the_epochs_of_what_is_added_are_counted_from_where_it_goes_on(begun):
    found = begun()
    epochs_of = found.epochs(in_all=24)
    assert epochs_of.of == {number: (0, 3) for number in range(4)}
    for item in found.todo[1:]:
        found.end(result_of(item))
    found.more()
    assert epochs_of.of[3] == (3, 9)


def test_the_plan_is_not_asked_again_at_once_where_asking_takes_long(begun, monkeypatch):
    monkeypatch.setattr(batch, "PAUSE", 1e9)
    found = begun()
    found.end(result_of(found.todo[3]))
    assert found.more() == []
    for item in found.todo[1:3]:
        found.end(result_of(item))
    assert found.more() == [], "3 could go on, and will when the others have ended"
