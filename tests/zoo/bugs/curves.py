"""What the curves and the search should show: size, length and noise of the training."""

import numpy as np
from sklearn.datasets import load_digits

from tests.zoo import parts
from tests.zoo.case import bug

DECAY = {"optimizer.weight_decay": {"low": 1e-6, "high": 1e-3, "log": True}}  # a search that leaves the rate alone

# --- size -------------------------------------------------------------------------------------------------------------

bug(
    "digits-mlp",
    name="two_units_wide",
    causes=["underfitting", "capacity-too-small"],
    step="diagnose",
    changes={"model.width": 2, "model.activation": "tanh"},
    twin={"model.activation": "tanh"},
    what="The hidden layers have two units each.",
)

bug(
    "shapes-convbn",
    name="one_block_of_two_channels",
    causes=["underfitting", "capacity-too-small"],
    step="diagnose",
    changes={"model.width": 2, "model.depth": 1},
    what="One block of two channels is all there is before the head.",
)


@bug("digits-convbn", "data.source", causes=["too-little-data", "overfitting"], step="diagnose")
def sixty_images_left_for_training():
    """A limit left from debugging: sixty images train the net, the others are val."""
    inputs, targets = load_digits(return_X_y=True)
    inputs = np.rint(inputs * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(targets))
    inputs, targets = inputs[order], targets[order]
    return (inputs[:64], targets[:64]), (inputs[64:], targets[64:])


@bug("cifar-resnet", "data.source", causes=["overfitting", "too-little-data"], step="diagnose")
def large_net_on_few_photographs():
    """A tenth of the train images, for a trial run, were never turned back to all."""
    train, val = parts.cifar()
    return (train[0][:240], train[1][:240]), val


# --- length -----------------------------------------------------------------------------------------------------------

bug(
    "shapes-conv",
    name="run_cut_short",
    causes=["train-longer"],
    step="diagnose",
    changes={"optimizer.lr": 0.02, "stages.fine.epochs": 5, "search": DECAY},
    twin={"optimizer.lr": 0.02, "stages.fine.epochs": 20, "search": DECAY},
    what="At a careful rate five epochs are a quarter of what the net needs.",
)

bug(
    "cifar-convbn",
    name="photographs_cut_short",
    causes=["train-longer"],
    step="diagnose",
    changes={"optimizer.lr": 0.005, "stages.fine.epochs": 6, "search": DECAY},
    twin={"optimizer.lr": 0.005, "stages.fine.epochs": 20, "search": DECAY},
    what="Six epochs at a low rate: val accuracy is still rising.",
)

# --- noise ------------------------------------------------------------------------------------------------------------

bug(
    "shapes-conv",
    name="constant_rate_at_a_plateau",
    causes=["plateau", "lr-too-high", "unstable"],
    step="diagnose",
    changes={"optimizer.lr": 0.1, "train.batch_size": 16, "stages.fine.epochs": 10, "search": DECAY},
    twin={
        "optimizer.lr": 0.1,
        "train.batch_size": 16,
        "stages.fine.epochs": 10,
        "search": DECAY,
        "schedule.name": "cosine",
    },
    what="A high rate is kept to the end: the loss bounces at a height that the rate sets.",
)

bug(
    "digits-resnet",
    name="momentum_and_rate_at_the_edge",
    causes=["unstable", "lr-too-high"],
    step="diagnose",
    changes={"optimizer.lr": 0.2, "optimizer.momentum": 0.99, "stages.fine.epochs": 12, "search": DECAY},
    twin={"stages.fine.epochs": 12, "search": DECAY},
    what="Rate 0.2 with momentum 0.99: accuracy jumps from epoch to epoch.",
)

# --- the search -------------------------------------------------------------------------------------------------------

bug(
    "digits-mlp",
    name="momentum_above_one",
    causes=["all-trials-failed", "lr-too-high", "unstable"],
    step="coarse",
    changes={
        "optimizer.momentum": 1.2,
        "search": {"optimizer.momentum": {"low": 1.1, "high": 1.5}},
    },
    what="The search of momentum runs from 1.1 to 1.5, where 0.8 to 0.99 was meant: everything diverges.",
)
