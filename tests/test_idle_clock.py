"""The clock of an idle machine that benchmarks are run by on a busy one."""

import pytest

from benchmarks.idle_clock import pace


@pytest.mark.parametrize(
    ("running", "waiting", "cores", "speed"),
    [
        (0.0, 0.0, 2, 1.0),  # asleep: the wall clock
        (1.0, 0.0, 2, 1.0),  # one thread on a core of its own
        (0.25, 0.75, 2, 0.25),  # one thread that got a quarter of a core
        (0.25, 0.25, 2, 0.75),  # it slept for half of the time, and waited for a quarter
        (1.0, 1.0, 2, 0.5),  # two threads that got half of what two cores would give
        (1.0, 3.0, 2, 0.5),  # four threads: two cores would have been full
        (2.0, 2.0, 2, 1.0),  # they were
        (1.0, 1.0, 1, 1.0),
    ],
)
def test_it_goes_as_fast_as_the_command_comes_forward(running, waiting, cores, speed):
    assert pace(running, waiting, cores) == pytest.approx(speed)
