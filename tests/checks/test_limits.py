import json

import pytest

from tuner.checks.limits import Limit, comparisons

HALF = Limit("half", 0.5, "of it", "derived: one of two")


@pytest.mark.parametrize(
    ("compare", "heard"),
    [
        (lambda: HALF < 3.0, 3.0),
        (lambda: HALF <= 3.0, 3.0),
        (lambda: HALF * 4 < 3.0, 0.75),
        (lambda: 4 * HALF < 3.0, 0.75),
        (lambda: 1.0 + HALF < 3.0, 2.0),
        (lambda: 1.0 - HALF < 3.0, -2.0),
        (lambda: HALF - 1.0 < 3.0, 4.0),
        (lambda: -HALF < 3.0, -3.0),
        (lambda: 1.0 + -2 * HALF * 4 < 3.0, -0.25),  # 3 = 1 - 8 h
    ],
)
def test_what_is_held_against_a_multiple_is_heard_as_held_against_the_limit(compare, heard):
    with comparisons() as found:
        compare()
    assert found == [(HALF, pytest.approx(heard))]


def test_which_of_two_limits_binds_is_no_evidence():
    with comparisons() as found:
        assert max(HALF, 2 * HALF) == 1.0
    assert not found


def test_a_multiple_that_is_nothing_tells_nothing_and_still_compares():
    with comparisons() as found:
        assert HALF * 0.0 < 0.1
    assert not found


def test_limits_are_numbers():
    assert json.dumps([HALF, 2 * HALF]) == "[0.5, 1.0]"
    assert (f"{HALF}", f"{HALF:.0%}", f"{2 * HALF:.0%}", str(HALF)) == ("0.5", "50%", "100%", "0.5")
