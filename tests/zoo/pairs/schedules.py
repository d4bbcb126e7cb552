"""Schedules that cannot finish, or watch the wrong way, beside those that are meant so."""

from torch.optim import lr_scheduler

from tests.zoo.case import bug, healthy

PEAK = 0.1


@bug(
    "shapes-conv",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    changes={"schedule.every": "epoch", "optimizer.lr": PEAK},
    source="https://github.com/pytorch/pytorch/issues/65417",
)
def one_cycle_stepped_by_epochs(optimizer):
    """OneCycleLR is built for 8 epochs of 25 updates and stepped once per epoch: it never leaves its warm-up."""
    top = optimizer.param_groups[0]["lr"]
    return lr_scheduler.OneCycleLR(optimizer, max_lr=top, epochs=8, steps_per_epoch=25)


@healthy("shapes-conv", "schedule.name", changes={"optimizer.lr": PEAK})
def one_cycle_stepped_by_updates(optimizer, total_steps):
    """OneCycleLR is built for the updates of the run and stepped after each."""
    top = optimizer.param_groups[0]["lr"]
    return lr_scheduler.OneCycleLR(optimizer, max_lr=top, total_steps=total_steps)


@bug(
    "digits-convbn",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    changes={"schedule.every": "epoch", "optimizer.lr": 0.003, "optimizer.momentum": 0.0},
    twin={"optimizer.lr": 0.003, "optimizer.momentum": 0.0},
    source="https://github.com/FunctionLab/selene/issues/115",
)
def plateau_that_maximises_the_loss(optimizer):
    """ReduceLROnPlateau waits for its measure to rise, and is told a loss."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0, factor=0.1)


@healthy("digits-convbn", "schedule.name", changes={"schedule.every": "epoch"})
def plateau_that_minimises_the_loss(optimizer):
    """ReduceLROnPlateau waits for the loss to fall."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", patience=1, factor=0.3)


@bug(
    "shapes-convbn",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    changes={"schedule.every": "epoch", "optimizer.lr": 0.05},
    source="https://github.com/vturrisi/solo-learn/issues/264",
)
def warm_up_of_500_updates_stepped_by_epochs(optimizer):
    """A warm-up of 500 updates is stepped once per epoch: the rate stays at a hundredth of what was meant."""
    return lr_scheduler.LinearLR(optimizer, start_factor=0.001, total_iters=500)
