import itertools
import json
import subprocess
import sys

import pytest

from tuner.core.trial import canonical_json
from tuner.recipe.space import space_of
from tuner.search.samplers import design

SAMPLERS = ("sobol", "random", "grid")
MIXED = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.width": {"choices": [16, 32, 64]},
    "model.depth": {"low": 1, "high": 4},
    "optimizer.name": {"choices": ["sgd", "adam"]},
    "optimizer.momentum": {"low": 0.8, "high": 0.99, "when": {"optimizer.name": "sgd"}},
}


def distinct(points):
    return len({canonical_json(point) for point in points})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_design_stays_in_the_space_and_honours_conditions(sampler):
    points = design(space_of(MIXED), sampler, 0, 40, {})
    assert len(points) == distinct(points) == 40
    for point in points:
        assert 1e-4 <= point["optimizer.lr"] <= 1e-1
        assert point["model.width"] in (16, 32, 64)
        assert point["model.depth"] in (1, 2, 3, 4) and isinstance(point["model.depth"], int)
        assert ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_design_is_the_same_in_another_process(sampler):
    code = (
        "import json; from tuner.recipe.space import space_of; from tuner.search.samplers import design; "
        f"print(json.dumps(design(space_of({MIXED!r}), {sampler!r}, 7, 6, {{}})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == design(space_of(MIXED), sampler, 7, 6, {})


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_a_larger_count_only_adds(sampler):
    assert design(space_of(MIXED), sampler, 0, 32, {})[:16] == design(space_of(MIXED), sampler, 0, 16, {})


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_another_seed_gives_other_points(sampler):
    assert design(space_of(MIXED), sampler, 0, 8, {}) != design(space_of(MIXED), sampler, 1, 8, {})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_exhausted_without_duplicates(sampler):
    space = space_of({"model.width": {"choices": [16, 32]}, "model.depth": {"low": 1, "high": 4}})
    taken = [{"model.width": 16, "model.depth": 1}]
    points = design(space, sampler, 0, 100, {}, taken)
    assert len(points) == distinct(points + taken) - 1 == 7


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_a_space_that_conditions_switch_off_ends(sampler):
    space = space_of({"optimizer.momentum": {"low": 0.8, "high": 0.9, "when": {"optimizer.name": "sgd"}}})
    assert design(space, sampler, 0, 5, {"optimizer.name": "adam"}) == [{}]


def test_sobol_fills_the_log_range_evenly():
    rates = [p["optimizer.lr"] for p in design(space_of({"optimizer.lr": MIXED["optimizer.lr"]}), "sobol", 3, 16, {})]
    per_cell = [
        sum(1e-4 * 10 ** (3 * i / 16) <= lr < 1e-4 * 10 ** (3 * (i + 1) / 16) for lr in rates) for i in range(16)
    ]
    assert per_cell.count(1) >= 14  # one point per sixteenth, but for four-digit rounding at a border


def test_grid_covers_the_ends_and_every_choice():
    space = space_of({"optimizer.lr": MIXED["optimizer.lr"], "model.width": {"choices": [16, 32]}})
    points = design(space, "grid", 0, 8, {})
    expected = itertools.product([1e-4, 1e-3, 1e-2, 1e-1], [16, 32])
    assert {(p["optimizer.lr"], p["model.width"]) for p in points} == set(expected)


def test_choices_may_be_any_json_value():
    options = [[], ["hflip"], [{"name": "random_crop", "padding": 4}]]
    points = design(space_of({"data.augment": {"choices": options}}), "sobol", 0, 3, {})
    assert sorted(map(canonical_json, options)) == sorted(canonical_json(p["data.augment"]) for p in points)


def test_an_auto_rate_must_be_resolved_first():
    with pytest.raises(ValueError, match="still 'auto'"):
        design(space_of({}), "random", 0, 2, {})
