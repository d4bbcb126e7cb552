"""Warm-up and hold in front of any schedule, factors from the user's file, timm's schedulers."""

import math

import pytest
import torch

from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import UsageError


def planned(folder, table, code="", total=40, per_epoch=10):
    setup = make_case(folder, code, {"schedule": table, "optimizer.lr": 0.2}).setup()
    optimizer = setup.optimizer(setup.model())
    schedule = setup.schedule(optimizer, total, per_epoch)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


RISE = [0.2 * (step + 1) / 10 for step in range(10)]


@pytest.mark.parametrize(
    ("table", "torchs"),
    [
        ({"name": "exponential", "k": 0.5}, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, math.exp(-0.05))),
        ({"name": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 25)),
        ({"name": "polynomial", "power": 2.0}, lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 25, 2.0)),
        ({"name": "torch.optim.lr_scheduler.StepLR", "step_size": 7}, lambda o: torch.optim.lr_scheduler.StepLR(o, 7)),
        ({"name": "one_cycle"}, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=25, div_factor=25)),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_rise_and_a_hold_go_before_any_schedule_which_has_the_rest_of_the_run(tmp_path, table, torchs):
    found = planned(tmp_path, {**table, "warmup_epochs": 1, "hold_epochs": 0.5})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = torchs(optimizer)
    expected = []
    for _ in range(25):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found[:10] == pytest.approx(RISE)
    assert found[10:15] == pytest.approx([0.2] * 5)
    assert found[15:] == pytest.approx(expected, abs=1e-9)


def test_a_schedule_with_a_warm_up_of_its_own_is_what_it_was(tmp_path):
    from tuner.parts import schedules

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = schedules.cosine(optimizer, total_steps=40, steps_per_epoch=10, warmup_epochs=1)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert planned(tmp_path, {"name": "cosine", "warmup_epochs": 1}) == pytest.approx(expected)


def test_a_function_of_the_epoch_from_the_users_file_multiplies_the_rate(tmp_path):
    code = "def tail(epoch, at=2.0):\n    return 1.0 if epoch < at else 0.1\n"
    found = planned(tmp_path, {"name": "mine.py:tail", "at": 3.0}, code)
    assert found == pytest.approx([0.2] * 30 + [0.02] * 10)


def test_a_scheduler_of_timm_is_stepped_by_epochs_and_by_updates(tmp_path):
    timm = pytest.importorskip("timm.scheduler")
    table = {"name": "timm.scheduler.StepLRScheduler", "decay_t": 2, "decay_rate": 0.5, "t_in_epochs": True}
    del timm
    assert planned(tmp_path, table) == pytest.approx([0.2] * 20 + [0.1] * 20)


@pytest.mark.parametrize(
    "table",
    [
        {"name": "plateau", "patience": 0, "factor": 0.5, "warmup_epochs": 1},
        {"name": "exponential", "warmup_epochs": 1, "hold_epochs": 1},
        {"name": "cosine_restarts", "period_epochs": 2},
        {"name": "wsd", "warmup_epochs": 0.6},
    ],
    ids=lambda table: table["name"],
)
def test_one_and_four_epochs_are_five(tmp_path, table):
    parts, whole = (make_case(tmp_path / name, overrides={"schedule": table}) for name in "ab")
    assert parts.run(until=1, horizon_epochs=5).status == "stopped"
    assert without_clock(parts.run(horizon_epochs=5)) == without_clock(whole.run(horizon_epochs=5))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "exponential", "warmup_epochs": 4, "hold_epochs": 1}, "together are not shorter than the run"),
        ({"name": "exponential", "hold_epochs": -1}, r"schedule\.hold_epochs: must not be negative .got -1"),
        (
            {"name": "exponential", "warmup_epochs": {"a": 1}},
            r"schedule\.warmup_epochs: must be a number .got {'a': 1}",
        ),
        ({"name": "exponential", "warmup": 1}, r"schedule\.warmup: exponential\(\) takes no such argument"),
        ({"name": "cosine_restart"}, "did you mean 'cosine_restarts'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, table, message):
    with pytest.raises(UsageError, match=message):
        planned(tmp_path, table)
