"""Components used wrongly, by a recipe or by a user's own hooks; their sound twins are in components.py."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from tests.zoo.arrays import digits
from tests.zoo.case import bug
from tests.zoo.prepared import TURNED
from tuner.parts.augment.blending import cutmix
from tuner.parts.models import convnet

STEPPED = {}  # model's id -> batches since its last update


# --- averages of the weights ------------------------------------------------------------------------------------------


@bug(
    "shapes-convbn",
    "train.weights_for_evaluation",
    causes=["normalisation-misuse", "metric-wrong"],
    step="diagnose",
    source="https://pytorch.org/docs/stable/optim.html#taking-care-of-batch-normalization",
)
class average_without_its_statistics:
    """The weights of all epochs are averaged and batch norm keeps the statistics that it had before the first."""

    def __init__(self):
        self.sums, self.count = None, 0

    def weights_for_evaluation(self, model):
        state = {name: item.detach().clone() for name, item in model.state_dict().items()}
        weights = dict(model.named_parameters())
        first = {n: torch.ones_like(s) if n.endswith("running_var") else torch.zeros_like(s) for n, s in state.items()}
        self.count += 1
        if self.sums is None:
            self.sums = {name: torch.zeros_like(state[name]) for name in weights}
        for name in weights:
            self.sums[name] += state[name]
        return {n: self.sums[n] / self.count if n in weights else first[n] for n in state}

    def state_dict(self):
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state):
        self.sums, self.count = state["sums"], state["count"]


@bug(
    "digits-convbn", "train.weights_for_evaluation", causes=["underfitting", "metric-wrong", "lr-too-low"], step="fine"
)
class average_that_hangs_on_to_the_first_weights:
    """An average with a decay of 0.9995 from the first weights on, over 150 updates: what is kept is hardly trained."""

    def __init__(self):
        self.average = None

    def after_update(self, model, step):
        state = {name: item.detach().clone() for name, item in model.state_dict().items()}
        if self.average is None:
            self.average = state
        for name, item in self.average.items():
            if item.is_floating_point():
                item.lerp_(state[name], 0.0005)

    def weights_for_evaluation(self, model):
        return self.average

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        self.average = state["average"]


# --- mixing -----------------------------------------------------------------------------------------------------------


@bug("digits-convbn", "train.evaluate", causes=["metric-wrong", "train-mode-in-eval"], step="check-init", harm="number")
@torch.no_grad()
def mixed_at_val(model, batches, loss):
    """The images of val are mixed with partners as those of train are, and counted for the larger share."""
    total = hits = count = 0
    for inputs, targets in batches:
        share = float(np.random.beta(1.0, 1.0))
        order = torch.randperm(len(inputs))
        outputs = model(share * inputs + (1 - share) * inputs[order])
        larger = targets if share >= 0.5 else targets[order]
        total += float(share * loss(outputs, targets) + (1 - share) * loss(outputs, targets[order])) * len(targets)
        hits += int((outputs.argmax(1) == larger).sum())
        count += len(targets)
    return {"loss": total / count, "accuracy": hits / count}


@bug(
    "digits-convbn", "data.augment", causes=["misaligned-labels", "label-noise", "augmentation-harms"], step="diagnose"
)
def cutmix_with_the_shares_of_the_partners(inputs, targets, generator, num_classes):
    """A small box is pasted in, and the label is given the share of the box, its partner the rest."""
    mixed, shares = cutmix(inputs, targets, generator, num_classes, alpha=1.0)
    own = functional.one_hot(targets, num_classes).float()
    part = (shares * own).sum(1, keepdim=True)
    other = (shares - part * own).clamp(min=0)
    turned = (1 - part) * own + part * other / other.sum(1, keepdim=True).clamp(min=1e-6)
    return mixed, torch.where(other.sum(1, keepdim=True) > 1e-6, turned, own)


# --- updates ----------------------------------------------------------------------------------------------------------


def climbed(model, rho):
    """Move the weights by `rho` along the gradient; return the moves."""
    norm = torch.stack([item.grad.norm() for item in model.parameters()]).norm() + 1e-12
    moves = [rho * item.grad / norm for item in model.parameters()]
    with torch.no_grad():
        for item, move in zip(model.parameters(), moves, strict=True):
            item += move
    return moves


@bug(
    "digits-mlp",
    "train.step",
    causes=["sign-flipped-loss", "gradients-accumulate", "no-update"],
    step="lr-sweep",
    changes={"train.batch_size": 16, "optimizer.lr": 0.01, "optimizer.momentum": 0.0},
    twin={"train.batch_size": 16, "optimizer.lr": 0.01, "optimizer.momentum": 0.0},
)
def sam_that_climbs_at_every_batch_it_accumulates(model, batch, loss, optimizer):
    """Sharpness-aware steps with accumulation over 4 batches: each climbs, and only the last climb is taken back."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    moves = climbed(model, 0.3)
    (loss(model(inputs), targets) / 4).backward()
    STEPPED[id(model)] = STEPPED.get(id(model), 0) + 1
    if STEPPED[id(model)] % 4 == 0:
        with torch.no_grad():
            for item, move in zip(model.parameters(), moves, strict=True):
                item -= move
        optimizer.step()
        optimizer.zero_grad()
    return value


