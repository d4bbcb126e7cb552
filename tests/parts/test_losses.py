import math

import pytest
import torch

from tuner.core.errors import UsageError
from tuner.parts.losses import classification as losses
from tuner.parts.losses import features, labels, own, real

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


SHARES = torch.softmax(torch.randn(4, 10, generator=torch.Generator().manual_seed(9)), 1)
HARD = torch.eye(10)[TARGETS]


@pytest.mark.parametrize(
    "loss",
    [losses.cross_entropy, losses.focal, losses.ohem, losses.kl, losses.brier, losses.mse_one_hot, losses.bce_one_hot],
)
def test_shares_that_are_one_hot_give_what_class_indices_give(loss):
    assert torch.allclose(loss(outputs(), HARD), loss(outputs(), TARGETS), rtol=1e-6)


def test_focal_of_shares_is_the_mean_over_the_classes_that_are_mixed():
    one = torch.stack([losses.focal(outputs()[:1], torch.tensor([c])) for c in range(10)])
    assert torch.allclose(losses.focal(outputs()[:1], SHARES[:1]), (SHARES[0] * one).sum(), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_focal_has_finite_gradients_where_the_softmax_is_rounded_to_1(gamma):
    sure = torch.tensor([[40.0, 0.0], [0.0, 40.0], [0.3, 0.0]], requires_grad=True)
    losses.focal(sure, torch.tensor([0, 0, 0]), gamma=gamma).backward()
    assert torch.allclose(sure.grad[:2], torch.tensor([[0.0, 0.0], [-1 / 3, 1 / 3]]), atol=1e-6)
    p = torch.sigmoid(torch.tensor(0.3, dtype=torch.float64)).requires_grad_()
    ((1 - p) ** gamma * -p.log() / 3).backward()
    assert float(sure.grad[2, 0]) == pytest.approx(float(p.grad * p * (1 - p)), rel=1e-5)


def test_focal_of_two_classes_equals_torchvisions_sigmoid_form():
    from torchvision.ops import sigmoid_focal_loss

    x, y = outputs()[:, :1], torch.tensor([0, 1, 1, 0])
    expected = sigmoid_focal_loss(x[:, 0], y.float(), alpha=-1, gamma=2.0, reduction="mean")
    assert torch.allclose(losses.focal(torch.cat([torch.zeros_like(x), x], 1), y), expected, rtol=1e-5)


def test_ohem_is_the_mean_of_the_largest_losses():
    each = torch.nn.functional.cross_entropy(outputs(), TARGETS, reduction="none").sort(descending=True).values
    assert torch.allclose(losses.ohem(outputs(), TARGETS, share=0.5), each[:2].mean())
    assert torch.allclose(losses.ohem(outputs(), TARGETS, share=1.0), each.mean())
    with pytest.raises(UsageError, match=r"loss\.share: must be above 0, up to 1 \(got 0\)"):
        losses.ohem(outputs(), TARGETS, share=0)


def test_kl_of_a_teacher_equals_torchs_divergence_times_the_squared_temperature():
    teacher = torch.softmax(outputs(1) / 4, 1)
    expected = torch.nn.functional.kl_div((outputs() / 4).log_softmax(1), teacher, reduction="batchmean") * 16
    assert torch.allclose(losses.kl(outputs(), teacher, temperature=4.0), expected)
    assert float(losses.kl(outputs(1), torch.softmax(outputs(1), 1))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "kind", "names"), [("cosface", "CosFaceLoss", (8.0, 0.3)), ("arcface", "ArcFaceLoss", (8.0, 0.4))]
)
def test_a_margin_loss_equals_pytorch_metric_learnings(loss, kind, names):
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    scale, margin = names
    features = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(2)), dim=1)
    targets = torch.tensor([0, 1, 2, 3, 1, 0])
    degrees = margin if loss == "cosface" else math.degrees(margin)
    reference = getattr(pml, kind)(num_classes=4, embedding_size=5, scale=scale, margin=degrees)
    cosines = features @ torch.nn.functional.normalize(reference.W.detach(), dim=0)
    found = getattr(losses, loss)(cosines, targets, s=scale, m=margin)
    assert float(found) == pytest.approx(float(reference(features, targets)), rel=1e-4)


def test_a_margin_loss_refuses_outputs_that_are_no_cosines():
    with pytest.raises(UsageError, match="cosface needs cosines as outputs, one is"):
        losses.cosface(10 * outputs(), TARGETS)


@pytest.mark.parametrize("loss", [losses.cosface, losses.nll, losses.multi_margin, features.triplet])
def test_a_loss_of_one_class_per_example_refuses_shares(loss):
    with pytest.raises(UsageError, match="needs one class per example, the targets are shares of shape"):
        loss(outputs() / 10, SHARES)


@pytest.mark.parametrize(
    ("loss", "torchs"),
    [(real.mse, torch.nn.MSELoss()), (real.mae, torch.nn.L1Loss()), (real.huber, torch.nn.HuberLoss())],
)
def test_a_loss_of_real_targets_equals_torchs_module_also_for_a_column_of_outputs(loss, torchs):
    x, y = outputs()[:, :1], outputs(3)[:, 0]
    assert torch.equal(loss(x, y), torchs(x[:, 0], y))
    assert torch.equal(loss(outputs(), outputs(3)), torchs(outputs(), outputs(3)))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (outputs(), TARGETS, "mse needs real targets, they are torch.int64"),
        (outputs(), outputs()[:, 0], r"outputs of shape \(4, 10\) do not fit targets of shape \(4,\)"),
    ],
)
def test_a_loss_of_real_targets_says_what_does_not_fit(x, y, message):
    with pytest.raises(UsageError, match=message):
        real.mse(x, y)


