import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case
from tuner.core.errors import EnvironmentProblem, UsageError, UserCodeError
from tuner.train.device import pick_device


def test_model_depends_on_the_seed_alone(tmp_path):
    setup = make_case(tmp_path).setup(seed=1)
    first = setup.model()
    torch.rand(7)
    second, other = setup.model(), setup.model(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    assert first.training


def test_model_applies_the_recipes_init(tmp_path):
    setup = make_case(tmp_path, overrides={"model.init": "zeros_head"}).setup()
    assert torch.equal(setup.model()(torch.rand(2, 4)), torch.zeros(2, 3))


def test_model_of_images_is_channels_last(tmp_path):
    overrides = {"data.source": "mine.py:images", "model.name": "convnet", "model.depth": 2}
    model = make_case(tmp_path, overrides=overrides).setup().model()
    conv = next(m for m in list(model.modules())[::-1] if isinstance(m, nn.Conv2d))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_model_with_lazy_layers_is_made_whole(tmp_path):
    code = (
        "def build(num_classes):\n    return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(num_classes))\n"
    )
    case = make_case(tmp_path, code, {"model": {"name": "mine.py:build"}})
    assert sum(p.numel() for p in case.setup().model().parameters()) == (4 * 5 + 5) + (5 * 3 + 3)


def test_torchvision_model_gets_the_number_of_classes(tmp_path):
    overrides = {"data.source": "mine.py:images", "model": {"name": "torchvision.models.squeezenet1_1", "dropout": 0.1}}
    model = make_case(tmp_path, overrides=overrides).setup().model()
    assert model.classifier[1].out_channels == 3


def test_torchvision_model_with_weights_gets_a_fresh_head(tmp_path, monkeypatch):
    import torchvision

    def squeezenet(weights=None, **rest):
        return torchvision.models.squeezenet1_1(**rest)

    squeezenet.__module__ = "torchvision.models.squeezenet"
    monkeypatch.setattr(torchvision.models, "fake_net", squeezenet, raising=False)
    overrides = {
        "data.source": "mine.py:images",
        "model": {"name": "torchvision.models.fake_net", "weights": "DEFAULT"},
    }
    model = make_case(tmp_path, overrides=overrides).setup().model()
    assert model.classifier[1].out_channels == 3


def test_weights_that_cannot_be_downloaded_are_a_problem_of_the_machine(tmp_path, monkeypatch):
    from urllib.error import URLError

    import torchvision

    def offline(weights=None):
        raise URLError("no network")

    offline.__module__ = "torchvision.models.resnet"
    monkeypatch.setattr(torchvision.models, "offline", offline, raising=False)
    overrides = {"data.source": "mine.py:images", "model": {"name": "torchvision.models.offline", "weights": "DEFAULT"}}
    setup = make_case(tmp_path, overrides=overrides).setup()
    with pytest.raises(EnvironmentProblem, match=r"model\.weights: the pretrained weights cannot be downloaded"):
        setup.model()


@pytest.mark.parametrize(
    ("code", "overrides", "kind", "message"),
    [
        ("pass", {}, UserCodeError, r"model\.name: build\(\) must return a torch\.nn\.Module, returned a NoneType"),
        ("return [][0]", {}, UserCodeError, r"mine\.py:\d+: model raised IndexError"),
        ("", {"widht": 3}, UsageError, r"model\.widht: mlp\(\) takes no such argument - did you mean 'width'\?"),
        ("", {"width": 0}, UsageError, r"model\.width: must be an integer of at least 1"),
    ],
)
def test_model_says_what_is_wrong(tmp_path, code, overrides, kind, message):
    table = {"name": "mine.py:build" if code else "mlp", **overrides}
    setup = make_case(tmp_path, f"def build():\n    {code or 'pass'}\n", {"model": table}).setup()
    with pytest.raises(kind, match=message):
        setup.model()


def test_an_argument_that_a_torchvision_model_does_not_take_is_named(tmp_path):
    overrides = {"data.source": "mine.py:images", "model": {"name": "torchvision.models.vgg11", "widths": 3}}
    setup = make_case(tmp_path, overrides=overrides).setup()
    with pytest.raises(UsageError, match=r"model: vgg11\(\) does not accept its arguments: .*widths"):
        setup.model()


def test_loss_of_a_torch_class_is_built_with_its_arguments_weights_as_tensor(tmp_path):
    overrides = {"loss": {"name": "torch.nn.CrossEntropyLoss", "weight": [1.0, 2.0, 3.0], "label_smoothing": 0.1}}
    outputs, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)(outputs, targets)
    assert torch.equal(make_case(tmp_path, overrides=overrides).setup().loss()(outputs, targets), expected)


