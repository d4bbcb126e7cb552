"""How `tuner.check` keeps within its seconds. No test waits: the clock is the test's own."""

import pytest
import torch
from torch import nn

import tuner
from tuner.api import pace
from tuner.checks.init_battery import measure as battery
from tuner.checks.tools.frame import CannotProbe
from tuner.train.forms import taken

X, Y = torch.randn(80, 4, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 2


class Clock:
    """Stands for the module `time`: every reading is `tick` seconds after the one before."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now

    perf_counter = monotonic


class Rows:
    def __len__(self):
        return 5000

    def __getitem__(self, i):
        return X[i % 80], int(Y[i % 80])


@pytest.mark.parametrize(("each", "expected"), [(2**-7, 320), (1.0, 64), (2**-12, 2000)])
def test_of_a_slow_dataset_as_many_examples_are_read_as_its_share_of_the_time_holds(each, expected, monkeypatch):
    monkeypatch.setattr(pace, "time", Clock(each))
    assert pace.readable(taken(Rows(), "train"), seconds=30.0) == expected


def test_arrays_are_read_whatever_the_time():
    assert pace.readable(taken((X, Y), "train"), seconds=0.0) == pace.MOST


def test_a_forward_after_the_moment_is_refused(monkeypatch):
    model = pace.stopped_at(nn.Linear(4, 2), until=2.5)
    monkeypatch.setattr(pace, "time", Clock(1.0))
    model(X), model(X)
    with pytest.raises(CannotProbe, match="was over in the middle of it"):
        model(X)


@pytest.mark.parametrize(("step", "expected"), [(0.0, 60), (0.1, 60), (0.5, 34 - 12), (5.0, 0)])
def test_a_fit_gets_the_steps_that_there_is_time_for(step, expected, monkeypatch):
    monkeypatch.setattr(pace, "time", Clock(3.0))
    assert pace.affordable_steps(step, until=20.0, most=60) == expected


@pytest.mark.parametrize(
    ("takes", "why"),
    [
        (1.0, None),
        (8.0, "it takes about 8.0 s, and the check has 7.0 s left for it"),
        (0.0, None),
    ],
)
def test_a_measurement_is_begun_where_there_is_as_much_time_as_it_takes(takes, why, monkeypatch):
    monkeypatch.setattr(battery, "time", Clock(3.0))
    assert battery._too_late(10.0, takes) == why
    assert battery._too_late(1.0, takes) == "the time that the check may take is over"


def test_without_time_the_report_lists_what_was_left_out():
    report = tuner.check(nn.Linear(4, 2), (X, Y), loss=nn.CrossEntropyLoss(), seconds=1e-9)
    skipped = {item.check: item.why for result in report.results for item in result.skipped}
    assert report.passed and len(skipped) > 50
    assert "time" in skipped["IN112 no gradient"] and "fit of a tiny subset" in skipped
    assert report.results[1].headline.startswith("Not settled:")
