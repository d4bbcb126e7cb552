import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tuner.checks.tools import outputs as _outputs

TARGETS = torch.arange(20) % 10
SHAPE = torch.Size([20, 10])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("logits", 0.0),
        ("log-probabilities", 0.0),
        ("probabilities", math.log(math.e + 9) - 1),  # 1.4612
        ("unit", math.log(math.e + 9) - 1),
        ("signed", math.log(1 + 9 * math.exp(-2))),  # 0.7966
    ],
)
def test_floor_of_cross_entropy_is_the_closed_form(kind, expected):
    assert _outputs.floor(F.cross_entropy, TARGETS, SHAPE, kind) == pytest.approx(expected, abs=1e-3)


def test_floor_of_smoothed_cross_entropy_is_the_entropy_of_the_smoothed_labels():
    floor = _outputs.floor(lambda o, t: F.cross_entropy(o, t, label_smoothing=0.1), TARGETS, SHAPE, "logits")
    q = torch.tensor([0.91] + [0.01] * 9)
    assert floor == pytest.approx(float(-(q * q.log()).sum()), abs=1e-3)


def test_floor_of_brier_score_is_zero():
    def brier(outputs, targets):
        return ((outputs - F.one_hot(targets, 10)) ** 2).mean()

    assert _outputs.floor(brier, TARGETS, SHAPE, "probabilities") == pytest.approx(0, abs=1e-4)


def test_floor_is_minus_infinity_for_nll_on_logits():
    assert _outputs.floor(F.nll_loss, TARGETS, SHAPE, "logits") == -math.inf


def test_floor_is_zero_for_nll_on_log_probabilities():
    assert _outputs.floor(F.nll_loss, TARGETS, SHAPE, "log-probabilities") == pytest.approx(0, abs=1e-4)


def test_floor_is_unknown_where_the_loss_takes_no_such_outputs():
    def strict(outputs, targets):
        raise ValueError("not these")

    assert _outputs.floor(strict, TARGETS, SHAPE, "logits") is None


def test_constant_floor_is_the_label_entropy():
    targets = torch.tensor([0] * 15 + [1] * 5)
    floor = _outputs.constant_floor(F.cross_entropy, targets, torch.Size([20, 2]), "logits")
    assert floor == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=1e-4)


@pytest.mark.parametrize(("loss", "wrong"), [(F.cross_entropy, False), (lambda o, t: -F.cross_entropy(o, t), True)])
def test_rewards_wrong_tells_the_sign(loss, wrong):
    assert _outputs.rewards_wrong(loss, TARGETS, SHAPE, "logits") is wrong


def _with(*end):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10), *end)


