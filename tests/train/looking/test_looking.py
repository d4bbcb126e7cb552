"""Layers, receptive fields and multiply-adds by the lecture's numbers; remarks; the data's duplicates and suspects."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.train.training_cases import make_case
from tuner.parts import models
from tuner.train.looking import model as look
from tuner.train.looking.data import duplicates, look_at_data, suspect_labels
from tuner.train.looking.layers import layers_of, remarks
from tuner.train.looking.model import inspect_model, rates, throughput
from tuner.view import looks as view


def alexnet():
    """The lecture's AlexNet up to its first fully connected layer."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
        nn.Conv2d(96, 256, 5, padding=2), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
        nn.Conv2d(256, 384, 3, padding=1), nn.Conv2d(384, 384, 3, padding=1), nn.Conv2d(384, 256, 3, padding=1),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(9216, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    return layers_of(alexnet(), torch.randn(1, 3, 227, 227))


def test_alexnet_has_the_lectures_shapes(found):
    shapes = [layer.outputs for layer in found if layer.kind in ("Conv2d", "MaxPool2d", "LocalResponseNorm")]
    wide = [(96, 55), (96, 27), (96, 27), (256, 27), (256, 13), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6)]
    assert shapes == [(channels, side, side) for channels, side in wide]


def test_alexnet_has_the_receptive_fields_of_the_lectures_formula(found):
    by_hand = [11, 19, 51, 67, 99, 131, 163, 195]  # 1 + the sum of (k - 1) times the product of earlier strides
    fields = [layer.field_of_net for layer in found if layer.field is not None]
    assert fields == by_hand
    assert [layer.field for layer in found if layer.kind == "Conv2d"] == [11, 5, 3, 3, 3]
    assert found[-1].field_of_net is None  # a fully connected layer sees all


def test_weights_and_multiply_adds_are_the_closed_forms(found):
    conv, linear = found[0], found[-1]
    assert conv.parameters == 11 * 11 * 3 * 96 + 96
    assert conv.multiply_adds == 11 * 11 * 3 * 96 * 55 * 55
    assert (linear.parameters, linear.multiply_adds) == (9216 * 10 + 10, 92160)


def test_a_residual_net_sees_as_far_as_its_longest_way():
    net = models.resnet8((3, 32, 32), 10, width=4)
    fields = [layer.field_of_net for layer in layers_of(net, torch.randn(2, 3, 32, 32)) if layer.kind == "Conv2d"]
    assert fields == [3, 5, 7, 9, 13, 17, 25]


def test_statistics_are_those_of_the_activations():
    net = nn.Sequential(nn.Linear(3, 50), nn.ReLU())
    x = torch.randn(40, 3)
    relu = layers_of(net, x)[1]
    y = net(x)
    assert (relu.mean, relu.std) == pytest.approx((float(y.mean()), float(y.std())), rel=1e-5)
    assert relu.zeros == pytest.approx(float((y == 0).float().mean()))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Conv2d(3, 8, 4, padding=1), "an even kernel has no centre"),
        (nn.Conv2d(3, 8, 5, padding=2), "two 3x3 see as much as one 5x5"),
        (nn.Conv2d(3, 8, 3), "no padding: the map shrinks"),
        (nn.Conv2d(3, 12, 3, padding=1), "no power of two"),
        (nn.MaxPool2d(2), "75 % are dropped"),
    ],
)
def test_the_notes_remarks_are_made_of_the_layer_they_are_about(layer, words):
    assert [text for text in remarks(nn.Sequential(layer)) if words in text and text.startswith("0: ")]


def test_a_layer_as_the_notes_advise_has_no_remark():
    assert remarks(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())) == []


IMAGES = {"data.source": "mine.py:images", "model": {"name": "convnet", "width": 4, "depth": 1}}


def test_inspect_writes_pictures_and_words(tmp_path):
    case = make_case(tmp_path, overrides=IMAGES)
    result = inspect_model(dict(case.tables), case.env, 2, tmp_path / "out")
    assert json.loads(json.dumps(result))["parameters"] == result["parameters"]
    assert result["parameters"] == sum(item.numel() for item in case.setup().model().parameters())
    sizes = [Image.open(path).size for path in result["files"]]
    assert len(sizes) == 2 and all(width > 20 and height > 20 for width, height in sizes)
    text = view.model_text(result)
    assert "4x8x8" in text and f"{result['parameters']:,} weights" in text


