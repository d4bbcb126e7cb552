"""Activations, inits, pooling, heads and regularisers of a model: closed forms, torch's own, the lecture's numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.train.training_cases import make_case
from tuner.core.errors import UsageError
from tuner.parts import head, init, layers, models, pooling, regularisers
from tuner.parts.replacing import activation_of, replace_activations, set_global_pool
from tuner.train.loop import fit

X = torch.linspace(-3, 3, 13)
IMAGES = {"data.source": "mine.py:images"}
CONVNET = {**IMAGES, "model": {"name": "convnet", "width": 4, "depth": 1}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sigmoid", 1 / (1 + (-X).exp())),
        ("tanh", (X.exp() - (-X).exp()) / (X.exp() + (-X).exp())),
        ("relu", X.clamp(min=0)),
        ("leaky_relu", torch.maximum(0.01 * X, X)),
        ({"name": "leaky_relu", "negative_slope": 0.1}, torch.maximum(0.1 * X, X)),
        ({"name": "prelu", "init": 0.2}, torch.maximum(0.2 * X, X)),
        ("gelu", X * 0.5 * (1 + torch.erf(X / math.sqrt(2)))),
        ({"name": "elu", "alpha": 0.5}, torch.where(X > 0, X, 0.5 * (X.exp() - 1))),
        ("selu", 1.0507009873554804 * torch.where(X > 0, X, 1.6732632423543772 * (X.exp() - 1))),
        ("silu", X / (1 + (-X).exp())),
        ("torch.nn.Softplus", (1 + X.exp()).log()),
    ],
    ids=str,
)
def test_an_activation_is_the_lectures_formula(spec, expected):
    assert torch.allclose(activation_of(spec)()(X), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("celu", torch.where(X > 0, X, X.exp() - 1)),
        ("hardshrink", torch.where(X.abs() > 0.5, X, 0.0)),
        ("hardsigmoid", (X / 6 + 0.5).clamp(0, 1)),
        ("hardswish", X * (X / 6 + 0.5).clamp(0, 1)),
        ("hardtanh", X.clamp(-1, 1)),
        ("log_sigmoid", -(1 + (-X).exp()).log()),
        ("mish", X * torch.tanh((1 + X.exp()).log())),
        ("relu6", X.clamp(0, 6)),
        ("rrelu", torch.where(X > 0, X, (1 / 8 + 1 / 3) / 2 * X)),
        ("softshrink", X.sign() * (X.abs() - 0.5).clamp(min=0)),
        ("softsign", X / (1 + X.abs())),
        ("tanhshrink", X - torch.tanh(X)),
    ],
    ids=str,
)
def test_an_activation_of_torchs_is_what_its_card_says(name, expected):
    assert torch.allclose(activation_of(name)().eval()(X), expected, atol=1e-6)


def test_maxout_is_the_largest_of_its_linear_pieces():
    torch.manual_seed(0)
    net = models.mlp((4,), 3, width=5, depth=1, activation=activation_of({"name": "maxout", "pieces": 3}))
    x = torch.randn(7, 4)
    pieces = F.linear(x, net[1].weight, net[1].bias).view(7, 3, 5)
    assert net[1].out_features == 15
    assert torch.allclose(net[2](net[1](x)), pieces.max(1).values)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet8", "resnet20"])
@pytest.mark.parametrize("spec", ["maxout", {"name": "leaky_relu", "negative_slope": 0.1}])
def test_every_built_in_model_takes_any_activation(name, spec):
    net = getattr(models, name)((3, 16, 16), 5, width=4, activation=activation_of(spec))
    net(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(item.grad is not None for item in net.parameters())


def test_a_residual_block_with_maxout_adds_its_shortcut_to_the_largest_piece():
    net = models.resnet8((3, 8, 8), 5, width=4, activation=activation_of("maxout")).eval()
    block, x = net.blocks[0], torch.randn(2, 4, 8, 8)
    y = block.norm2(block.conv2(block.activation1(block.norm1(block.conv1(x)))))
    assert torch.allclose(block(x), torch.maximum(y[:, :4], y[:, 4:]) + x, atol=1e-5)


def test_activations_of_any_model_are_replaced_by_class():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    replace_activations(net, activation_of({"name": "elu", "replaces": "ReLU"}))
    assert (type(net[1]), type(net[2][1])) == (nn.ELU, nn.Tanh)
    replace_activations(net, activation_of("gelu"))
    assert (type(net[1]), type(net[2][1])) == (nn.GELU, nn.GELU)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "elu", "replaces": "Relu"}, "no Relu to replace .it has: Linear, ReLU"),
        ("maxout", "maxout widens the layer before it"),
    ],
)
def test_what_cannot_be_replaced_is_named(spec, message):
    with pytest.raises(UsageError, match=message):
        replace_activations(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), activation_of(spec))


# --- initialisation ---------------------------------------------------------------------------------------------------


def layer_statistics(rule, activation, width, **args):
    """Means and standard deviations of six layers' activations on 16 examples, as the lecture's figures have them."""
    torch.manual_seed(0)
    x = torch.randn(16, width)
    found = []
    for _ in range(6):
        net = nn.Sequential(nn.Linear(width, width), nn.Linear(width, 1))  # the second is the head, which rules spare
        rule(net, **args)
        x = activation(x @ net[0].weight.T)
        found.append((float(x.mean()), float(x.std())))
    means, stds = zip(*found, strict=True)
    return list(means), list(stds)


@torch.no_grad()
def test_a_gaussian_of_005_saturates_tanh_as_in_the_lecture():
    _, stds = layer_statistics(init.normal, torch.tanh, 4096, std=0.05)
    assert stds == pytest.approx([0.87, 0.85, 0.85, 0.85, 0.85, 0.85], abs=0.006)


@torch.no_grad()
def test_xavier_with_tanh_has_the_lectures_standard_deviations():
    means, stds = layer_statistics(init.xavier_normal, torch.tanh, 1024)
    assert stds == pytest.approx([0.63, 0.49, 0.41, 0.36, 0.32, 0.30], abs=0.012)
    assert means == pytest.approx([0] * 6, abs=0.03)


@torch.no_grad()
def test_xavier_with_relu_collapses_as_in_the_lecture():
    means, stds = layer_statistics(init.xavier_normal, torch.relu, 2048)
    assert means == pytest.approx([0.39, 0.28, 0.20, 0.14, 0.10, 0.07], abs=0.02)
    assert stds == pytest.approx([0.58, 0.41, 0.30, 0.21, 0.15, 0.10], abs=0.025)


@torch.no_grad()
def test_kaiming_with_relu_keeps_the_size_of_activations():
    _, stds = layer_statistics(init.kaiming_normal, torch.relu, 2048)
    assert stds == pytest.approx([stds[0]] * 6, rel=0.12)


def test_constant_weights_are_all_alike_and_truncated_ones_within_two_standard_deviations():
    net = nn.Sequential(nn.Linear(50, 60), nn.ReLU(), nn.Linear(60, 4))
    init.constant(net, value=0.3)
    assert all(bool((layer.weight == 0.3).all()) for layer in (net[0], net[2]))
    init.truncated(net, std=0.1)
    assert float(net[0].weight.abs().max()) <= 0.2
    assert float(net[0].weight.std()) == pytest.approx(0.1 * 0.8796, rel=0.05)  # of a normal cut at two


def test_lsuv_gives_every_layers_outputs_variance_1():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 5))
    x = 3 * torch.randn(200, 20)
    init.lsuv(net, x)
    for layer in (0, 2, 4):
        assert float(net[: layer + 1](x).var()) == pytest.approx(1, abs=0.06)


def test_fixup_zeroes_the_last_layer_of_each_branch_and_scales_the_others_by_the_papers_power():
    torch.manual_seed(0)
    net = models.resnet20((3, 8, 8), 10, width=16, norm="none")
    init.fixup(net)
    assert all(not block.conv2.weight.any() for block in net.blocks) and not net.head.weight.any()
    block = net.blocks[1]
    assert float(block.conv1.weight.std()) == pytest.approx(9**-0.5 * math.sqrt(2 / (16 * 9)), rel=0.05)
    outputs = net(torch.randn(4, 3, 8, 8))
    assert not outputs.any()
    with pytest.raises(UsageError, match="fixup: Sequential has no residual blocks"):
        init.fixup(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)))


class ResidualBlock(nn.Module):
    """A block whose shortcut is a convolution, written after the branch as torchvision's is."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.downsample = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + self.downsample(x)


