"""`tuner.check` on the user's own objects: what it finds, and that it leaves everything as it was."""

import copy
import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuner
from tuner.core.errors import UsageError

DIGITS = load_digits()
X = torch.tensor(DIGITS.images[:400], dtype=torch.float32)[:, None] / 16
Y = torch.tensor(DIGITS.target[:400])


def net(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10), *last)


@pytest.fixture(scope="module")
def sound():
    """A sound training in the middle of its way, checked; with what it was before."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(5)
    train = DataLoader(TensorDataset(X[:300], Y[:300]), batch_size=32, shuffle=True, generator=generator)
    for inputs, targets in train:
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    model.eval()
    state = lambda: [  # noqa: E731
        {name: value.clone() for name, value in model.state_dict().items()},
        [p.grad.clone() for p in model.parameters()],
        [module.training for module in model.modules()],
        copy.deepcopy(optimizer.state_dict()),
        (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), generator.get_state()),
    ]
    before = state()
    report = tuner.check(model, train, (X[300:], Y[300:]), loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    return report, before, state()


def test_a_sound_training_passes(sound):
    report = sound[0]
    assert report.passed
    report.assert_passed()
    assert not [finding for finding in report.findings if finding.severity == "error"]


def test_everything_is_put_back_bit_for_bit(sound):
    _, before, after = sound
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_a_report_prints_as_the_command_does_and_in_a_notebook(sound):
    report = sound[0]
    assert str(report).startswith(" STEP 1  loss at initialisation") and repr(report) == str(report)
    assert report._repr_html_().startswith("<pre") and "STEP 1" in report._repr_html_()


def test_probabilities_before_a_loss_of_logits_are_an_error():
    report = tuner.check(net(nn.Softmax(1)), (X, Y), loss=nn.CrossEntropyLoss())
    assert not report.passed
    assert "IN104" in [finding.code for finding in report.findings]
    with pytest.raises(AssertionError, match="the outputs are probabilities"):
        report.assert_passed()


def test_an_optimizer_of_another_model_is_an_error():
    optimizer = torch.optim.SGD(net().parameters(), 0.1)
    report = tuner.check(net(), (X, Y), loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert not report.passed and any("optimizer" in finding.title for finding in report.findings)


def test_data_in_no_known_form_is_refused_with_the_line_that_helps():
    with pytest.raises(UsageError, match="real numbers") as raised:
        tuner.check(net(), (X, Y.float()), loss=nn.CrossEntropyLoss())
    assert 'data.task = "regression"' in raised.value.hint


class ReturnsItsLoss(nn.Module):
    """A model as karpathy's: forward(x, targets=None) gives (logits, loss)."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x, targets=None):
        logits = self.net(x)
        return logits, None if targets is None else nn.functional.cross_entropy(logits, targets)


def test_a_model_that_returns_its_loss_is_checked_as_one_with_that_loss_outside():
    reports = [
        tuner.check(ReturnsItsLoss(), (X, Y), loss="model"),
        tuner.check(net(), (X, Y), loss=nn.functional.cross_entropy),
    ]
    ours, theirs = ([(finding.code, finding.severity) for finding in report.findings] for report in reports)
    assert reports[0].passed and ours == theirs
    first, second = (report.results[0].metrics.init_loss for report in reports)
    assert first == pytest.approx(second)


def test_a_text_that_is_no_loss_is_refused():
    with pytest.raises(UsageError, match="'cross_entropy' is a text, not a function"):
        tuner.check(net(), (X, Y), loss="cross_entropy")
