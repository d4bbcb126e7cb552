from dataclasses import replace

import pytest

from tests.replay import epochs
from tests.search.search_cases import recipe_of
from tuner.core.result import Record
from tuner.core.trial import WorkItem
from tuner.search.confirm import refuted
from tuner.search.left_behind import left_behind
from tuner.stages import Inputs


def trials(*pairs):
    """Return one record per (parameters, accuracy); the first is the recipe's own configuration."""
    found = []
    for number, (params, accuracy) in enumerate(pairs):
        spec = Inputs().spec(recipe_of(), params, seed=0, horizon_epochs=2)
        result = replace(epochs([accuracy / 2, accuracy]), id=spec.id, score=accuracy, status="completed", best_epoch=2)
        found.append(Record(WorkItem(spec, number), result))
    return found


def test_a_value_that_no_good_trial_shares_is_left_behind():
    found = left_behind(
        trials(({"model.dropout": 0.9}, 0.3), ({"model.dropout": 0.1}, 0.95), ({"model.dropout": 0.9}, 0.35))
    )
    assert found["own_accuracy"] == 0.3
    assert found["left_behind"] == {"model.dropout": {"own": 0.9, "best": 0.1}}


def test_a_value_that_a_good_trial_shares_is_not():
    own, other = {"model.dropout": 0.9, "model.width": 16}, {"model.dropout": 0.1, "model.width": 16}
    found = left_behind(trials((own, 0.3), (other, 0.95), ({**own, "model.width": 32}, 0.93)))
    assert found["left_behind"] == {}


def test_a_number_between_good_values_counts_as_shared():
    key = "optimizer.weight_decay"
    assert left_behind(trials(({key: 1e-3}, 0.5), ({key: 1e-4}, 0.95), ({key: 1e-2}, 0.94)))["left_behind"] == {}


def test_the_rate_is_left_to_the_sweep():
    assert left_behind(trials(({"optimizer.lr": 1.0}, 0.1), ({"optimizer.lr": 0.01}, 0.95)))["left_behind"] == {}


def run(changes, helps, gain=0.0):
    return {"changes": changes, "helps": helps, "gain": gain}


@pytest.mark.parametrize(
    ("confirmed", "answer"),
    [
        ({"wider": run({"model.width": 128}, False)}, True),
        ({"wider": run({"model.width": 128}, True)}, False),
        ({"narrower": run({"model.width": 32}, False)}, False),
        ({"wider": run({"model.width": 128}, False, None)}, False),
        ({}, False),
        ({"both": run({"model.width": 128, "optimizer.lr": 1.0}, False)}, False),
        (
            {"wider": run({"model.width": 128}, False), "both": run({"model.width": 128, "optimizer.lr": 1.0}, True)},
            False,
        ),
    ],
)
def test_a_change_is_refuted_by_a_run_that_turned_the_same_key_the_same_way_for_nothing(confirmed, answer):
    assert refuted("model.width", 64, 128, confirmed) is answer
