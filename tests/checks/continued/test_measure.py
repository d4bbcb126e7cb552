"""A confirming run that goes on from trained weights."""

import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case
from tuner.checks.continued.measure import continued

CODE = """
def dropping(input_shape, num_classes):
    return nn.Sequential(nn.Dropout(0.9), nn.Linear(4, num_classes))

def sgd(params, lr):
    return torch.optim.SGD(params, lr)
"""


@pytest.fixture
def case(tmp_path):
    """A linear model with heavy dropout; its checkpoint lies in the folder of another stage."""
    case = make_case(tmp_path, CODE, {"model": {"name": "mine.py:dropping"}, "optimizer.lr": 1e-12})
    torch.manual_seed(3)
    layer = nn.Linear(4, 3)
    folder = tmp_path / "fine" / "checkpoints"
    folder.mkdir(parents=True)
    weights = {"1.weight": layer.weight.detach(), "1.bias": layer.bias.detach()}
    torch.save({"model": weights, "epoch": 2, "spec_id": "x"}, folder / "x.pt")
    return case, layer


def test_it_starts_from_the_checkpoint_and_evaluates_every_epoch(case):
    case, layer = case
    setup = case.setup(horizon_epochs=None)
    found = continued(setup, "fine/checkpoints/x.pt", epochs=2)
    inputs, targets = next(iter(setup.data.batches("val", 100)))
    with torch.no_grad():
        right = (layer(inputs).argmax(1) == targets).float().mean().item()
    val = [row for row in found.curve if row["split"] == "val"]
    assert [row["epoch"] for row in val] == [1, 2]
    assert [row["accuracy"] for row in val] == pytest.approx([right, right])  # a rate of 1e-12 moves nothing
    assert not found.diverged


def test_dropout_can_be_switched_off(case):
    case, layer = case
    setup = case.setup(horizon_epochs=None)
    found = continued(setup, "fine/checkpoints/x.pt", epochs=1, dropout=False)
    batches = list(setup.data.epoch(0, 1, 8))
    with torch.no_grad():
        total = sum(float(nn.functional.cross_entropy(layer(x), y)) * len(y) for x, y in batches)
    row = next(row for row in found.curve if row["split"] == "train")
    assert row["loss"] == pytest.approx(total / sum(len(y) for _, y in batches), rel=1e-5)


def test_a_rate_far_too_high_is_said_to_diverge(case):
    case, _ = case
    huge = make_case(case.folder, CODE, {"model": {"name": "mine.py:dropping"}, "optimizer.lr": 1e38})
    assert continued(huge.setup(horizon_epochs=None), "fine/checkpoints/x.pt", epochs=2).diverged


def test_weights_that_are_not_there_or_do_not_fit_are_said(case, tmp_path):
    case, _ = case
    setup = case.setup(horizon_epochs=None)
    assert "cannot be loaded" in continued(setup, "fine/checkpoints/y.pt", epochs=1).why
    other = make_case(tmp_path, CODE).setup(horizon_epochs=None)
    assert "cannot be loaded" in continued(other, "fine/checkpoints/x.pt", epochs=1).why
