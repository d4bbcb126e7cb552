from __future__ import annotations

import pytest

from tuner.core.formatting import rate, rates
from tuner.recipe.space import tidy


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "0.001"), (9.99e-4, "9.99e-4"), (0.1, "0.1"), (1.0, "1"), (10, "10"), (0.02, "0.02"),
     (3.162e-4, "3.162e-4"), (1.86e-06, "1.86e-6"), (0.1525, "0.1525"), (0, "0"), (1e4, "1e4"),
     (1234.0, "1234"), (100.0, "100")],
)  # fmt: skip
def test_rate(value, text):
    assert rate(value) == text


def test_a_searched_value_can_be_typed_again_as_it_is_read():
    for value in (0.123456, 1.23456e-5, 0.00123456, 3.99951, 0.99951):
        assert float(rate(tidy(value))) == tidy(value)


def test_the_ticks_of_one_axis_have_one_form():
    assert rates([0.03, 0.1, 0.3, 1]) == ["0.03", "0.1", "0.3", "1"]
    assert rates([1e-4, 1e-3, 1e-2, 0.1, 1]) == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert rates([1e-5, 1e-3, 1e-2, 0.1, 1, 10]) == ["1e-5", "1e-3", "1e-2", "1e-1", "1", "10"]
    assert rates([]) == []