class _Scaled(nn.Module):
    """A tanh head behind a learned scale: bounded now, not for ever."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.body = _with(nn.Tanh())

    def forward(self, inputs):
        return self.scale * self.body(inputs)


def _small_head():
    model = _with()
    nn.init.zeros_(model[-1].weight)
    return model


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (_with, "logits"),
        (_small_head, "logits"),
        (_Scaled, "logits"),
        (lambda: _with(nn.ReLU()), "logits"),
        (lambda: _with(nn.LogSoftmax(1)), "log-probabilities"),
        (lambda: _with(nn.Softmax(1)), "probabilities"),
        (lambda: _with(nn.Sigmoid()), "unit"),
        (lambda: _with(nn.Tanh()), "signed"),
    ],
)
def test_kind_of_is_proved_by_changing_parameters(build, kind):
    model = build()
    before = [p.clone() for p in model.parameters()]
    assert _outputs.kind_of(model, torch.randn(16, 20, generator=torch.Generator().manual_seed(1))) == kind
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def mse(outputs, targets):
    return F.mse_loss(outputs, targets.float())


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("loss", "shape", "ignores"),
    [
        (mse, (20, 1), True),
        (lambda o, t: mse(o[:, 0], t), (20, 1), False),
        (lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], (t % 2).float()), (20, 1), False),
        (F.cross_entropy, (20, 10), False),
        (F.nll_loss, (20, 10), False),
        (F.multi_margin_loss, (20, 10), False),
        (lambda o, t: F.mse_loss(o, F.one_hot(t, 10).float()), (20, 10), False),
        (lambda o, t: F.cross_entropy(o, t, label_smoothing=0.9), (20, 10), False),
        (lambda o, t: o.mean(), (20, 10), True),
    ],
)
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_loss_that_does_not_pair_outputs_with_targets(loss, shape, ignores, kind):
    if kind == "probabilities" and shape[1] == 1:
        kind = "unit"
    assert _outputs.ignores_pairing(loss, TARGETS, torch.Size(shape), kind) is ignores


def test_pairing_cannot_be_asked_of_targets_of_one_class():
    assert _outputs.ignores_pairing(F.cross_entropy, torch.ones(20).long(), SHAPE, "logits") is None


def over_examples(outputs, targets):
    return -F.log_softmax(outputs, dim=0).gather(1, targets[:, None]).mean()


def centred(outputs, targets):
    return F.cross_entropy(outputs - outputs.mean(0), targets)


def contrastive(outputs, targets):
    near = F.normalize(outputs) @ F.normalize(outputs).T / 0.1
    same = targets[:, None] == targets
    return -(near - near.logsumexp(1, keepdim=True))[same].mean()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (over_examples, True),
        (lambda o, t: F.nll_loss(o.log_softmax(0), t), True),
        (F.cross_entropy, False),
        (F.multi_margin_loss, False),
        (lambda o, t: F.binary_cross_entropy_with_logits(o, F.one_hot(t, 10).float()), False),
        (lambda o, t: F.cross_entropy(o, t, reduction="sum"), False),
        (F.nll_loss, False),
        (centred, False),
        (contrastive, False),
    ],
)
def test_a_softmax_over_the_batch_does_not_see_what_a_class_gets_throughout(loss, expected):
    assert _outputs.over_batch(loss, TARGETS, SHAPE) is expected


@pytest.mark.parametrize("shape", [torch.Size([20]), torch.Size([20, 1]), torch.Size([1, 10]), torch.Size([4, 10, 8])])
def test_the_axis_of_other_shapes_is_not_known(shape):
    assert _outputs.over_batch(F.cross_entropy, TARGETS[: shape[0]], shape) is None


@pytest.mark.parametrize("temperature", [0.1, 0.2])
def test_the_floor_of_a_loss_of_angles_is_that_of_features_in_bundles(temperature):
    targets = torch.arange(4).repeat(4)  # four identities of four: each example has three matches

    def contrast(features, targets):  # Khosla et al. 2020
        near = F.normalize(features, dim=1)
        scores = (near @ near.T / temperature).fill_diagonal_(-1e4)
        match = (targets[:, None] == targets[None]).float().fill_diagonal_(0)
        return -(F.log_softmax(scores, 1) * match).sum(1).div(match.sum(1)).mean()

    # in three dimensions four bundles lie as the corners of a tetrahedron, whose cosines are -1/3
    corners = math.log(3 + 12 * math.exp((-1 / 3 - 1) / temperature))
    assert _outputs.floor(contrast, targets, torch.Size((16, 3)), "logits") == pytest.approx(corners, abs=1e-4)


def test_outputs_of_positions_are_named_by_their_second_axis():
    scores = torch.randn(4, 3, 5, 5)
    assert _outputs.looks_like(scores.softmax(1)) == "probabilities"
    assert _outputs.looks_like(scores.log_softmax(1)) == "log-probabilities"
    assert _outputs.looks_like(scores.softmax(-1)) == "unit"
    targets = torch.randint(0, 3, (4, 5, 5))
    assert _outputs.floor(F.nll_loss, targets, torch.Size([4, 3, 5, 5]), "log-probabilities") == pytest.approx(
        0, abs=1e-3
    )
