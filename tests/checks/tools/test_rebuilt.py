"""Large models that are built again: the same to the last bit as one that is built in full."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

from tuner.checks.tools import rebuilt as drawn_once
from tuner.checks.tools.rebuilt import rebuilt
from tuner.core.streams import derive_seed
from tuner.train.device import seed_everything


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(drawn_once, "LARGE", 1)


def setup_of(build, tmp_path, drawn, **tables):
    """Return a setup whose builder notes on which device it was called, as the trial's setup calls it."""

    def builder(num_classes=10):
        drawn.append(torch.empty(0).device.type)
        return build()

    table = {"name": "own", **tables.pop("model", {})}
    setup = SimpleNamespace(
        spec=SimpleNamespace(seed=3),
        tables={"model": table, **tables},
        functions={"model": builder},
        data=SimpleNamespace(input_shape=(3, 32, 32), num_classes=10),
        env=SimpleNamespace(recipe_dir=tmp_path),
        needs_plain_layout=False,
    )

    def model(seed=None):
        seed_everything(derive_seed(setup.spec.seed if seed is None else seed, "init"))
        return builder().to(memory_format=torch.channels_last).train()

    setup.model = model
    return setup


def resnet():
    return torchvision.models.resnet18(num_classes=10)


def test_the_second_model_is_the_first_one_drawn_nothing_for(tmp_path):
    drawn = []
    setup = rebuilt(setup_of(resnet, tmp_path, drawn))
    first, second = setup.model(), setup.model()
    assert drawn == ["cpu", "meta"]
    assert first is not second and second.training
    one, other = first.state_dict(), second.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(one[name].stride() == other[name].stride() for name in one)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first(images), second(images))


def test_what_is_done_to_one_model_does_not_reach_the_next(tmp_path):
    setup = rebuilt(setup_of(resnet, tmp_path, []))
    first = setup.model()
    kept = first.fc.weight.detach().clone()
    for model in (first, setup.model()):
        with torch.no_grad():
            model.fc.weight.zero_()
    assert torch.equal(setup.model().fc.weight, kept)


def test_the_streams_go_on_as_after_a_model_that_was_drawn(tmp_path):
    setup = rebuilt(setup_of(resnet, tmp_path, []))
    setup.model()
    expected = torch.rand(3)
    setup.model()
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_is_drawn(tmp_path):
    drawn = []
    setup = rebuilt(setup_of(resnet, tmp_path, drawn))
    same, other = setup.model(), setup.model(seed=4)
    assert drawn == ["cpu", "cpu"]
    assert not torch.equal(same.fc.weight, other.fc.weight)


class Fixed(nn.Module):
    """Holds a random tensor that is no weight."""

    def __init__(self):
        super().__init__()
        self._mask = torch.rand(8)
        self.body = nn.Linear(8, 10)


class Unsaved(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.rand(8), persistent=False)
        self.body = nn.Linear(8, 10)


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        mask = torch.rand(8)
        self.body, self.masked = nn.Linear(8, 10), lambda x: x * mask


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(8, 8)
        self.other = nn.Linear(8, 8)
        self.other.weight = self.one.weight


class Asking(nn.Module):
    """Needs values while it is built."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 10)
        self.size = float(self.body.weight.detach().norm())


class Drawing(nn.Module):
    """Is of another form each time."""

    widths = iter(range(8, 100))

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, next(self.widths))


@pytest.mark.parametrize("build", [Fixed, Unsaved, Hidden, Shared, Asking, Drawing])
def test_a_model_that_is_more_than_its_weights_is_built_in_full(build, tmp_path):
    drawn = []
    setup = rebuilt(setup_of(build, tmp_path, drawn))
    models = [setup.model() for _ in range(3)]
    assert drawn[0] == drawn[-1] == "cpu"
    assert not any(item.is_meta for model in models for item in (*model.parameters(), *model.buffers()))


def test_one_model_for_all_is_handed_out_as_the_user_does(tmp_path):
    only = nn.Linear(8, 10)
    setup = rebuilt(setup_of(lambda: only, tmp_path, []))
    assert setup.model() is setup.model() is only


@pytest.mark.parametrize("tables", [{"model": {"init": "normal"}}, {"finetune": {"way": "head"}}])
def test_weights_that_come_from_elsewhere_are_not_copied(tables, tmp_path):
    drawn = []
    setup = rebuilt(setup_of(resnet, tmp_path, drawn, **tables))
    for _ in range(2):
        setup.model()
    assert drawn == ["cpu", "cpu"]


def test_a_small_model_is_drawn_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn_once, "LARGE", 10**9)
    drawn = []
    setup = rebuilt(setup_of(resnet, tmp_path, drawn))
    for _ in range(2):
        setup.model()
    assert drawn == ["cpu", "cpu"]


def test_a_model_that_asks_for_the_version_of_its_weights_is_told(tmp_path):
    drawn = []
    setup = rebuilt(setup_of(lambda: torchvision.models.mnasnet0_5(num_classes=10), tmp_path, drawn))
    first, second = setup.model().state_dict(), setup.model().state_dict()
    assert drawn == ["cpu", "meta"]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_that_refuses_to_load_weights_is_built_in_full(tmp_path):
    class Refuses(nn.Linear):
        def _load_from_state_dict(self, *_):
            raise ValueError("no weights of others")

    drawn = []
    setup = rebuilt(setup_of(lambda: Refuses(3, 2), tmp_path, drawn))
    setup.model()
    setup.model()
    setup.model()
    assert drawn == ["cpu", "meta", "cpu", "cpu"]
