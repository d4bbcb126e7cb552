"""Scores gathered batch by batch, and the threshold that a loss tells."""

import pytest
import torch
from sklearn import metrics
from torch.nn import functional as F

from tuner.tasks.classification import Classification, Positions
from tuner.tasks.multilabel import Multilabel
from tuner.tasks.regression import Regression
from tuner.train.scoring import Scorer, Tally


def of(scorer, outputs, targets, size=7):
    tally = Tally(scorer)
    for batch in zip(outputs.split(size), targets.split(size), strict=True):
        tally.add(*batch)
    return tally.values()


def bce_of_logits(outputs, targets):
    return F.binary_cross_entropy_with_logits(outputs, targets.float().view_as(outputs), pos_weight=torch.tensor(3.0))


def bce(outputs, targets):
    return F.binary_cross_entropy(outputs, targets.float().view_as(outputs))


def hinge(outputs, targets):
    return (1 - (2.0 * targets.view_as(outputs) - 1) * outputs).clamp_min(0).mean()


def squares(outputs, targets):
    return F.mse_loss(outputs, targets.float().view_as(outputs))


@pytest.mark.parametrize(("loss", "wanted"), [(bce_of_logits, 0.0), (bce, 0.5), (hinge, 0.0), (squares, 0.5)])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_the_loss_tells_from_which_value_on_one_output_says_yes(loss, wanted, shape):
    scorer = Scorer(Classification(), loss)
    assert scorer.threshold(torch.rand(shape), torch.zeros(6, dtype=torch.int64)) == wanted


@pytest.mark.parametrize(("loss", "outputs"), [(bce_of_logits, [-1.0, 2.0, 0.3, -2.0]), (bce, [0.1, 0.9, 0.6, 0.2])])
def test_one_output_is_scored_by_its_side_of_the_threshold(loss, outputs):
    targets = torch.tensor([0, 1, 0, 0])
    for shape in ((4,), (4, 1)):
        assert of(Scorer(Classification(), loss), torch.tensor(outputs).view(shape), targets)["accuracy"] == 0.75


def test_a_monitored_score_is_measured_over_all_batches_at_once():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 3, generator=generator)
    targets = torch.randint(0, 3, (50,), generator=generator)
    for name, wanted in (
        ("balanced_accuracy", metrics.balanced_accuracy_score(targets, outputs.argmax(1))),
        ("macro_f1", metrics.f1_score(targets, outputs.argmax(1), average="macro")),
        ("top_2", metrics.top_k_accuracy_score(targets, outputs, k=2)),
    ):
        found = of(Scorer(Classification(), F.cross_entropy, f"val_{name}"), outputs, targets)
        assert found[name] == pytest.approx(wanted)
        assert found["accuracy"] == pytest.approx((outputs.argmax(1) == targets).float().mean().item())


def test_positions_without_a_class_are_not_scored():
    outputs = torch.zeros(2, 3, 2, 2)
    outputs[:, 1] = 1.0
    targets = torch.tensor([[[1, 1], [0, -100]], [[1, -100], [-100, -100]]])
    assert of(Scorer(Positions(), F.cross_entropy), outputs, targets)["accuracy"] == 0.75
    assert of(Scorer(Positions(), F.cross_entropy), outputs.movedim(1, -1), targets)["accuracy"] == 0.75


def test_right_answers_of_positions_count_as_a_share_of_each_example():
    outputs = torch.zeros(2, 3, 4)
    outputs[:, 1] = 1.0
    targets = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    assert float(Scorer(Positions(), F.cross_entropy).right(outputs, targets)) == pytest.approx(5 / 8 * 2)


def test_labels_are_counted_above_the_losss_own_threshold():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    shares = torch.tensor([[0.9, 0.2], [0.3, 0.6], [0.4, 0.8]])
    assert of(Scorer(Multilabel(), F.binary_cross_entropy), shares, targets)["label_accuracy"] == pytest.approx(5 / 6)
    logits = Scorer(Multilabel(), F.binary_cross_entropy_with_logits)
    assert of(logits, torch.logit(shares), targets)["label_accuracy"] == pytest.approx(5 / 6)


def test_outputs_of_another_shape_have_no_score():
    assert of(Scorer(Classification(), F.cross_entropy), torch.zeros(6, 2, 5), torch.zeros(6, dtype=torch.int64)) == {}


def test_values_are_scored_whether_they_are_a_column_or_not():
    targets, outputs = torch.arange(8.0), torch.arange(8.0) + 1
    for shape in ((8,), (8, 1)):
        assert of(Scorer(Regression(), F.mse_loss), outputs.view(shape), targets)["mae"] == 1.0