def test_fixup_leaves_the_convolution_of_a_shortcut_as_kaiming_draws_it():
    net = nn.Sequential(ResidualBlock(), nn.Flatten(), nn.Linear(8 * 16, 2))
    init.fixup(net)
    block, x = net[0], torch.randn(2, 3, 4, 4)
    assert not block.conv2.weight.any() and block.downsample.weight.any()
    assert torch.equal(block(x), block.downsample(x))


def test_prior_head_starts_at_the_entropy_of_the_class_shares():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    targets = torch.tensor([0] * 6 + [1] * 3 + [2])
    init.prior_head(net, targets)
    shares = torch.tensor([0.6, 0.3, 0.1])
    entropy = float(-(shares * shares.log()).sum())
    assert float(F.cross_entropy(net(torch.randn(10, 4)), targets)) == pytest.approx(entropy, rel=1e-5)


def test_prior_head_of_a_single_output_is_the_log_odds_and_passes_over_what_has_no_class():
    net, targets = nn.Linear(4, 1), torch.tensor([0] * 6 + [1] * 3)
    init.prior_head(net, torch.cat([targets, torch.tensor([-100, 255])]))
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    found = F.binary_cross_entropy_with_logits(net(torch.randn(9, 4))[:, 0], targets.float())
    assert float(found.detach()) == pytest.approx(entropy, rel=1e-5)
    with pytest.raises(UsageError, match=r"prior_head is of classes, the targets are real numbers of shape \(9,\)"):
        init.prior_head(net, targets.float())


