import pytest
import torch
from torch import nn

from tuner.core.errors import UsageError
from tuner.parts import models
from tuner.parts.heads import check_input, fit_head


def parameters(model: nn.Module) -> int:
    return sum(item.numel() for item in model.parameters())


def kinds(model: nn.Module) -> list[str]:
    leaves = [module for module in model.modules() if not list(module.children())]
    return [type(module).__name__ for module in leaves]


def test_resnet20_has_the_papers_number_of_weights():
    assert parameters(models.resnet20((3, 32, 32), 10)) == 269_722  # "0.27M", He et al. 2016, table 6


def test_resnet8_has_8_layers_with_weights():
    model = models.resnet8((3, 32, 32), 10)
    main = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(main) == 8
    conv = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norm = 2 * (3 * 16 + 2 * 32 + 2 * 64)
    assert parameters(model) == conv + norm + 64 * 10 + 10


def test_a_residual_block_passes_its_shortcut_on_when_its_branch_is_zero():
    block = models._Block(2, 4, 2, ("relu", "batch"))
    nn.init.zeros_(block.norm2.weight)
    x = torch.rand(3, 2, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 2:], torch.zeros(3, 2, 3, 3))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "softplus", "sigmoid"])
def test_convnet_pools_before_a_rising_activation_which_gives_the_same_outputs_and_gradients(activation):
    model = models.convnet((1, 8, 8), 3, width=4, depth=1, activation=activation)
    conv, norm, pool, act = model[0]
    assert isinstance(pool, nn.MaxPool2d)
    usual = nn.Sequential(nn.Sequential(conv, norm, act, pool), *model[1:])
    x = torch.randn(16, 1, 8, 8)
    grads = []
    for one in (model, usual):
        one.zero_grad()
        one(x).square().sum().backward()
        grads.append(conv.weight.grad.clone())
    assert torch.equal(model(x), usual(x))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("args", [{"activation": "gelu"}, {"activation": "silu"}, {"pool": "avg"}])
def test_convnet_pools_after_an_activation_that_does_not_only_rise_or_with_averages(args):
    assert kinds(models.convnet((1, 8, 8), 3, depth=1, **args))[2:4] != ["MaxPool2d", "ReLU"]
    pool = kinds(models.convnet((1, 8, 8), 3, depth=1, **args))[3]
    assert pool == ("AvgPool2d" if "pool" in args else "MaxPool2d")


def test_mlp_of_depth_0_is_a_linear_classifier_of_the_flattened_input():
    model = models.mlp((1, 2, 2), 3, depth=0)
    x = torch.rand(5, 1, 2, 2)
    linear = model[-1]
    assert kinds(model) == ["Flatten", "Linear"]
    assert torch.allclose(model(x), x.flatten(1) @ linear.weight.T + linear.bias)


def test_mlp_stacks_depth_layers_of_width():
    model = models.mlp((30,), 2, width=8, depth=3, activation="tanh", dropout=0.5)
    assert kinds(model) == ["Flatten", *["Linear", "Tanh", "Dropout"] * 3, "Linear"]
    assert parameters(model) == (30 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 2 + 2)


def test_convnet_is_three_conv_bn_pool_relu_blocks_with_global_pooling_by_default():
    model = models.convnet((3, 32, 32), 10)
    block = ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
    assert kinds(model) == [*block * 3, "GlobalAveragePool", "Flatten", "Linear"]
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [32, 64, 128]


@pytest.mark.parametrize(("shape", "side"), [((1, 8, 8), 2), ((1, 28, 28), 3), ((3, 32, 32), 4), ((3, 64, 64), 8)])
def test_convnet_pools_down_to_no_less_than_2_pixels(shape, side):
    model = models.convnet(shape, 10, width=2)
    before_pooling = model[:-3](torch.rand(2, *shape))
    assert before_pooling.shape == (2, 8, side, side)
    assert model(torch.rand(2, *shape)).shape == (2, 10)


def test_convnet_takes_widths_and_drops_what_is_switched_off():
    model = models.convnet((3, 8, 8), 10, widths=[4, 6], batch_norm=False, pool="none", activation="gelu", dropout=0.1)
    assert kinds(model) == [*["Conv2d", "GELU", "Dropout2d"] * 2, "GlobalAveragePool", "Flatten", "Linear"]
    assert parameters(model) == (3 * 9 * 4 + 4) + (4 * 9 * 6 + 6) + (6 * 10 + 10)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet8", "resnet20"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 64)])
def test_every_model_has_one_output_per_class(name, shape):
    model = getattr(models, name)(shape, 7, width=4, activation="leaky_relu", dropout=0.2)
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    assert any(isinstance(module, nn.modules.dropout._DropoutNd) for module in model.modules())
    assert "LeakyReLU" in kinds(model) and "ReLU" not in kinds(model)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.mlp((3,), 2, width=0), r"model\.width: must be an integer of at least 1 \(got 0\)"),
        (lambda: models.mlp((3,), 2, depth=-1), r"model\.depth: must be an integer of at least 0 \(got -1\)"),
        (lambda: models.mlp((3,), 2, width="8"), r"model\.width: must be an integer of at least 1 \(got '8'\)"),
        (lambda: models.mlp((3,), 2, dropout=1.0), r"model\.dropout: must be at least 0 and less than 1 \(got 1\.0\)"),
        (
            lambda: models.mlp((3,), 2, activation="rellu"),
            r"model\.activation: unknown activation 'rellu' - did you mean 'relu'",
        ),
        (lambda: models.convnet((3, 8, 8), 2, pool="mx"), r"model\.pool: unknown pooling 'mx' - did you mean 'max'"),
        (lambda: models.convnet((30,), 2), r"model\.name: convnet needs images .*one example has shape \(30,\)"),
        (lambda: models.resnet8((30,), 2), r"model\.name: resnet needs images"),
    ],
)
def test_a_wrong_argument_is_named(build, message):
    with pytest.raises(UsageError, match=message):
        build()


def test_fit_head_replaces_the_last_linear_layer():
    model = fit_head(nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 1000, bias=False))), 3)
    assert model(torch.rand(2, 4)).shape == (2, 3)
    assert model[1][1].bias is None


def test_fit_head_replaces_a_1x1_convolution_that_is_the_head():
    model = fit_head(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 1000, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 3)


def test_fit_head_says_when_there_is_none():
    with pytest.raises(UsageError, match=r"model\.name: ReLU has no linear layer to fit to 3 classes"):
        fit_head(nn.ReLU(), 3)


def test_check_input_compares_channels():
    check_input(nn.Conv2d(3, 8, 3), (3, 8, 8), "net")
    check_input(nn.Linear(3, 8), (3,), "net")
    with pytest.raises(UsageError, match=r"model\.name: net takes 3 channels, the data has 1"):
        check_input(nn.Conv2d(3, 8, 3), (1, 8, 8), "net")
    with pytest.raises(UsageError, match=r"model\.name: net takes images; one example of the data has shape \(30,\)"):
        check_input(nn.Conv2d(3, 8, 3), (30,), "net")


@pytest.mark.parametrize("build", [models.convnet, models.resnet8])
def test_gradients_of_channels_last_images_stay_channels_last(build):
    model = build((3, 16, 16), 5).to(memory_format=torch.channels_last)
    activations = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    kept = []
    for module in activations:
        module.register_full_backward_hook(lambda module, dx, dy: kept.append(dy[0]))
    inputs = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    model(inputs).sum().backward()
    assert len(kept) == len(activations) > 2
    assert all(dy.is_contiguous(memory_format=torch.channels_last) for dy in kept)