class _NeverAhead(torch.optim.SGD):
    def __init__(self, params, lr, momentum=0.0):
        super().__init__(params, lr=lr, momentum=momentum)
        self.slow = [item.detach().clone() for group in self.param_groups for item in group["params"]]
        self.updates = 0

    @torch.no_grad()
    def step(self, closure=None):
        value = super().step(closure)
        self.updates += 1
        if self.updates % 5 == 0:
            for item, slow in zip((i for g in self.param_groups for i in g["params"]), self.slow, strict=True):
                item.copy_(slow)
        return value


@bug("digits-mlp", "optimizer.name", causes=["no-update", "optimizer-state-lost", "lr-too-low"], step="lr-sweep")
def lookahead_whose_slow_weights_stay(params, lr, momentum):
    """Every 5 updates the weights go back to the slow ones, which never move."""
    return _NeverAhead(params, lr, momentum)


@bug(
    "digits-conv",
    "schedule.name",
    causes=["schedule-mistake"],
    step="check-init",
    changes={"schedule.every": "epoch", "optimizer.lr": 0.02, "optimizer.momentum": 0.0},
    twin={"optimizer.lr": 0.02, "optimizer.momentum": 0.0},
)
def halving_that_is_stepped_twice(optimizer, total_steps):
    """The rate is cut to a tenth after each quarter of the run, and each step is made twice: by loop and callback."""

    class Twice(lr_scheduler.StepLR):
        def step(self, epoch=None):
            super().step()
            super().step()

    return Twice(optimizer, step_size=max(1, total_steps // 4), gamma=0.1)


# --- trained weights --------------------------------------------------------------------------------------------------


@bug(
    "digits-convbn",
    "model.name",
    causes=["untrained-parameters"],
    step="check-init",
    changes={"model.width": 16, "model.depth": 2},
)
def weights_whose_names_do_not_match(input_shape, num_classes, width, depth):
    """Weights of a wrapped net are loaded with strict=False: none fits, and the body is frozen as it was drawn."""
    net = convnet(input_shape, num_classes, width=width, depth=depth)
    other = convnet(input_shape, num_classes, width=width, depth=depth).state_dict()
    net.load_state_dict({f"module.{name}": item for name, item in other.items()}, strict=False)
    for item in list(net.parameters())[:-2]:
        item.requires_grad_(False)
    return net


bug(
    "digits-convbn",
    name="frozen_body_of_raw_pixels",
    causes=["unnormalised-input", "train-val-shift"],
    step="check-init",
    changes={"finetune.weights": TURNED, "finetune.way": "head", "data.normalize": "none"},
    twin={"finetune.weights": TURNED, "finetune.way": "head"},
    what="A frozen body that was trained on standardised images is given bytes of 0 to 255.",
)


bug(
    "digits-convbn",
    name="frozen_body_with_moving_statistics",
    causes=["normalisation-misuse"],
    step="check-init",
    changes={
        "finetune.weights": TURNED,
        "finetune.way": "head",
        "finetune.freeze_norm": False,
        "train.batch_size": 4,
    },
    twin={
        "finetune.weights": TURNED,
        "finetune.way": "head",
        "train.batch_size": 4,
    },
    what="The body is frozen, its batch norm is not: each batch of 4 is normalised by its own statistics.",
)
bug(
    "digits-convbn",
    name="trained_weights_at_a_rate_of_3",
    causes=["lr-too-high"],
    step="lr-sweep",
    changes={"finetune.weights": TURNED, "finetune.way": "all", "optimizer.lr": 3.0},
    twin={"finetune.weights": TURNED, "finetune.way": "all"},
    what="Weights of another training are spoiled by a rate of 3.",
)


# --- losses and teachers ----------------------------------------------------------------------------------------------

bug(
    "digits-mlp",
    name="arcface_of_a_scale_for_many_classes",
    causes=["loss-mismatch", "lr-too-high"],
    step="lr-sweep",
    changes={"loss.name": "arcface", "loss.s": 64.0, "loss.m": 0.5, "model.head": "cosine", "optimizer.lr": 0.1},
    twin={"loss.name": "arcface", "loss.s": 10.0, "loss.m": 0.2, "model.head": "cosine", "optimizer.lr": 0.1},
    what="ArcFace with the scale of 64 and the margin of 0.5 of face recognition, for ten classes.",
)
bug(
    "digits-mlp",
    name="centers_that_outweigh_the_answers",
    causes=["over-regularised", "loss-mismatch"],
    step="diagnose",
    changes={"loss": [{"name": "cross_entropy"}, {"name": "center", "factor": 30.0}]},
    twin={"loss": [{"name": "cross_entropy"}, {"name": "center", "factor": 0.01}]},
    what="The center loss has a factor of 30: features collapse to a point.",
)


@bug("digits-mlp", "train.penalty", causes=["misaligned-labels", "loss-mismatch", "over-regularised"], step="diagnose")
def distilled_from_other_examples(outputs, inputs):
    """The teacher's answers are of the batch in another order: shuffled by a loader of its own."""
    teacher = _teacher(inputs.shape[1:])
    with torch.no_grad():
        wanted = (teacher(inputs.roll(1, 0)) / 2).softmax(1)
    return 5 * functional.kl_div((outputs / 2).log_softmax(1), wanted, reduction="batchmean")


TEACHERS = {}


def _teacher(shape):
    """Return a net that has learnt the digits, trained once for the process."""
    if tuple(shape) not in TEACHERS:
        (x, y), _ = digits()
        x = torch.from_numpy(x).float()
        x, y = (x - x.mean()) / x.std(), torch.from_numpy(y)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 64), nn.ReLU(), nn.Linear(64, 10))
            optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
            for chosen in torch.cat([torch.randperm(len(y)) for _ in range(8)]).split(64):
                optimizer.zero_grad()
                with torch.enable_grad():
                    functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
                optimizer.step()
        TEACHERS[tuple(shape)] = net.requires_grad_(False).eval()
    return TEACHERS[tuple(shape)]