# --- pooling, heads, norms --------------------------------------------------------------------------------------------


def test_dual_pooling_equals_timms_catavgmax():
    timm = pytest.importorskip("timm.layers")
    x = torch.randn(2, 5, 6, 4)
    assert torch.allclose(pooling.dual()(x), timm.SelectAdaptivePool2d(pool_type="catavgmax", flatten=False)(x))


def test_gem_is_the_root_of_the_mean_of_powers_and_its_power_is_learnt():
    x = torch.rand(2, 5, 6, 4) + 0.1
    pool = pooling.gem(p=3.0)
    assert torch.allclose(pool(x), x.pow(3).mean((2, 3), keepdim=True).pow(1 / 3), atol=1e-6)
    assert torch.allclose(pooling.gem(p=1.0)(x), x.mean((2, 3), keepdim=True), atol=1e-6)
    pool(x).sum().backward()
    assert pool.p.grad is not None


def test_dual_pooling_widens_the_head():
    net = set_global_pool(models.convnet((3, 8, 8), 4, width=4, depth=1), pooling.dual())
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(UsageError, match="Sequential has no global pooling to replace"):
        set_global_pool(nn.Sequential(nn.Linear(2, 2)), pooling.max())


def test_a_cosine_head_gives_cosines():
    layer = head.cosine(5, 3)
    x = torch.randn(4, 5)
    assert torch.allclose(layer(x), F.cosine_similarity(x[:, None], layer.weight[None], dim=2), atol=1e-6)


def test_bnneck_normalises_without_a_shift_before_a_linear_layer_without_bias():
    neck = head.bnneck(5, 3)
    x = 4 + 2 * torch.randn(50, 5)
    normal = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(neck(x), normal @ neck[1].weight.T, atol=1e-5)
    assert not neck[0].bias.requires_grad and neck[1].bias is None


