"""Bugs of the learning rate: its size, its range in the search, and its schedule."""

import torch
from torch.optim import lr_scheduler

from tests.zoo.case import bug

DECAY = {"optimizer.weight_decay": {"low": 1e-6, "high": 1e-3, "log": True}}  # a search that leaves the rate alone

# --- the rate ---------------------------------------------------------------------------------------------------------

bug(
    "digits-mlp",
    name="rate_a_hundred_times_too_high",
    causes=["lr-too-high"],
    step="lr-sweep",
    changes={"optimizer.lr": 5.0, "search": DECAY},
    twin={"search": DECAY},
    what="The recipe's rate is 5, with momentum 0.9, and the search does not vary it.",
)

bug(
    "shapes-convbn",
    name="rate_of_adam_for_sgd",
    causes=["lr-too-low"],
    step="lr-sweep",
    changes={"optimizer.lr": 3e-5, "optimizer.momentum": 0.0, "search": DECAY},
    twin={"search": DECAY},
    what="A rate for fine-tuning with Adam, 3e-5, is kept for plain SGD from scratch, and the search does not vary it.",
)

bug(
    "digits-transformer",
    name="rate_of_sgd_for_adam",
    causes=["lr-too-high"],
    step="lr-sweep",
    changes={"optimizer.lr": 0.1, "search": {"model.width": {"choices": [32, 48]}}},
    twin={"search": {"model.width": {"choices": [32, 48]}}},
    what="Adam was put in the place of SGD, and the rate of 0.1 stayed.",
)

bug(
    "cifar-resnet",
    name="rate_a_thousand_times_too_low",
    causes=["lr-too-low"],
    step="lr-sweep",
    changes={"optimizer.lr": 5e-5, "search": DECAY},
    twin={"search": DECAY},
    what="A typing error in the rate, 5e-5 for 5e-2, which the search does not vary.",
)

bug(
    "digits-transformer",
    name="epsilon_of_one",
    causes=["lr-too-low"],
    step="lr-sweep",
    changes={"optimizer.eps": 1.0, "search": {"model.width": {"choices": [32, 48]}}},
    twin={"search": {"model.width": {"choices": [32, 48]}}},
    what="Adam's epsilon is 1, as for Inception: its steps are a hundredth of what the rate says.",
)

bug(
    "shapes-conv",
    name="momentum_of_three_nines",
    causes=["lr-too-high", "unstable"],
    step="lr-sweep",
    changes={"optimizer.momentum": 0.999, "search": DECAY},
    twin={"search": DECAY},
    what="Momentum 0.999: the effective rate is a hundred times that of 0.9.",
)


@bug("digits-conv", "optimizer.name", causes=["lr-too-low", "schedule-mistake"], step="lr-sweep")
def rate_ignored_by_the_optimizer(params, lr, momentum):
    """The optimizer is built with a rate of its own, 1e-5, whatever the recipe and the search ask for."""
    return torch.optim.SGD(params, lr=1e-5, momentum=momentum)


# --- the range of the search ------------------------------------------------------------------------------------------

bug(
    "shapes-conv",
    name="range_of_rates_far_too_high",
    causes=["lr-too-high", "all-trials-failed", "best-at-edge"],
    step="coarse",
    changes={"optimizer.lr": 30.0, "search": {"optimizer.lr": {"low": 5.0, "high": 100.0, "log": True}}},
    what="The search tries rates from 5 to 100.",
)

bug(
    "digits-convbn",
    name="range_of_rates_far_too_low",
    causes=["lr-too-low", "best-at-edge"],
    step="coarse",
    changes={"optimizer.lr": 1e-5, "search": {"optimizer.lr": {"low": 1e-6, "high": 1e-4, "log": True}}},
    what="The search tries rates from 1e-6 to 1e-4, with SGD from scratch.",
)

# --- the schedule -----------------------------------------------------------------------------------------------------

bug(
    "cifar-convbn",
    name="warm_up_longer_than_the_run",
    causes=["schedule-mistake"],
    step="check-init",
    changes={"schedule.name": "constant", "schedule.warmup_epochs": 400},
    what="The warm-up of a long recipe, 400 epochs, is kept for a run of a few: the rate never gets there.",
)


@bug(
    "digits-conv",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    source="https://github.com/ivadomed/ivadomed/pull/55",
)
def decay_per_epoch_made_per_update(optimizer):
    """A decay of 0.8 per epoch is stepped after every update: the rate is gone within the first epoch."""
    return lr_scheduler.ExponentialLR(optimizer, gamma=0.8)


@bug(
    "shapes-resnet",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    source="https://github.com/automl/Auto-PyTorch/pull/210",
)
def milestones_in_epochs_stepped_per_update(optimizer):
    """Milestones meant as epochs are counted in updates: after six of them the rate is a thousandth."""
    return lr_scheduler.MultiStepLR(optimizer, milestones=[2, 4, 6], gamma=0.1)


@bug("shapes-convbn", "schedule.name", causes=["schedule-mistake", "no-update"], step="check-init")
def factor_of_zero_by_integer_division(optimizer, total_steps):
    """The factor of a linear warm-up is `step // total_steps`: zero until the run is over."""
    return lr_scheduler.LambdaLR(optimizer, lambda step: step // total_steps)


@bug(
    "shapes-resnet",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    changes={"schedule.every": "epoch"},
)
def rate_tripled_each_epoch(optimizer):
    """The factor of a step decay is inverted: each epoch multiplies the rate by three."""
    return lr_scheduler.StepLR(optimizer, step_size=1, gamma=3.0)


@bug("shapes-conv", "train.step", causes=["schedule-mistake"], step="check-init")
def rate_lowered_by_the_step_itself(model, batch, loss, optimizer):
    """The step divides the rate by ten every ten calls, where ten epochs were meant."""
    inputs, targets = batch
    state["calls"] = state.get("calls", -1) + 1
    for group in optimizer.param_groups:
        group["lr"] = optimizer.defaults["lr"] * 0.1 ** (state["calls"] // 10)
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


state = {}  # of the step above