@pytest.mark.parametrize("order", ["outputs, targets", "targets, outputs", "*, targets, outputs"])
def test_loss_that_asks_for_outputs_and_targets_by_name_gets_them_so(tmp_path, order):
    given = "targets, factor, outputs" if order == "targets, outputs" else f"{order}, factor=2.0"
    code = f"def mine({given}):\n    return factor * outputs.sum() + 10 * targets.sum()\n"
    table = {"name": "mine.py:mine", "factor": 3.0}
    loss = make_case(tmp_path, code, {"loss": table}).setup().loss()
    assert float(loss(torch.ones(2, 3), torch.tensor([1, 1]))) == 38


def test_loss_of_the_user_gets_outputs_targets_and_its_arguments(tmp_path):
    code = "def mine(scores, labels, factor):\n    return factor * scores.sum() + labels.sum()\n"
    loss = make_case(tmp_path, code, {"loss": {"name": "mine.py:mine", "factor": 2.0}}).setup().loss()
    assert float(loss(torch.ones(2, 3), torch.tensor([1, 1]))) == 14


@pytest.mark.parametrize(
    ("value", "message"),
    [("scores", r"got a tensor of shape \(2, 3\)"), ("None", "got a NoneType"), ("1.0", "got a float")],
)
def test_loss_that_is_no_scalar_is_refused(tmp_path, value, message):
    code = f"def mine(scores, labels):\n    return {value}\n"
    loss = make_case(tmp_path, code, {"loss.name": "mine.py:mine"}).setup().loss()
    with pytest.raises(UserCodeError, match=rf"loss\.name: the loss must be a scalar tensor \({message}\)"):
        loss(torch.ones(2, 3), torch.tensor([1, 1]))


def test_optimizer_takes_the_table_and_its_overrides(tmp_path):
    setup = make_case(tmp_path, overrides={"optimizer.momentum": 0.9, "optimizer.weight_decay": 0.01}).setup()
    model = setup.model()
    group = setup.optimizer(model).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 0.01)
    group = setup.optimizer(model, lr=0.5, weight_decay=0.0).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 0.0)


def test_optimizer_without_weight_decay_takes_none_of_0_and_refuses_another(tmp_path):
    code = "def build(params, lr):\n    return torch.optim.SGD(params, lr)\n"
    setup = make_case(tmp_path, code, {"optimizer.name": "mine.py:build", "optimizer.weight_decay": 0.0}).setup()
    assert setup.optimizer(setup.model()).param_groups[0]["weight_decay"] == 0
    with pytest.raises(UsageError, match=r"optimizer\.weight_decay: build\(\) takes no such argument"):
        setup.optimizer(setup.model(), weight_decay=0.1)


def test_optimizer_of_the_user_gets_the_model_when_it_asks_for_it(tmp_path):
    code = (
        "def build(model, lr, factor):\n    return torch.optim.SGD([{'params': model[-1].parameters()}], lr * factor)\n"
    )
    overrides = {"optimizer.name": "mine.py:build", "optimizer.factor": 0.5}
    setup = make_case(tmp_path, code, overrides).setup()
    optimizer = setup.optimizer(setup.model())
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert len(optimizer.param_groups[0]["params"]) == 2


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (
            {"optimizer.momentum": -1.0},
            UsageError,
            r"optimizer: SGD\(\) does not accept its arguments: Invalid momentum",
        ),
        ({"optimizer.betas": [0.9, 0.99]}, UsageError, r"optimizer\.betas: SGD\(\) takes no such argument"),
        (
            {"optimizer.name": "mine.py:nothing"},
            UserCodeError,
            r"optimizer\.name: nothing\(\) must return a torch\.optim\.Opt",
        ),
    ],
)
def test_optimizer_says_what_is_wrong(tmp_path, overrides, kind, message):
    setup = make_case(tmp_path, "def nothing(params):\n    return params\n", overrides).setup()
    with pytest.raises(kind, match=message):
        setup.optimizer(setup.model())


def test_schedule_every_epoch_is_told_epochs_in_place_of_steps(tmp_path):
    setup = make_case(tmp_path, overrides={"schedule.name": "cosine", "schedule.every": "epoch"}).setup()
    optimizer = setup.optimizer(setup.model())
    schedule = setup.schedule(optimizer, total_steps=20, steps_per_epoch=5)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)  # half of 4 epochs: half of 0.1


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (
            {"schedule.name": "torch.optim.lr_scheduler.ReduceLROnPlateau"},
            UsageError,
            r"schedule\.every: ReduceLROnPlateau",
        ),
        ({"schedule.name": "multistep"}, UsageError, r"schedule: multistep\(\) needs 'milestones'"),
        (
            {"schedule.name": "mine.py:nothing"},
            UserCodeError,
            r"schedule\.name: nothing\(\) must return a torch\.optim\.lr_s",
        ),
    ],
)
def test_schedule_says_what_is_wrong(tmp_path, overrides, kind, message):
    setup = make_case(tmp_path, "def nothing(optimizer):\n    return None\n", overrides).setup()
    with pytest.raises(kind, match=message):
        setup.schedule(setup.optimizer(setup.model()), 10, 5)


