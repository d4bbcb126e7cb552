"""What step 1 asks of a model as large as ResNet-50: counted in examples, so that it is the same on every machine."""

import contextlib
import functools
import gc
import weakref

import pytest
import torch
from torch import nn

from tuner.checks import measures
from tuner.checks.init_battery.measure import init_battery
from tuner.checks.tools import cost, heads
from tuner.checks.tools.frame import BATTERY, CannotProbe
from tuner.checks.tools.whole import whole

RESNET_50 = 8.2e9  # floating-point operations of a forward at 224 pixels
BATCH = 32
STEP = 3 * BATCH  # forwards of one example: a step goes forwards and, at twice the cost, backwards


class Counted(nn.Module):
    """A small net that counts forwards of one example; one with a graph counts as a step does."""

    asked = 0

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        Counted.asked += len(images) * (3 if torch.is_grad_enabled() else 1)
        return self.head(self.body(images))


def evaluate(model, batches, loss):
    """Evaluate as a user would."""
    right = examples = 0
    with torch.no_grad():
        for images, labels in batches:
            right, examples = right + int((model(images).argmax(1) == labels).sum()), examples + len(labels)
    return {"loss": 0.0, "accuracy": right / examples}


@pytest.fixture
def asked(setup_of, monkeypatch):
    """Return what counts the forwards of one example that each measurement asks of a model said to be as large."""
    monkeypatch.setattr(cost, "_operations", lambda setup: RESNET_50)
    monkeypatch.setattr(heads, "_last", None)
    measures()
    counts = {}

    def counting(measure):
        @functools.wraps(measure)
        def wrapped(*args, **given):
            before = Counted.asked
            try:
                return measure(*args, **given)
            finally:
                counts[measure.__name__] = Counted.asked - before

        return wrapped

    for name, measure in list(BATTERY.items()):
        monkeypatch.setitem(BATTERY, name, counting(measure))
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(640) % 4
    images = torch.rand(640, 3, 12, 12, generator=generator) + labels[:, None, None, None] / 8
    val = images[:128] + 0.01, labels[:128]

    def count(hook):
        found = init_battery(setup_of((images, labels), Counted, val=val, batch_size=BATCH, evaluate_hook=hook))
        assert not [name for name, answer in found.items() if answer.get("raised")]
        assert len(counts) == len(BATTERY)
        return counts

    return count


def test_step_1_asks_no_more_of_a_large_model_than_a_few_of_its_own_steps(asked):
    counts = asked(None)
    assert sum(counts.values()) <= 5 * STEP, counts
    assert max(counts.values()) <= STEP, counts


def test_an_evaluation_of_the_users_own_is_asked_about_few_examples_of_a_large_model(asked):
    counts = asked(evaluate)
    assert sum(counts.values()) <= 8 * STEP, counts
    assert counts["metric_check"] <= 3 * STEP, counts


def test_a_measurement_holds_two_models_at_once_at_most_and_leaves_none_to_the_garbage_collector(setup_of, monkeypatch):
    built, most = [], 0

    def alive():
        return sum(any(known() is not None for known in weights) for weights in built)

    def model():
        nonlocal most
        most = max(most, alive() + 1)
        net = Counted()
        built.append([weakref.ref(p) for p in net.parameters()])
        return net

    labels = torch.arange(128) % 4
    images = torch.rand(128, 3, 12, 12, generator=torch.Generator().manual_seed(0)) + labels[:, None, None, None] / 8
    adam = {"optimizer": torch.optim.AdamW, "optimizer_table": {"name": "adamw", "lr": 1e-3}}
    setup = whole(setup_of((images, labels), model, val=(images + 0.01, labels), batch_size=BATCH, **adam))
    monkeypatch.setattr(heads, "_last", None)
    measures()
    cost.affordable(setup, 1)  # counted once, before anything is held
    asked = 0
    gc.collect()
    gc.disable()
    try:
        for name, measure in BATTERY.items():
            built.clear()
            with contextlib.suppress(CannotProbe):
                measure(setup)
            asked += bool(built)
            assert alive() == 0, name
            assert most <= 2, name
    finally:
        gc.enable()
    assert asked >= 20
