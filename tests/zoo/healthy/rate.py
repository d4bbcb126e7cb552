"""Optimizers and schedules that look unusual and are sound."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from tests.zoo.case import healthy


@healthy("digits-conv", "schedule.name", source="Loshchilov and Hutter 2017, SGDR")
def cosine_with_restarts(optimizer, total_steps, steps_per_epoch):
    """The rate goes back up twice, as warm restarts do."""
    return CosineAnnealingWarmRestarts(optimizer, max(1, total_steps // 3), eta_min=1e-4)


healthy(
    "shapes-convbn",
    name="one_cycle",
    changes={"schedule.name": "one_cycle"},
    what="The rate starts at a twenty-fifth, rises for a third of the run and ends at nothing.",
)
healthy(
    "digits-transformer",
    name="warm_up_then_cosine",
    changes={"schedule.name": "cosine", "schedule.warmup_epochs": 1.0},
    what="One epoch of warm-up, then a cosine to zero.",
)
healthy(
    "digits-mlp",
    name="decay_of_a_tenth_beside_the_gradient",
    changes={"optimizer.name": "adamw", "optimizer.lr": 3e-3, "optimizer.weight_decay": 0.1},
    what="AdamW with decay 0.1, which is decoupled and mild.",
)
healthy(
    "digits-mlp",
    name="adam_with_a_larger_epsilon",
    changes={"optimizer.name": "adam", "optimizer.lr": 3e-3, "optimizer.eps": 1e-3},
    what="Adam with epsilon 1e-3.",
)
healthy(
    "shapes-conv",
    name="nesterov_and_much_momentum",
    changes={"optimizer.momentum": 0.95, "optimizer.nesterov": True, "optimizer.lr": 0.02},
    what="Nesterov momentum 0.95.",
)
healthy(
    "digits-convbn",
    name="halved_every_three_epochs",
    changes={"schedule.name": "step", "schedule.step_epochs": 3, "schedule.factor": 0.5},
    what="The rate is halved every three epochs.",
)
healthy(
    "cancer-mlp",
    name="root_mean_square_steps",
    changes={"optimizer.name": "rmsprop", "optimizer.lr": 1e-3, "optimizer.momentum": None},
    what="RMSprop without momentum.",
)
healthy(
    "digits-mlp",
    name="no_momentum_and_a_large_rate",
    changes={"optimizer.momentum": 0.0, "optimizer.lr": 0.3},
    what="Plain gradient descent with a rate that suits it.",
)
healthy(
    "shapes-convbn",
    name="decay_is_searched_too",
    changes={"search.optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True}},
    what="The search varies weight decay beside the rate.",
)


@healthy("digits-convbn", "optimizer.name", changes={"optimizer.weight_decay": 5e-3})
def no_decay_for_norms_and_biases(params, lr, model, weight_decay):
    """Two groups: norms and biases are not decayed."""
    named = [item for item in model.parameters() if item.requires_grad]
    groups = [
        {"params": [item for item in named if item.dim() > 1], "weight_decay": weight_decay},
        {"params": [item for item in named if item.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


@healthy("shapes-resnet", "optimizer.name")
def the_stem_learns_more_slowly(params, lr, model):
    """The first layer has a tenth of the rate."""
    first = list(model.conv.parameters())
    rest = [item for name, item in model.named_parameters() if not name.startswith("conv.")]
    return torch.optim.SGD([{"params": rest}, {"params": first, "lr": lr / 10}], lr=lr, momentum=0.9)
