import math

import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case
from tuner.core.errors import UserCodeError
from tuner.tasks.classification import Classification, Positions
from tuner.train.answers import values_of_each
from tuner.train.evaluate import as_number, better, evaluate, hook_values, predict
from tuner.train.objective import objective
from tuner.train.scoring import Scorer

INPUTS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
TARGETS = torch.tensor([0, 1, 1])
SCORER = Scorer(Classification(), nn.functional.cross_entropy)
UNEVEN = [(INPUTS[:2], TARGETS[:2]), (INPUTS[2:], TARGETS[2:])]


def identity() -> nn.Module:
    model = nn.Linear(2, 2, bias=False)
    nn.init.eye_(model.weight)
    return model


def test_evaluate_weights_uneven_batches_by_their_examples():
    found = evaluate(identity(), UNEVEN, nn.functional.cross_entropy, SCORER)
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 3
    assert found["loss"] == pytest.approx(by_hand)
    assert found["accuracy"] == pytest.approx(2 / 3)


WEIGHT = [0.2, 5.0]


@pytest.mark.parametrize(
    "table",
    [
        {"name": "cross_entropy", "weight": WEIGHT, "label_smoothing": 0.1},
        {"name": "nll", "weight": WEIGHT},
        {"name": "torch.nn.CrossEntropyLoss", "weight": WEIGHT, "label_smoothing": 0.1},
    ],
    ids=lambda table: table["name"],
)
def test_evaluate_gives_a_weighted_loss_as_torch_does_of_the_whole_split(table, tmp_path):
    loss = objective(table, "cpu", tmp_path, lambda: torch.ones(2))
    given = INPUTS, TARGETS, torch.tensor(WEIGHT)
    of_whole = nn.functional.nll_loss if table["name"] == "nll" else nn.functional.cross_entropy
    expected = of_whole(*given, **({} if table["name"] == "nll" else {"label_smoothing": 0.1}))
    assert evaluate(identity(), UNEVEN, loss, SCORER)["loss"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(("name", "ignored"), [("cross_entropy", -100), ("torch.nn.CrossEntropyLoss", 255)])
def test_evaluate_counts_positions_that_have_a_class_and_passes_over_batches_that_have_none(name, ignored, tmp_path):
    table = {"name": name} if ignored == -100 else {"name": name, "ignore_index": ignored}
    loss = objective(table, "cpu", tmp_path, lambda: torch.ones(2))
    scores = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 1], [ignored, 1, ignored], [ignored] * 3, [ignored] * 3, [0, ignored, 0]])
    batches = [(scores[i:j], targets[i:j]) for i, j in ((0, 2), (2, 4), (4, 5))]
    found = evaluate(nn.Identity(), batches, loss, Scorer(Positions(ignored), loss))
    expected = nn.functional.cross_entropy(scores, targets, ignore_index=ignored)
    assert found["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert math.isnan(evaluate(nn.Identity(), batches[1:2], loss, Scorer(Positions(ignored), loss))["loss"])


def test_evaluate_leaves_accuracy_out_where_outputs_are_no_class_scores():
    class Sequence(nn.Module):
        def forward(self, x):
            return x[:, :, None].expand(-1, 2, 5)

    found = evaluate(Sequence(), UNEVEN, lambda outputs, targets: outputs.sum(), SCORER)
    assert set(found) == {"loss"}


def test_evaluate_gives_the_metric_the_whole_split_at_once():
    seen = []

    def metric(outputs, targets):
        seen.append((outputs, targets))
        return 0.25

    found = evaluate(identity(), UNEVEN, nn.functional.cross_entropy, SCORER, metric)
    assert found["metric"] == 0.25
    assert len(seen) == 1
    assert torch.equal(seen[0][0], INPUTS) and torch.equal(seen[0][1], TARGETS)


def test_evaluate_is_in_eval_mode_without_gradients():
    model = nn.Sequential(identity(), nn.Dropout(0.5)).train()
    first, second = (evaluate(model, UNEVEN, nn.functional.cross_entropy, SCORER) for _ in range(2))
    assert first == second
    assert not model.training
    assert not predict(model, UNEVEN)[0].requires_grad


def test_predict_gives_a_split_in_order():
    outputs, targets = predict(identity(), UNEVEN)
    assert torch.equal(outputs, INPUTS) and torch.equal(targets, TARGETS)


def test_predict_refuses_outputs_that_are_no_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return {"left": x, "right": x}

    with pytest.raises(UserCodeError, match=r"model\.name: outputs are a dict, not a tensor"):
        predict(Pair(), UNEVEN)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"train\.evaluate: must return a dictionary, returned a NoneType"),
        ({"accuracy": 1.0}, r"train\.evaluate: the dictionary must hold a 'loss' \(it holds: accuracy\)"),
        ({"loss": "low"}, r"train\.evaluate: 'loss' must be a number \(got 'low'\)"),
        ({"loss": torch.zeros(3)}, r"train\.evaluate: 'loss' must be a number \(got a tensor of shape \(3,\)\)"),
    ],
)
def test_hook_values_says_what_an_evaluate_function_must_return(value, message):
    with pytest.raises(UserCodeError, match=message):
        hook_values(value)


def test_hook_values_takes_scalar_tensors():
    assert hook_values({"loss": torch.tensor(0.5), "f1": 1}) == {"loss": 0.5, "f1": 1.0}
    assert math.isnan(as_number(float("nan"), "x"))


@pytest.mark.parametrize(
    ("score", "loss", "than", "expected"),
    [
        (0.5, 1.0, None, True),
        (0.5, 1.0, (0.4, 0.1), True),
        (0.5, 0.1, (0.6, 1.0), False),
        (0.5, 0.9, (0.5, 1.0), True),
        (0.5, 1.0, (0.5, 1.0), False),
        (math.nan, 0.0, None, False),
        (math.nan, 0.0, (0.1, 1.0), False),
        (0.5, math.nan, (0.5, 1.0), False),
        (0.5, 1.0, (0.5, math.inf), True),
    ],
)
def test_better_is_a_larger_score_or_the_same_with_a_lower_loss(score, loss, than, expected):
    assert better(score, loss, than) is expected


PIXELS = """
def pixels():
    targets = torch.arange(4 * 9).view(4, 3, 3) % 2
    targets[2] = -100
    inputs = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return (inputs, targets), (inputs, targets)
def net(num_classes):
    return nn.Conv2d(3, num_classes, 1)
"""


def test_an_image_without_any_class_has_no_part_in_paired_tests(tmp_path):
    overrides = {"data.source": "mine.py:pixels", "model": {"name": "mine.py:net"}}
    setup = make_case(tmp_path, PIXELS, overrides).setup()
    model = setup.model()
    found = values_of_each(setup, model, "val")
    outputs, targets = predict(model, setup.data.batches("val", 4))
    expected = [float(nn.functional.cross_entropy(outputs[i : i + 1], targets[i : i + 1])) for i in (0, 1, 3)]
    assert found.tolist() == pytest.approx([-value for value in expected], rel=1e-6)
