from __future__ import annotations

import math

import pytest

from tuner.view import text as words


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "0.001"), (0.1, "0.1"), (5e-4, "5e-4"), (None, "-"), (math.nan, "-")],
)
def test_rate(value, text):
    assert words.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8123, "0.812"), (1.2e-5, "1.2e-5"), (0, "0.000"), (None, "-"), (math.inf, "-"), (2.5e7, "2.5e7"), (True, "-")],
)
def test_fixed(value, text):
    assert words.fixed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4, "0.4s"),
        (4, "4s"),
        (34, "34s"),
        (80, "1m20s"),
        (7500, "2h05m"),
        (59.7, "1m00s"),
        (3599.9, "1h00m"),
        (None, "-"),
    ],
)
def test_duration(value, text):
    assert words.duration(value) == text


def test_params_text_keeps_names_apart():
    params = {"optimizer.lr": 0.02, "optimizer.name": "sgd", "model.depth": 2, "data.depth": 3}
    assert words.params_text(params) == "lr 0.02, optimizer sgd, model.depth 2, data.depth 3"
    assert words.params_text({}) == "as the recipe"


def test_plus_minus_without_a_spread_is_the_mean():
    assert words.plus_minus(2.3, None) == "2.300" and words.plus_minus(None, 0.1) == "-"


@pytest.mark.parametrize(
    ("value", "text"), [(-2.2e-4, "0.000"), (0.0005001, "0.001"), (-0.0384, "-0.038"), (None, "-"), (math.nan, "-")]
)
def test_rounded(value, text):
    assert words.rounded(value) == text


def test_an_interval_that_begins_at_zero_has_no_power_of_ten_in_it():
    assert words.interval([-2.2e-4, 0.0384]) == "0.000 to 0.038"