def test_ibn_normalises_half_within_each_image_and_half_over_the_batch():
    x = 3 + 2 * torch.randn(6, 8, 5, 5)
    y = layers.IBN(8)(x)
    assert torch.allclose(y[:, :4], F.instance_norm(x[:, :4]), atol=1e-5)
    assert torch.allclose(y[:, 4:], F.batch_norm(x[:, 4:], None, None, training=True), atol=1e-5)
    net = models.resnet8((3, 8, 8), 5, width=4, norm="ibn")
    assert sum(isinstance(module, layers.IBN) for module in net.modules()) == 2
    with pytest.raises(UsageError, match=r"model\.norm: unknown norm 'ibm' - did you mean 'ibn'"):
        models.resnet8((3, 8, 8), 5, norm="ibm")


# --- regularisers -----------------------------------------------------------------------------------------------------


def test_drop_connect_drops_weights_in_train_mode_and_keeps_the_mean():
    torch.manual_seed(0)
    net = regularisers.drop_connect(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), p=0.3)
    names = list(net.state_dict())
    x = torch.randn(5, 6)
    plain = F.linear(x, net[0].weight, net[0].bias)
    mean = torch.stack([net[0](x) for _ in range(3000)]).mean(0)
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"] and type(net[2]) is nn.Linear
    assert torch.allclose(mean, plain, atol=0.1) and not torch.equal(net[0](x), plain)
    assert torch.equal(net.eval()[0](x), plain)


def test_stochastic_depth_skips_deeper_blocks_more_often_and_none_in_eval_mode():
    net = regularisers.stochastic_depth(models.resnet20((3, 8, 8), 5, width=4), p=0.45)
    rates = [block.branch_drop.p for block in net.blocks]
    assert rates == pytest.approx([0.45 * i / 9 for i in range(1, 10)])
    block, x = net.blocks[1], torch.rand(300, 4, 8, 8)
    block.branch_drop.p = 0.4
    skipped = sum(torch.equal(a, b) for a, b in zip(block(x), x, strict=True))
    assert 85 < skipped < 155  # 120 expected, standard deviation 8.5
    block.eval()
    assert not any(torch.equal(a, b) for a, b in zip(block(x), x, strict=True))


def test_drop_block_blanks_squares_behind_batch_norm_in_train_mode():
    torch.manual_seed(0)
    net = regularisers.drop_block(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)), p=0.2, size=3)
    blank = (net(torch.randn(20, 3, 16, 16)) == 0).float()
    assert float(blank.mean()) == pytest.approx(0.2, abs=0.05)
    inner = -F.max_pool2d(-blank, 3, stride=1)  # 1 where a whole 3x3 square is blank
    covered = F.max_pool2d(F.pad(inner, (2, 2, 2, 2)), 3, stride=1)
    assert bool((covered >= blank).all())  # every blank pixel lies in one
    assert not (net.eval()(torch.randn(2, 3, 16, 16)) == 0).any()


@pytest.mark.parametrize(
    ("name", "net", "message"),
    [
        ("stochastic_depth", nn.Sequential(nn.Linear(2, 2)), "has no residual blocks that can be skipped"),
        ("drop_block", nn.Sequential(nn.Linear(2, 2)), "no batch norm of images"),
        ("drop_connect", nn.Sequential(nn.Conv2d(2, 2, 1)), "no linear layer"),
    ],
)
def test_a_regulariser_says_where_it_has_no_place(name, net, message):
    with pytest.raises(UsageError, match=message):
        getattr(regularisers, name)(net, p=0.1)