bug(
    "digits-convbn",
    name="an_average_that_outweighs_the_labels",
    causes=["over-regularised"],
    step="diagnose",
    changes={"teacher.mean_teacher": 0.999, "teacher.weight": 1000.0},
    twin={"teacher.mean_teacher": 0.98, "teacher.weight": 1.0},
    what="The mean teacher's weight is 1000: the model may not move away from its first answers.",
)


def rare_ones():
    """Return the digits with a thirtieth of the images of 0 to 4 in train; val is alike: uint8 (N, 1, 8, 8)."""
    (x, y), (a, b) = digits()
    kept, same = ((z > 4) | (np.arange(len(z)) % 30 == 0) for z in (y, b))
    return (x[kept], y[kept]), (a[same], b[same])


RARE = {"data.source": "misuses.py:rare_ones", "data.normalize": "standardize"}
bug(
    "digits-mlp",
    name="rare_classes_counted_twice",
    causes=["class-imbalance", "smoothing-too-strong"],
    step="check-init",
    changes={**RARE, "data.sampler": "balanced", "loss.weight": "balanced"},
    twin={**RARE, "data.sampler": "balanced"},
    what="Classes are drawn equally often, and weighed by the loss as well.",
)


# --- regularisers and augmentation ------------------------------------------------------------------------------------

bug(
    "shapes-convbn",
    name="l1_of_a_hundredth",
    causes=["over-regularised"],
    step="diagnose",
    changes={"train.l1": 0.01},
    twin={"train.l1": 1e-5},
    what="The L1 penalty has a factor of 0.01 on the sum over all weights.",
)
bug(
    "digits-mlp",
    name="weights_kept_shorter_than_a_tenth",
    causes=["over-regularised", "capacity-too-small"],
    step="diagnose",
    changes={"train.max_norm": 0.1},
    twin={"train.max_norm": 3.0},
    what="The weights of each unit are shortened to 0.1.",
)
bug(
    "digits-mlp",
    name="nearly_every_weight_dropped",
    causes=["over-regularised"],
    step="diagnose",
    changes={"model.drop_connect": 0.97},
    twin={"model.drop_connect": 0.2},
    what="The share of weights to keep is given where the share to drop is asked for.",
)
bug(
    "digits-convbn",
    name="multi_scale_down_to_four_pixels",
    causes=["augmentation-harms", "over-regularised"],
    step="diagnose",
    changes={"data.augment": [{"name": "multi_scale", "factors": [0.5]}]},
    twin={"data.augment": ["multi_scale"]},
    what="Factors meant for images of 224 pixels: batches of 4x4 pixels.",
)
bug(
    "digits-convbn",
    name="quarter_turns_of_digits",
    causes=["augmentation-harms", "over-regularised"],
    step="diagnose",
    changes={"data.augment": ["quarter_turn", "vflip", "hflip"]},
    what="Digits are turned and mirrored every way: a 6 is a 9, a 2 is a 5.",
)
bug(
    "digits-mlp",
    name="warm_up_of_a_longer_run",
    causes=["schedule-mistake", "lr-too-low"],
    step="check-init",
    changes={
        "schedule.name": "cosine",
        "schedule.warmup_epochs": 90.0,
        "optimizer.lr": 0.01,
        "optimizer.momentum": 0.0,
    },
    twin={"schedule.name": "cosine", "schedule.warmup_epochs": 1.0, "optimizer.lr": 0.01, "optimizer.momentum": 0.0},
    what="A warm-up of 90 epochs, as for a run of 300, in a run of 8.",
)
