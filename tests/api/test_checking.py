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
from tuner.core.errors import TunerError, UsageError

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


class Double(nn.Module):
    """A model as that of pytorch/examples' time_sequence_prediction: it computes, and makes states, in float64."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTMCell(1, 16), nn.Linear(16, 1)
        self.double()

    def forward(self, series):
        state = (torch.zeros(len(series), 16, dtype=torch.double), torch.zeros(len(series), 16, dtype=torch.double))
        answers = []
        for value in series.split(1, dim=1):
            state = self.cell(value, state)
            answers.append(self.head(state[0]))
        return torch.cat(answers, 1)


def test_a_model_in_double_precision_with_lbfgs_is_checked():
    torch.manual_seed(0)
    waves = torch.sin(torch.linspace(0, 8, 9)[None] + 6 * torch.rand(40, 1)).double()
    model = Double()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = tuner.check(model, (waves[:, :-1], waves[:, 1:]), loss=nn.MSELoss(), optimizer=optimizer)
    assert not [finding for finding in report.findings if finding.severity == "error"], str(report)
    assert report.results[0].metrics.init_loss == pytest.approx(0.5, abs=0.2)
    assert report.results[1].metrics.final_loss is not None and "Fits" in report.results[1].headline
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


class TwoImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, first, second):
        return self.head((self.net(first) - self.net(second)).abs()).sigmoid().squeeze(1)


class Pairs(torch.utils.data.Dataset):
    """Items (image, image, target) as those of pytorch/examples' siamese_network: 1 for two of one digit."""

    def __len__(self):
        return 300

    def __getitem__(self, i):
        return X[i], X[(7 * i + 1) % 300], (Y[i] == Y[(7 * i + 1) % 300]).float()


def test_items_of_several_inputs_are_taken_where_the_model_needs_as_many():
    report = tuner.check(TwoImages(), DataLoader(Pairs(), 32), loss=nn.BCELoss())
    assert report.results[0].metrics.init_loss == pytest.approx(0.69, abs=0.15), str(report)
    assert report.results[0].metrics.expected_loss == pytest.approx(0.69, abs=0.01)
    assert not [finding for finding in report.findings if finding.severity == "error"], str(report)
    with pytest.raises(UsageError, match=r"must be \(input, target\), it is a tuple of 3"):
        tuner.check(net(), DataLoader(Pairs(), 32), loss=nn.BCELoss())


class HoldsWhatItComputed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.twice = self.layer.weight * 2

    def forward(self, x):
        return x.flatten(1) @ self.twice.T


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": nn.Linear}, r"^model: is the class Linear, not a module\nHand over the built module"),
        ({"model": nn.LazyLinear(10)}, r"^model: it has lazy layers, .*\nCall it once on the inputs of a batch"),
        ({"model": nn.Flatten()}, r"^model: it has no parameters.*\n.*nn\.ModuleList"),
        (
            {"model": HoldsWhatItComputed()},
            r"^model: cannot be copied: Only Tensors created explicitly.*\ntuner\.check",
        ),
        ({"loss": nn.CrossEntropyLoss}, r"^loss: is the class CrossEntropyLoss, not a loss\n"),
        ({"loss": 3}, r"^loss: is 3, of type int, not a loss\n"),
        ({"optimizer": torch.optim.Adam}, r"^optimizer: is the class Adam, not an optimizer\n"),
        ({"seconds": 0}, r"^seconds: must be more than 0 \(got 0\)"),
    ],
)
def test_what_is_no_model_loss_or_optimizer_is_refused_with_what_to_hand_over(given, message):
    with pytest.raises(UsageError, match=message):
        tuner.check(**{"model": net(), "train": (X, Y), "loss": nn.CrossEntropyLoss(), **given})


def test_gradients_are_taken_where_the_caller_has_turned_them_off_and_stay_off_there():
    with torch.inference_mode():
        report = tuner.check(net(), (X, Y), loss=nn.CrossEntropyLoss(), seconds=5)
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    assert report.passed, report


def test_a_model_that_is_frozen_as_a_whole_is_reported_and_not_an_error_of_torch():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 10))
    report = tuner.check(model.requires_grad_(False), (X, Y), loss=nn.CrossEntropyLoss(), seconds=5)
    assert "no parameter of the model requires a gradient" in str(report) or not report.passed


def test_messages_about_the_data_name_its_arguments_as_well_as_keys_of_a_recipe():
    with pytest.raises(TunerError, match=r'(?s)^too few examples of a class.*task="regression"') as caught:
        tuner.check(net(), (X[:10], Y[:10]), loss=nn.CrossEntropyLoss())
    assert "data.source" not in str(caught.value)