def test_inspect_says_what_of_a_file_of_weights_fits(tmp_path):
    case = make_case(tmp_path, overrides={**IMAGES, "finetune": {"weights": "w.pt"}})
    other = make_case(tmp_path, overrides=IMAGES).setup().model(seed=4)
    state = other.state_dict()
    state["3.weight"] = torch.ones(7, 4)
    torch.save(state, tmp_path / "w.pt")
    result = inspect_model(dict(case.tables), case.env, 2, None)
    assert "weights: 3.weight: (7, 4) in the file, (3, 4) in the model: drawn again" in view.model_text(result)


def test_the_planned_rates_are_those_of_a_run(tmp_path):
    case = make_case(tmp_path, overrides={"schedule": {"name": "linear", "hold_epochs": 1}})
    found = rates(dict(case.tables), case.env, 3)
    assert found[:5] == [0.1] * 5 and found[5:] == pytest.approx([0.1 * (1 - i / 10) for i in range(10)])
    assert view.rates_text(found, 3).count("\n") == 15


def test_throughput_is_measured_up_to_the_size_of_train(tmp_path):
    found = throughput(dict(make_case(tmp_path).tables), make_case(tmp_path).env)
    assert [row["batch_size"] for row in found["rows"]] == [8, 16, 32]
    assert all(row["examples_per_second"] > 0 and row["peak_memory_bytes"] > 0 for row in found["rows"])
    assert found["largest"] == found["train"] == 40
    assert "the largest that fits into" in view.throughput_text(found).splitlines()[-1]


def test_a_batch_that_cannot_fit_is_not_tried(tmp_path, monkeypatch):
    case = make_case(tmp_path, overrides={"data.train": 100_000})
    monkeypatch.setattr(look, "limit_bytes", lambda *_: 10**9)
    monkeypatch.setattr(look, "_step", lambda setup, size: (0.1, 4 * 10**8 + size * 10**6))
    found = throughput(dict(case.tables), case.env)
    assert [row["batch_size"] for row in found["rows"]] == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert found["rows"][-1]["why"] == "the model at batch 1024 needs 1.4 GB of 1 GB"
    assert found["largest"] == 599  # a copy of the weights is kept too
    assert view.throughput_text(found).endswith("fits into 1 GB: 599, foreseen from the peaks above")


def test_duplicates_are_counted_within_train_and_between_the_splits():
    train, val = torch.arange(12.0).view(6, 2), torch.tensor([[0.0, 1.0], [2.0, 3.0], [9.0, 9.0]])
    train[5] = train[4]
    labels = {"train": torch.tensor([0, 1, 0, 1, 0, 0]), "val": torch.tensor([0, 0, 1])}
    found = duplicates({"train": train, "val": val}, labels)
    assert found == {"within_train": 1, "train_and_val": 2, "of_these_with_another_label": 1}


def test_labels_that_were_turned_are_the_first_suspects():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:600]).float(), torch.tensor(labels[:600])
    turned = torch.randperm(600, generator=torch.Generator().manual_seed(1))[:15]
    y[turned] = (y[turned] + 3) % 10
    suspects = [row[0] for row in suspect_labels(x, y)]
    assert len(set(suspects[:25]) & set(turned.tolist())) >= 13


def test_data_counts_classes_and_writes_samples_and_suspects(tmp_path):
    case = make_case(tmp_path, overrides={**IMAGES, "data.augment": ["hflip", "mixup"]})
    result = look_at_data(dict(case.tables), case.env, tmp_path / "out", suspects=True)
    assert result["splits"] == {"train": 24, "val": 12}
    assert [row["train"] for row in result["classes"]] == [8, 8, 8]
    lines = (tmp_path / "out" / "suspects.csv").read_text().splitlines()
    assert lines[0] == "example,where,label,answer,probability_of_label" and len(lines) == 1 + result["suspects"]
    assert Image.open(tmp_path / "out" / "samples.png").size[0] > 100
    assert "train 24, val 12" in view.data_text(result)


def test_a_histogram_shows_what_is_saturated_and_is_drawn_as_bars():
    wide = 5 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Identity(), nn.Tanh())
    plain, squashed = (layer.histogram for layer in layers_of(net, wide[:, None]))
    wanted = np.histogram(wide.numpy(), 12)[0] / 4000
    assert plain == pytest.approx(wanted, abs=1e-3)
    assert squashed[0] > 0.3 and squashed[-1] > 0.3 and max(squashed[1:-1]) < 0.1
    assert view.bars([0.5, 0.0, 0.25, 1e-9]) == "\u2588 \u2585\u2581"


def test_outputs_that_are_all_alike_have_no_histogram():
    (layer,) = layers_of(nn.Sequential(nn.Identity()), torch.ones(8, 3))
    assert layer.histogram == [] and view.bars(layer.histogram) == "-"
