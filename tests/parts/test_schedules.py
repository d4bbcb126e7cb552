import math

import pytest
import torch

from tuner.core.errors import UsageError
from tuner.parts import schedules

STEPS_PER_EPOCH = 10


def rates(build, total: int = 100, lr: float = 0.2, **args) -> list[float]:
    """The rate of each of `total` updates, and the one that would follow."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = build(optimizer, **args)
    found = []
    for _ in range(total + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_constant_keeps_the_rate_after_a_linear_ramp():
    found = rates(schedules.constant, steps_per_epoch=STEPS_PER_EPOCH, warmup_epochs=0.5)
    assert found[:6] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2, 0.2])
    assert found[-1] == 0.2


def test_step_halves_every_n_epochs():
    found = rates(schedules.step, steps_per_epoch=STEPS_PER_EPOCH, step_epochs=3, factor=0.5)
    assert (found[29], found[30], found[60], found[99]) == pytest.approx((0.2, 0.1, 0.05, 0.025))


def test_multistep_equals_torchs_scheduler():
    found = rates(schedules.multistep, steps_per_epoch=STEPS_PER_EPOCH, milestones=[6, 2], factor=0.1)
    torchs = rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [20, 60], gamma=0.1))
    assert found == pytest.approx(torchs)


@pytest.mark.parametrize(("epochs", "steps_per_epoch", "first"), [(0.2, 10, 2), (0.07, 100, 7), (0.6, 5, 3)])
def test_a_fraction_of_an_epoch_ends_at_the_update_that_it_is(epochs, steps_per_epoch, first):
    places = [first, 2 * first, 3 * first, 6 * first]
    stepped = rates(schedules.step, total=50, steps_per_epoch=steps_per_epoch, step_epochs=epochs)
    torchs = rates(lambda o: torch.optim.lr_scheduler.StepLR(o, first, gamma=0.5), total=50)
    assert [stepped[i] for i in places] == pytest.approx([torchs[i] for i in places])
    once = rates(schedules.multistep, total=50, steps_per_epoch=steps_per_epoch, milestones=[epochs])
    assert (once[first - 1], once[first]) == pytest.approx((0.2, 0.02))
    again = rates(schedules.cosine_restarts, total=50, steps_per_epoch=steps_per_epoch, period_epochs=epochs)
    assert [again[i] for i in places] == pytest.approx([0.2] * 4)


def test_exponential_and_inverse_time_follow_their_formulas():
    exponential = rates(schedules.exponential, steps_per_epoch=STEPS_PER_EPOCH, k=0.3)
    inverse = rates(schedules.inverse_time, steps_per_epoch=STEPS_PER_EPOCH, k=0.3)
    assert exponential[40] == pytest.approx(0.2 * math.exp(-1.2))
    assert inverse[40] == pytest.approx(0.2 / (1 + 0.3 * 4))


def test_cosine_without_warm_up_equals_torchs_scheduler():
    found = rates(schedules.cosine, total_steps=100, steps_per_epoch=STEPS_PER_EPOCH)
    torchs = rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=100))
    assert found == pytest.approx(torchs, abs=1e-12)


def test_cosine_with_warm_up_has_its_whole_rate_at_the_ramps_end_and_its_final_one_at_the_horizon():
    found = rates(schedules.cosine, total_steps=100, steps_per_epoch=STEPS_PER_EPOCH, warmup_epochs=2, final=0.1)
    assert found[0] == pytest.approx(0.2 / 20)
    assert found[20] == pytest.approx(0.2)
    assert found[60] == pytest.approx(0.2 * (0.1 + 0.9 * 0.5))
    assert found[100] == pytest.approx(0.02)


def test_linear_falls_in_a_straight_line():
    found = rates(schedules.linear, total_steps=100, steps_per_epoch=STEPS_PER_EPOCH, final=0.5)
    assert found == pytest.approx([0.2 * (1 - 0.5 * i / 100) for i in range(101)])


def test_one_cycle_equals_torchs_scheduler_at_the_recipes_rate():
    found = rates(schedules.one_cycle, total=99, total_steps=100)
    torchs = rates(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=100), total=99)
    assert found == pytest.approx(torchs)
    assert max(found) == pytest.approx(0.2)


def test_one_cycle_runs_for_an_optimizer_without_momentum():
    optimizer = torch.optim.Adagrad([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedules.one_cycle(optimizer, total_steps=10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("build", "args", "message"),
    [
        (
            schedules.cosine,
            {"warmup_epochs": 10},
            r"schedule\.warmup_epochs: the warm-up \(100 steps\) is not shorter than",
        ),
        (schedules.cosine, {"warmup_epochs": -1}, r"schedule\.warmup_epochs: must not be negative \(got -10 steps\)"),
    ],
)
def test_an_impossible_warm_up_is_refused(build, args, message):
    with pytest.raises(UsageError, match=message):
        rates(build, total_steps=100, steps_per_epoch=STEPS_PER_EPOCH, **args)


def test_step_refuses_a_period_of_0():
    with pytest.raises(UsageError, match=r"schedule\.step_epochs: must be greater than 0 \(got 0\)"):
        rates(schedules.step, steps_per_epoch=STEPS_PER_EPOCH, step_epochs=0)


def test_cosine_restarts_equals_torchs_scheduler():
    found = rates(schedules.cosine_restarts, steps_per_epoch=STEPS_PER_EPOCH, period_epochs=2.5)
    torchs = rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=25))
    assert found == pytest.approx(torchs, abs=1e-9)


def test_cosine_restarts_that_grow_equal_torchs_scheduler():
    found = rates(schedules.cosine_restarts, steps_per_epoch=STEPS_PER_EPOCH, period_epochs=2, growth=2)
    torchs = rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=20, T_mult=2))
    assert found == pytest.approx(torchs, abs=1e-9)


def test_polynomial_equals_torchs_scheduler():
    found = rates(schedules.polynomial, total_steps=100, power=2.0)
    torchs = rates(lambda o: torch.optim.lr_scheduler.PolynomialLR(o, total_iters=100, power=2.0))
    assert found == pytest.approx(torchs, abs=1e-9)


def test_wsd_keeps_the_rate_and_brings_it_down_in_a_straight_line_at_the_end():
    found = rates(schedules.wsd, total_steps=100, decay=0.2, final=0.1)
    line = torch.optim.lr_scheduler.LinearLR
    torchs = rates(lambda o: line(o, start_factor=1.0, end_factor=0.1, total_iters=20), total=20)
    assert found[:81] == pytest.approx([0.2] * 81)
    assert found[80:] == pytest.approx(torchs)


def test_plateau_is_torchs_scheduler():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = schedules.plateau(optimizer, factor=0.5, patience=1)
    found = []
    for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 1.0):
        schedule.step(loss)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [0.2, 0.2, 0.2, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("build", "args", "message"),
    [
        (schedules.cosine_restarts, {"period_epochs": 0}, r"schedule\.period_epochs: must be greater than 0"),
        (schedules.cosine_restarts, {"growth": 0.5}, r"schedule\.growth: must be at least 1 .got 0.5"),
        (schedules.polynomial, {"power": 0}, r"schedule\.power: must be greater than 0"),
        (schedules.wsd, {"decay": 0}, r"schedule\.decay: must be above 0, up to 1"),
    ],
)
def test_an_argument_out_of_range_is_named(build, args, message):
    needs = {"steps_per_epoch": 10} if build is schedules.cosine_restarts else {"total_steps": 100}
    with pytest.raises(UsageError, match=message):
        rates(build, **needs, **args)
