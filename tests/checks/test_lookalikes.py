"""Planted bugs and their healthy look-alikes, through the real probes and the real rules of check-init."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.asking import judged
from tuner.checks.init_battery.measure import init_battery


def net(*end, hidden=nn.ReLU, middle=(), change=None):
    def build():
        model = nn.Sequential(
            nn.Linear(20, 32), *middle, hidden(), nn.Linear(32, 32), hidden(), nn.Linear(32, 10), *end
        )
        if change is not None:
            with torch.no_grad():
                change(model)
        return model

    return build


def focal(outputs, targets):
    right = outputs.softmax(1).gather(1, targets[:, None]).squeeze(1)
    return ((1 - right) ** 2 * F.cross_entropy(outputs, targets, reduction="none")).mean()


def one_hot(targets):
    return F.one_hot(targets, 10).float()


class ZeroGamma(nn.Module):
    """A residual block whose last normalisation starts at 0, and a zero-initialised head."""

    def __init__(self):
        super().__init__()
        self.inside, self.norm, self.head = nn.Linear(20, 20), nn.BatchNorm1d(20), nn.Linear(20, 10)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs):
        return self.head(inputs + self.norm(self.inside(inputs).relu()))


class SoftCapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = net()()

    def forward(self, inputs):
        return 30 * torch.tanh(self.body(inputs) / 30)


HEALTHY = {
    "plain": {},
    "label smoothing": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "class weights": {"loss": nn.CrossEntropyLoss(weight=torch.linspace(0.1, 5, 10))},
    "focal": {"loss": focal},
    "bce with logits on one-hot": {"loss": lambda o, t: F.binary_cross_entropy_with_logits(o, one_hot(t))},
    "bce on sigmoid": {"model": net(nn.Sigmoid()), "loss": lambda o, t: F.binary_cross_entropy(o, one_hot(t))},
    "brier on softmax": {"model": net(nn.Softmax(1)), "loss": lambda o, t: ((o - one_hot(t)) ** 2).mean()},
    "mse on one-hot": {"loss": lambda o, t: F.mse_loss(o, one_hot(t))},
    "margin": {"loss": F.multi_margin_loss},
    "nll on log_softmax": {"model": net(nn.LogSoftmax(1)), "loss": F.nll_loss},
    "cross-entropy on log_softmax": {"model": net(nn.LogSoftmax(1))},
    "zero-initialised head": {"model": net(change=lambda m: m[-1].weight.zero_())},
    "zero gamma and zero head": {"model": ZeroGamma},
    "soft-capped logits": {"model": SoftCapped},
    "dropout 0.5": {"model": net(middle=(nn.Dropout(0.5),))},
    "batch norm, batches of 8": {"model": net(middle=(nn.BatchNorm1d(32),)), "batch_size": 8},
    "layer norm and gelu": {"model": net(middle=(nn.LayerNorm(32),), hidden=nn.GELU)},
    "tanh units": {"model": net(hidden=nn.Tanh)},
    "adamw with decay": {"optimizer": torch.optim.AdamW, "optimizer_table": {"weight_decay": 0.1, "lr": 1e-3}},
    "adam with coupled decay": {"optimizer": torch.optim.Adam, "optimizer_table": {"weight_decay": 1e-4, "lr": 1e-3}},
}


def findings_of(setup):
    findings, _, _ = judged("check-init", {**init_battery(setup)})
    return {finding.code: finding.severity for finding in findings if finding.severity != "note"}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_look_alike_gives_neither_error_nor_warning(setup_of, blobs, case, seed):
    settings = {"model": net(), **HEALTHY[case]}
    assert not findings_of(setup_of(blobs(seed=seed), seed=seed, val=blobs(40, seed=9), **settings))


def frozen(model):
    model[0].requires_grad_(False)


BUGS = {
    "softmax before cross-entropy": ({"model": net(nn.Softmax(1))}, "IN104", "error"),
    "sigmoid before cross-entropy": ({"model": net(nn.Sigmoid())}, "IN104", "error"),
    "tanh before cross-entropy": ({"model": net(nn.Tanh())}, "IN104", "error"),
    "nll on logits": ({"loss": F.nll_loss}, "IN105", "error"),
    "nll on probabilities": ({"model": net(nn.Softmax(1)), "loss": F.nll_loss}, "IN105", "warn"),
    "sign": ({"loss": lambda o, t: -F.cross_entropy(o, t)}, "IN106", "error"),
    "sum": ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "IN107", "warn"),
    "smoothing 0.9": ({"loss": nn.CrossEntropyLoss(label_smoothing=0.9)}, "IN109", "warn"),
    "exploding init": ({"model": net(change=lambda m: [p.normal_() for p in m.parameters()])}, "IN102", "warn"),
    "frozen layer": ({"model": net(change=frozen)}, "IN114", "warn"),
    "dead units": ({"model": net(change=lambda m: m[0].bias.fill_(-100))}, "IN130", "warn"),
    "saturated units": ({"model": net(hidden=nn.Tanh, change=lambda m: m[0].weight.mul_(1e3))}, "IN131", "warn"),
}


@pytest.mark.parametrize("case", BUGS)
def test_planted_bug_is_found(setup_of, blobs, case):
    settings, code, severity = BUGS[case]
    assert findings_of(setup_of(blobs(), val=blobs(40, seed=9), **{"model": net(), **settings}))[code] == severity
