"""The loss table: balanced weights, lists of losses, losses of features beside those of the outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import UsageError
from tuner.recipe.model import Recipe
from tuner.train.loop import fit
from tuner.train.objective import balanced, feature_terms, objective

SUM = [{"name": "cross_entropy", "label_smoothing": 0.1}, {"name": "multi_margin", "factor": 0.5}]
WITH_FEATURES = [{"name": "cross_entropy"}, {"name": "center", "factor": 0.1}, {"name": "triplet", "factor": 0.2}]
X, Y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 5 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert balanced(torch.bincount(labels)) == pytest.approx(list(expected))


def test_balanced_in_a_recipe_weighs_by_the_counts_of_train(tmp_path):
    code = """
def uneven():
    x, y = load(train=40)[0]
    keep = (y != 2) | (torch.arange(40) < 12)
    return (x[keep], y[keep]), load()[1]
"""
    overrides = {"data.source": "mine.py:uneven", "loss.weight": "balanced"}
    setup = make_case(tmp_path, code, overrides).setup()
    counts = torch.bincount(setup.data.targets("train"))
    weight = counts.sum() / (3 * counts)
    assert counts.tolist() == [14, 13, 4]
    assert torch.allclose(setup.loss()(X, Y), nn.functional.cross_entropy(X, Y, weight=weight))


def test_factors_of_classes_may_be_whole_numbers(tmp_path):
    for name in ("cross_entropy", "torch.nn.CrossEntropyLoss"):
        loss = objective({"name": name, "weight": [1, 2, 5]}, "cpu", tmp_path, lambda: torch.ones(3))
        assert torch.allclose(loss(X, Y), nn.functional.cross_entropy(X, Y, torch.tensor([1.0, 2.0, 5.0])))


def test_a_list_of_losses_is_their_weighted_sum(tmp_path):
    loss = make_case(tmp_path, overrides={"loss": SUM}).setup().loss()
    expected = nn.functional.cross_entropy(X, Y, label_smoothing=0.1) + 0.5 * nn.functional.multi_margin_loss(X, Y)
    assert torch.allclose(loss(X, Y), expected)


def test_losses_of_features_train_as_a_loop_that_adds_them_at_the_heads_input(tmp_path):
    from tuner.parts.losses.features import center, triplet

    setup = make_case(tmp_path, overrides={"loss": WITH_FEATURES}).setup(horizon_epochs=1)
    model, near = setup.model(), center()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, targets in setup.data.epoch(0, 1, 8):
        optimizer.zero_grad()
        features = model[:-1](inputs)
        added = 0.1 * near(features, targets) + 0.2 * triplet(features, targets)
        (nn.functional.cross_entropy(model[-1](features), targets) + added).backward()
        optimizer.step()
    training = fit(setup)
    for name, item in model.state_dict().items():
        torch.testing.assert_close(training.model.state_dict()[name], item, rtol=1e-4, atol=1e-5)
    assert torch.allclose(training.points.states[0].centres, near.centres, atol=1e-5)


AVERAGED = """
class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
    def forward(self, outputs, targets):
        value = nn.functional.cross_entropy(outputs, targets)
        if self.training and torch.is_grad_enabled():
            self.mean.lerp_(value.detach(), 0.5)
        return value * self.mean
"""


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "center"},
        {"name": "mine.py:Averaged"},
        [{"name": "cross_entropy"}, {"name": "mine.py:Averaged", "factor": 0.5}, {"name": "center"}],
    ],
    ids=["alone", "of the user's own", "in a list"],
)
def test_a_loss_with_a_state_is_saved_and_one_and_four_epochs_are_five(tmp_path, loss):
    parts, whole = (make_case(tmp_path / name, AVERAGED, {"loss": loss}) for name in "ab")
    assert parts.run(until=1, horizon_epochs=5).status == "stopped"
    assert without_clock(parts.run(horizon_epochs=5)) == without_clock(whole.run(horizon_epochs=5))


def test_a_loss_of_features_alone_is_taken_of_the_outputs(tmp_path):
    from tuner.parts.losses.features import triplet

    loss = make_case(tmp_path, overrides={"loss": {"name": "triplet", "margin": 0.5}}).setup().loss()
    assert torch.equal(loss(X, Y), triplet(X, Y, margin=0.5))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ([{"name": "cross_entropi"}], r"loss\.name: unknown loss 'cross_entropi' - did you mean 'cross_entropy'"),
        (
            [{"name": "focal"}, {"name": "focal", "gama": 1}],
            r"loss\.1\.gama: focal\(\) takes no such argument - did you mean",
        ),
        ([{"factor": 2}], r"loss\.0: a table needs a name"),
    ],
)
def test_a_wrong_term_of_a_list_is_named(tmp_path, loss, message):
    with pytest.raises(UsageError, match=message):
        make_case(tmp_path, overrides={"loss": loss}).setup()


def test_a_list_without_a_loss_of_the_outputs_is_refused(tmp_path):
    setup = make_case(tmp_path, overrides={"loss": [{"name": "center"}, {"name": "triplet"}]}).setup()
    with pytest.raises(UsageError, match="every loss of the list is one of features"):
        setup.loss()


def test_an_empty_list_of_losses_is_refused():
    raw = {"name": "a", "data": {"source": "digits"}, "model": {"name": "mlp"}, "loss": []}
    with pytest.raises(ValueError, match="a list of losses needs one at least"):
        Recipe.model_validate(raw)


@pytest.mark.parametrize("head", ["bnneck", {"name": "linear", "dropout": 0.9}], ids=["bnneck", "dropout"])
def test_a_loss_of_features_takes_them_before_the_whole_head(tmp_path, head):
    code = """
def net(num_classes):
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, num_classes))
"""
    overrides = {"loss": WITH_FEATURES, "model": {"name": "mine.py:net", "head": head}}
    setup = make_case(tmp_path, code, overrides).setup()
    model, inputs = setup.model(), torch.randn(5, 4)
    term, _ = feature_terms(setup.tables["loss"], "cpu", tmp_path, setup.class_counts)
    term.attach(model)
    model.train()(inputs)
    assert torch.equal(term.features, model[:2](inputs))


def test_balanced_passes_over_a_class_that_is_left_out(tmp_path):
    code = """
def pixels():
    targets = torch.tensor([[0, 0, 255], [1, 0, 255]])
    return (torch.randn(2, 3), targets), (torch.randn(2, 3), targets)
"""
    loss = {"name": "torch.nn.CrossEntropyLoss", "ignore_index": 255, "weight": "balanced"}
    overrides = {"data.source": "mine.py:pixels", "data.task": "classification", "loss": loss}
    setup = make_case(tmp_path, code, overrides).setup()
    assert setup.class_counts().tolist() == [3, 1]


@pytest.mark.parametrize("length", [5, 3])
def test_scores_with_the_classes_last_are_what_torchs_loss_gives_with_them_second(length, tmp_path):
    scores, targets = torch.randn(4, length, 7), torch.randint(0, 7, (4, length))
    loss = objective({"name": "cross_entropy"}, "cpu", tmp_path, lambda: torch.ones(7))
    wanted = torch.nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
    assert float(loss(scores, targets)) == pytest.approx(float(wanted))
    assert float(loss(scores.movedim(-1, 1), targets)) == pytest.approx(float(wanted))