# --- from a recipe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"model.activation": "maxout"}, {"model.activation": {"name": "elu", "alpha": 0.5}},
        {"model.global_pool": "dual"}, {"model.global_pool": {"name": "gem", "p": 4.0}}, {"model.head": "bnneck"},
        {"model.head": "cosine", "loss": {"name": "arcface", "s": 8.0, "m": 0.2}}, {"model.drop_connect": 0.2},
        {"model.head": {"name": "linear", "dropout": 0.5}}, {"model.drop_block": {"p": 0.1, "size": 3}},
        {"model.init": "lsuv"}, {"model.init": {"name": "normal", "std": 0.05}}, {"model.init": "prior_head"},
        {"model": {"name": "resnet8", "width": 4, "norm": "none", "init": "fixup"}},
        {"model": {"name": "resnet8", "width": 4, "norm": "ibn", "stochastic_depth": 0.3}},
        {"model": {"name": "mine.py:net", "activation": "gelu", "global_pool": "max"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_recipe_trains_with_it_the_same_twice(tmp_path, keys):
    code = """
def net(input_shape, num_classes):
    parts = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(4, num_classes))
"""
    case = make_case(tmp_path, code, {**CONVNET, **keys})
    one, other = (fit(case.setup(horizon_epochs=1)) for _ in range(2))
    assert one.curve == other.curve and math.isfinite(one.curve[0]["loss"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model.activation": "rellu"}, "unknown activation 'rellu' - did you mean"),
        ({"model.activation": {"name": "elu", "alfa": 1}}, r"model\.activation\.alfa: elu\(\) takes no such argument"),
        ({"model.global_pool": "gen"}, "unknown pool 'gen' - did you mean 'gem'"),
        ({"model.head": {"name": "linear", "drop": 0.1}}, r"model\.head\.drop: linear\(\) takes no such argument"),
        ({"model.init": {"name": "normal", "sd": 1}}, r"model\.init\.sd: normal\(\) takes no such argument"),
        ({"model.drop_connect": 1.5}, r"model\.drop_connect: must be at least 0 and less than 1 .got 1.5"),
        ({"model.stochastic_dept": 0.1}, r"model\.stochastic_dept: convnet\(\) takes no such argument"),
    ],
)
def test_a_wrong_name_or_argument_is_refused(tmp_path, keys, message):
    with pytest.raises(UsageError, match=message):
        make_case(tmp_path, overrides={**CONVNET, **keys}).setup().model()


def test_no_unit_of_a_residual_net_without_normalisation_is_dead_when_fixup_zeroes_its_branches():
    net = models.resnet8((3, 8, 8), 10, width=4, norm="none")
    init.fixup(net)
    seen = []
    net.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    net(torch.rand(64, 3, 8, 8))
    assert bool((seen[0].amax(0) > 0).all())


def test_stripes_are_means_of_rows_and_granularities_their_largest_pixels():
    x = torch.randn(2, 5, 6, 4)
    rows = [x[:, :, 3 * i : 3 * i + 3].mean((2, 3)) for i in range(2)]
    torch.testing.assert_close(pooling.stripes(2)(x).flatten(1), torch.cat(rows, 1))
    largest = [x.amax((2, 3)), x[:, :, :3].amax((2, 3)), x[:, :, 3:].amax((2, 3))]
    torch.testing.assert_close(pooling.granularities((1, 2))(x).flatten(1), torch.cat(largest, 1))
    with pytest.raises(UsageError, match="granularities: must be a list of whole numbers above 0 .got .0."):
        pooling.granularities([0])


@pytest.mark.parametrize("build", [lambda: head.pcb(12, 5, parts=3, width=8), lambda: head.mgn(12, 5, (1, 2), width=8)])
def test_the_loss_of_global_and_local_parts_is_the_mean_of_the_parts_cross_entropies(build):
    net, x, y = build().eval(), torch.randn(7, 12), torch.arange(7) % 5
    losses = []
    for place in range(3):
        part = net.reduce[place](x[:, 4 * place : 4 * place + 4])
        losses.append(F.cross_entropy(net.classify[place](part), y))
    torch.testing.assert_close(F.nll_loss(net(x), y), torch.stack(losses).mean())


def test_parts_that_do_not_share_the_features_are_refused():
    with pytest.raises(UsageError, match="pcb of 3 parts cannot share 10 features"):
        head.pcb(10, 5, parts=3)


@pytest.mark.parametrize(
    ("pool", "name"),
    [({"name": "stripes", "parts": 2}, {"name": "pcb", "parts": 2, "width": 8}), ("granularities", "mgn")],
)
def test_a_recipe_trains_on_global_and_local_parts(tmp_path, pool, name):
    keys = {**CONVNET, "model.global_pool": pool, "model.head": name, "loss.name": "nll"}
    curve = fit(make_case(tmp_path, overrides=keys).setup(horizon_epochs=4)).curve
    losses = [row["loss"] for row in curve if row["split"] == "train"]
    assert losses[-1] < losses[0]
