"""Penalties by their formulas; parameter groups against timm's and by hand; blocks of any model."""

import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case
from tuner.core.errors import UsageError
from tuner.parts import groups, models, penalties, samplers
from tuner.parts.blocks import blocks_of, head_of
from tuner.train.groups import param_groups

TABLE = {"lr": 0.1}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def weights():
    return [net()[0].weight.detach(), net()[3].weight.detach()]


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("l1", {"factor": 0.1}, lambda: 0.1 * sum(w.abs().sum() for w in weights())),
        ("l2", {"factor": 0.1}, lambda: 0.1 * sum(w.square().sum() for w in weights())),
        ("elastic", {"factor": 0.1, "beta": 2.0}, lambda: 0.1 * sum((2 * w**2 + w.abs()).sum() for w in weights())),
    ],
)
def test_a_penalty_is_the_lectures_sum_over_weights_but_not_biases_and_norms(name, args, expected):
    assert torch.allclose(getattr(penalties, name)(net(), None, **args).detach(), expected())


def test_confidence_is_minus_the_entropy_of_the_answers():
    outputs = torch.randn(5, 4)
    entropy = torch.distributions.Categorical(logits=outputs).entropy().mean()
    assert torch.allclose(penalties.confidence(net(), outputs, factor=0.3), -0.3 * entropy)


def test_no_decay_on_norms_spares_what_timm_spares():
    timm = pytest.importorskip("timm.optim")
    model = models.resnet8((3, 8, 8), 5, width=4)
    ours = {id(item) for item in groups.no_decay_on_norms(model, TABLE)[0]["params"]}
    theirs = next(group for group in timm.param_groups_weight_decay(model) if group["weight_decay"] == 0.0)
    assert ours == {id(item) for item in theirs["params"]}


def test_no_decay_on_norms_spares_embeddings_too():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    (group,) = groups.no_decay_on_norms(model, TABLE)
    assert {id(item) for item in group["params"]} == {id(model[0].weight), id(model[1].bias)}


def test_layer_decay_multiplies_by_the_factor_per_block_from_the_head_on():
    model = models.resnet8((3, 8, 8), 5, width=4)
    found = groups.layer_decay(model, TABLE, factor=0.5)
    rates = {id(item): group["lr"] for group in found for item in group["params"]}
    assert rates[id(model.head.weight)] == pytest.approx(0.1)
    assert [rates[id(block.conv1.weight)] for block in model.blocks] == pytest.approx([0.0125, 0.025, 0.05])
    assert rates[id(model.conv.weight)] == rates[id(model.norm.weight)] == pytest.approx(0.00625)
    assert set(rates) == {id(item) for item in model.parameters()}


def test_head_lr_and_body_lr_say_the_same_from_two_sides():
    model = net()
    (head,), (body,) = groups.head_lr(model, TABLE, factor=10), groups.body_lr(model, TABLE, factor=0.1)
    assert head["lr"] == pytest.approx(1.0) and {id(p) for p in head["params"]} == {
        id(p) for p in model[3].parameters()
    }
    assert body["lr"] == pytest.approx(0.01) and len(body["params"]) == 4


def test_groups_combine_rates_by_factors_and_every_parameter_is_in_one(tmp_path):
    model = net()
    named = ["no_decay_on_norms", {"name": "head_lr", "factor": 10.0}, {"name": "layer_decay", "factor": 0.5}]
    table = {**TABLE, "groups": named}
    found = param_groups(model, table, tmp_path)
    of = {id(item): group for group in found for item in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in found) == 6
    assert of[id(model[3].weight)]["lr"] == pytest.approx(1.0) and "weight_decay" not in of[id(model[3].weight)]
    assert of[id(model[3].bias)] == of[id(model[3].bias)] | {"weight_decay": 0.0}
    assert of[id(model[0].weight)]["lr"] == pytest.approx(0.05)
    with pytest.raises(UsageError, match="optimizer.groups layer_decay.factor: must be greater than 0"):
        groups.layer_decay(model, TABLE, factor=0)


def test_blocks_of_a_torchvision_net_are_its_stem_residual_blocks_and_head():
    from torchvision.models import resnet18

    model = resnet18()
    blocks = blocks_of(model)
    assert len(blocks) == 10 and blocks[0] == (model.conv1, model.bn1) and blocks[-1] == (head_of(model),)


def test_a_recipe_trains_its_groups(tmp_path):
    overrides = {"optimizer.groups": "no_decay_on_norms", "optimizer.weight_decay": 0.1}
    setup = make_case(tmp_path, overrides=overrides).setup()
    decays = sorted(group["weight_decay"] for group in setup.optimizer(setup.model()).param_groups)
    assert decays == [0.0, 0.1]


def test_shuffle_takes_every_example_once():
    order = samplers.shuffle(torch.zeros(50), torch.Generator().manual_seed(0)).tolist()
    assert sorted(order) == list(range(50)) and order != list(range(50))