def test_bce_equals_torchs_module_for_labels_and_for_a_single_output():
    several = (outputs(5) > 0).float()
    assert torch.equal(labels.bce(outputs(), several), torch.nn.BCEWithLogitsLoss()(outputs(), several))
    one = torch.tensor([0, 1, 1, 0])
    assert torch.equal(labels.bce(outputs()[:, :1], one), torch.nn.BCEWithLogitsLoss()(outputs()[:, 0], one.float()))


def test_f_beta_of_certain_answers_is_scikit_learns():
    from sklearn.metrics import fbeta_score

    truth, answer = (outputs(1) > 0.3).int(), (outputs(2) > 0).int()
    found = labels.f_beta((answer * 2 - 1) * 1e4, truth.float(), beta=2.0)
    kept = (truth.sum(0) + answer.sum(0)) > 0  # a label that nobody has nor gives counts 0 in both
    expected = fbeta_score(truth, answer, beta=2.0, average="macro", zero_division=0.0)
    assert kept.any() and float(found) == pytest.approx(1 - expected, abs=1e-6)


def test_f_beta_of_mixed_shares_is_that_of_the_softmax_and_of_labels_that_of_the_sigmoid():
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.0, 0.8]])
    scores = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    several = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.4, 0.0], [1.0, 0.0, 1.0]])  # mixed as well
    for targets, p in ((mixed, scores.softmax(1)), (several, scores.sigmoid()), (several.round(), scores.sigmoid())):
        expected = 1 - (2 * (p * targets).sum(0) / (p + targets).sum(0)).mean()
        assert torch.allclose(labels.f_beta(scores, targets), expected)


def test_lovasz_refuses_shares_which_are_no_sets():
    with pytest.raises(UsageError, match="lovasz needs one class per example, the targets are shares"):
        labels.lovasz(torch.randn(2, 3), torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0]]))


def test_lovasz_equals_kornias_softmax_form():
    kornia = pytest.importorskip("kornia.losses")
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(3)), torch.arange(40) % 5
    expected = kornia.lovasz_softmax_loss(x.T.reshape(1, 5, 40, 1), y.view(1, 40, 1))
    assert float(labels.lovasz(x, y)) == pytest.approx(float(expected), rel=1e-4)


def test_lovasz_of_certain_answers_is_1_minus_the_intersection_over_union():
    from sklearn.metrics import jaccard_score

    truth = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    answer = torch.tensor([0, 1, 1, 1, 2, 2, 2])
    expected = 1 - jaccard_score(truth, answer, average="macro")
    assert float(labels.lovasz(1e4 * torch.eye(3)[answer], truth)) == pytest.approx(expected, abs=1e-6)


def test_lovasz_hinge_equals_pytorch_optimizers():
    other = pytest.importorskip("pytorch_optimizer")
    x, y = outputs(4)[:, :1], torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    expected = other.LovaszHingeLoss(per_image=False)(x.view(1, 4, 1), y.view(1, 4, 1))
    assert float(labels.lovasz(x, y)) == pytest.approx(float(expected), rel=1e-5)


def test_triplet_mines_the_hardest_as_pytorch_metric_learning_does():
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, miners, reducers
    from pytorch_metric_learning import losses as theirs

    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(6))
    y = torch.arange(12) % 3
    plain = distances.LpDistance(normalize_embeddings=False)
    mined = miners.BatchHardMiner(distance=plain)(x, y)
    reference = theirs.TripletMarginLoss(margin=0.3, distance=plain, reducer=reducers.MeanReducer())
    assert float(features.triplet(x, y, margin=0.3)) == pytest.approx(float(reference(x, y, mined)), rel=1e-4)


def test_triplet_is_0_where_no_class_has_a_partner_and_a_stranger():
    x = torch.randn(3, 4, requires_grad=True)
    assert float(features.triplet(x, torch.tensor([0, 1, 2]))) == 0
    assert float(features.triplet(x, torch.tensor([1, 1, 1]))) == 0


def test_center_pulls_towards_centres_that_move_by_the_papers_rule():
    loss = features.center(alpha=0.5)
    x, y = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])
    assert float(loss(x, y)) == pytest.approx((4 + 16 + 9) / 3 / 2)  # centres start at 0
    assert torch.allclose(loss.centres, torch.tensor([[0.5 * 6 / 3, 0.0], [0.0, 0.5 * 3 / 2]]))
    with torch.no_grad():
        before = loss.centres
        loss(x, y)
    assert loss.centres is before  # evaluation moves nothing


@pytest.mark.parametrize(
    "form",
    [
        lambda logits, loss: (logits, loss),
        lambda logits, loss: {"loss": loss, "logits": logits, "temperature": torch.tensor(3.0)},
        lambda logits, loss: {"scores": logits, "objective": loss},
    ],
)
def test_a_models_own_loss_is_what_it_returns_beside_its_answers(form):
    loss = torch.tensor(0.7)
    assert own.model(form(outputs(), loss), torch.zeros(4)) == loss


@pytest.mark.parametrize(
    "given", [torch.zeros(4, 3), (torch.zeros(4, 3), None), (torch.tensor(1.0), torch.tensor(2.0))]
)
def test_outputs_without_a_loss_of_their_own_are_refused(given):
    with pytest.raises(NotImplementedError, match="the model gives no loss of its own here"):
        own.model(given, torch.zeros(4))