def test_precision_of_an_own_step_is_fp32_unless_the_recipe_says_otherwise(tmp_path):
    code = "def step(model, batch, loss, optimizer):\n    pass\n"
    assert make_case(tmp_path).setup(precision="bf16").precision == "bf16"
    own = {"train.step": "mine.py:step"}
    assert make_case(tmp_path, code, own).setup(precision="bf16").precision == "fp32"
    assert make_case(tmp_path, code, {**own, "train.precision": "bf16"}).setup(precision="bf16").precision == "bf16"


def test_all_unknown_names_are_reported_at_once(tmp_path):
    overrides = {"model.name": "mpl", "loss.name": "cross", "optimizer.name": "sgdd", "train.step": "mine.py:nope"}
    with pytest.raises(UsageError) as caught:
        make_case(tmp_path, overrides=overrides).setup()
    keys = [line.split(":")[0] for line in caught.value.message.splitlines()]
    assert keys == ["model.name", "loss.name", "optimizer.name", "train.step"]


def test_pick_device_says_what_is_there():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match=r"--device: unknown device 'cud' - did you mean 'cuda'\?"):
        pick_device("cud")
    with pytest.raises(EnvironmentProblem, match=r"--device: there is no 'cuda:99' here \(there is: 1 cpu"):
        pick_device("cuda:99")


FUSED = [
    ({"optimizer.name": "sgd"}, True),
    ({"optimizer.name": "adamw"}, True),
    ({"optimizer.name": "rmsprop"}, None),  # torch has no fused RMSprop
    ({"optimizer.name": "adamw", "optimizer.foreach": True}, None),
    ({"optimizer.name": "adamw", "optimizer.fused": False}, False),
    ({"optimizer.momentum": 0.9, "optimizer.dampening": 0.5}, None),
]


@pytest.mark.parametrize(("overrides", "fused"), FUSED)
def test_optimizer_updates_all_weights_in_one_kernel_where_torch_has_one_and_the_recipe_is_silent(
    tmp_path, overrides, fused
):
    setup = make_case(tmp_path, overrides=overrides).setup()
    assert setup.optimizer(setup.model()).defaults.get("fused") is fused


def test_optimizer_is_not_fused_for_sparse_gradients_or_scaled_ones(tmp_path):
    setup = make_case(tmp_path).setup(precision="fp16")
    assert setup.optimizer(setup.model()).defaults["fused"] is None
    setup = make_case(tmp_path).setup()
    model = nn.Sequential(setup.model(), nn.Embedding(3, 2, sparse=True))
    assert setup.optimizer(model).defaults["fused"] is None


def test_a_fused_update_is_that_of_plain_momentum(tmp_path):
    setup = make_case(tmp_path, overrides={"optimizer.momentum": 0.9}).setup()
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    model = nn.Module()
    model.weight = weight
    optimizer = setup.optimizer(model, lr=0.5)
    for grad in ([1.0, 2.0], [3.0, 0.0]):
        weight.grad = torch.tensor(grad)
        optimizer.step()
    # v1 = g1, v2 = 0.9 v1 + g2; w = w0 - 0.5 (v1 + v2)
    assert weight.tolist() == pytest.approx([1.0 - 0.5 * (1.0 + 3.9), -2.0 - 0.5 * (2.0 + 1.8)])


def test_a_fused_update_takes_weights_whose_first_gradient_comes_later(tmp_path):
    setup = make_case(tmp_path, overrides={"optimizer.momentum": 0.9}).setup()
    model = nn.Module()
    model.early, model.late = (nn.Parameter(torch.tensor([1.0])) for _ in range(2))
    optimizer = setup.optimizer(model, lr=0.5)
    assert optimizer.defaults["fused"]
    model.early.grad = torch.tensor([1.0])
    optimizer.step()
    model.late.grad = torch.tensor([4.0])
    optimizer.step()
    optimizer.step()
    assert model.early.item() == pytest.approx(1 - 0.5 * (1 + 1.9 + 2.71))
    assert model.late.item() == pytest.approx(1 - 0.5 * (4 + 7.6))
