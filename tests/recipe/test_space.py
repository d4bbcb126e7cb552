import json

import pytest

from tuner.core.errors import UsageError
from tuner.recipe.space import Auto, Choices, Range, Space, parse_space, space_of

SEARCH = {
    "optimizer.lr": "auto",
    "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "model.width": {"choices": [16, 32]},
    "model.depth": {"low": 1, "high": 4},
    "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.25},
    "optimizer.name": {"choices": ["sgd", "adam"]},
    "optimizer.momentum": {"low": 0, "high": 1, "when": {"optimizer.name": "sgd"}},
}


@pytest.mark.parametrize("search", [{}, {"optimizer.lr": "auto"}])
def test_no_table_searches_the_rate_alone(search):
    space, problems = parse_space(search)
    assert (space.keys, space["optimizer.lr"].domain, problems) == (("optimizer.lr",), Auto(), [])


def test_parse_reads_every_kind_of_domain():
    space = space_of(SEARCH)
    assert space["optimizer.weight_decay"].domain == Range(1e-6, 1e-2, log=True)
    assert space["model.width"].domain == Choices((16, 32))
    assert space["model.depth"].domain == Range(1, 4, integer=True)
    assert space["model.dropout"].domain.values() == [0.0, 0.25, 0.5]
    assert space["optimizer.momentum"].domain == Range(0.0, 1.0)  # a share, though 0 and 1 are written
    assert space["optimizer.momentum"].when == {"optimizer.name": "sgd"}


def test_space_survives_json():
    space = space_of(SEARCH).with_rate(1e-3, 1e-1, "why")
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr", {"low": 1, "high": 2}, "not a dotted key of the recipe"),
        ("optimizr.lr", {"low": 1, "high": 2}, "did you mean 'optimizer.lr'"),
        ("stages.fine", {"low": 1, "high": 2}, "no table that a trial depends on"),
        ("train.batchsize", {"choices": [1, 2]}, "did you mean 'batch_size'"),
        ("train.monitor", {"choices": ["a", "b"]}, "cannot be searched: scores must mean the same"),
        ("data.split_seed", {"choices": [0, 1]}, "cannot be searched: scores on different splits"),
        ("model.width", "auto", "no range is known of model.width that 'auto' could stand for"),
        ("model.width", 3, "expected { low, high }"),
        ("model.width", {"choices": []}, "a list that is not empty"),
        ("model.width", {"choices": [1, 1]}, "a value is given twice"),
        ("model.width", {"choices": [1], "low": 3}, "choices and low exclude each other"),
        ("model.width", {"low": 3}, "high is missing"),
        ("model.width", {"low": 4, "high": 4}, "low must be less than high"),
        ("model.width", {"low": 4, "high": 1}, "low must be less than high"),
        ("optimizer.lr", {"low": 0, "high": 1, "log": True}, "must begin above 0"),
        ("optimizer.lr", {"low": 0.1, "high": 1, "log": True, "step": 0.1}, "log and step exclude each other"),
        ("optimizer.lr", {"low": float("inf"), "high": 1}, "low: expected a finite number"),
        ("optimizer.lr", {"low": 0.1, "high": 1, "stp": 1}, "unknown field 'stp' - did you mean 'step'"),
        ("optimizer.lr", {"low": 0.1, "high": 1, "step": 0}, "a number greater than 0"),
        ("model.depth", {"low": 0.5, "high": 2, "int": True}, "needs whole numbers"),
        ("model.depth", {"low": 1, "high": 2, "when": {"optimizr.name": "sgd"}}, "when: optimizr.name"),
        ("model.depth", {"low": 1, "high": 2, "when": {"model.depth": 1}}, "leads back to the key itself"),
        ("model.depth", {"low": 1, "high": 2, "when": "sgd"}, "when: expected"),
    ],
)
def test_parse_names_the_problem(key, value, message):
    _, problems = parse_space({key: value})
    assert problems[0][0] == key
    assert message in " | ".join(text for _, text in problems)


def test_parse_reports_every_problem_at_once():
    _, problems = parse_space({"lr": 3, "model.width": {"choices": []}, "optimizer.lr": {"low": 2, "high": 1}})
    assert [key for key, _ in problems] == ["lr", "model.width", "optimizer.lr"]


def test_a_condition_on_a_value_that_is_never_chosen_is_a_problem():
    search = {**SEARCH, "optimizer.momentum": {"low": 0.1, "high": 0.9, "when": {"optimizer.name": "sdg"}}}
    with pytest.raises(UsageError, match=r"optimizer\.name is never 'sdg'"):
        space_of(search)


def test_active_drops_what_a_condition_switches_off():
    space = space_of({**SEARCH, "optimizer.nesterov": {"choices": [True, False], "when": {"optimizer.momentum": 0.9}}})
    params = {"optimizer.name": "adam", "optimizer.momentum": 0.9, "optimizer.nesterov": True}
    assert space.active(params, {}) == {"optimizer.name": "adam"}
    assert space.active({**params, "optimizer.name": "sgd"}, {}) == {**params, "optimizer.name": "sgd"}


def test_active_reads_the_recipe_for_keys_that_do_not_vary():
    space = space_of({"optimizer.momentum": {"low": 0.8, "high": 0.9, "when": {"optimizer.name": ["sgd", "asgd"]}}})
    assert space.active({"optimizer.momentum": 0.8}, {"optimizer.name": "asgd"}) == {"optimizer.momentum": 0.8}
    assert space.active({"optimizer.momentum": 0.8}, {"optimizer.name": "adam"}) == {}


def test_size_counts_a_finite_space_and_nothing_else():
    assert space_of({"model.width": {"choices": [1, 2]}, "model.depth": {"low": 1, "high": 3}}).size() == 6
    assert space_of({"optimizer.lr": {"low": 0.1, "high": 0.2}}).size() is None
