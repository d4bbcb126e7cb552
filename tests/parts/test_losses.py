import math

import pytest
import torch

from tuner.parts import losses

TARGETS = torch.tensor([0, 3, 9, 3])


def outputs(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("loss", "expected"),  # closed forms at uniform outputs, 10 classes
    [
        (losses.cross_entropy, math.log(10)),
        (losses.focal, 0.9**2 * math.log(10)),
        (losses.brier, 0.9),
        (losses.bce_one_hot, math.log(2)),
        (losses.mse_one_hot, 0.1),
        (losses.multi_margin, 0.9),
    ],
)
def test_a_loss_has_its_closed_form_value_at_uniform_outputs(loss, expected):
    assert float(loss(torch.zeros(4, 10), TARGETS)) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_with_class_weights_equals_torchs_module():
    weight = [float(i + 1) for i in range(10)]
    expected = torch.nn.CrossEntropyLoss(weight=torch.tensor(weight), label_smoothing=0.1)(outputs(), TARGETS)
    assert torch.equal(losses.cross_entropy(outputs(), TARGETS, 0.1, weight), expected)


def test_smoothed_cross_entropy_has_its_entropy_as_floor():
    best = torch.full((1, 10), 0.01).log()
    best[0, 3] = math.log(0.91)
    entropy = -(0.91 * math.log(0.91) + 9 * 0.01 * math.log(0.01))
    found = losses.cross_entropy(best, torch.tensor([3]), label_smoothing=0.1)
    assert float(found) == pytest.approx(entropy, rel=1e-5) == pytest.approx(0.5003, abs=1e-4)


def test_focal_with_gamma_0_is_cross_entropy():
    expected = torch.nn.functional.cross_entropy(outputs(), TARGETS)
    assert torch.allclose(losses.focal(outputs(), TARGETS, gamma=0.0), expected)


def test_focal_weights_its_examples():
    single = [float(losses.focal(outputs()[i : i + 1], TARGETS[i : i + 1])) for i in range(4)]
    weight = [0.0] * 10
    weight[3] = 2.0
    expected = (2 * single[1] + 2 * single[3]) / 4
    assert float(losses.focal(outputs(), TARGETS, weight=weight)) == pytest.approx(expected, rel=1e-5)


def test_nll_of_log_probabilities_is_cross_entropy_of_logits():
    found = losses.nll(outputs().log_softmax(1), TARGETS)
    assert torch.allclose(found, torch.nn.functional.cross_entropy(outputs(), TARGETS))


def test_multi_margin_equals_torchs_module():
    expected = torch.nn.MultiMarginLoss(p=2, margin=0.5)(outputs(), TARGETS)
    assert torch.equal(losses.multi_margin(outputs(), TARGETS, margin=0.5, p=2), expected)


def test_mse_one_hot_and_brier_are_0_at_the_target():
    one_hot = torch.eye(10)[TARGETS]
    assert float(losses.mse_one_hot(one_hot, TARGETS)) == 0
    assert float(losses.brier(one_hot * 1e4, TARGETS)) == 0
