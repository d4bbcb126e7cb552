"""Batches of which a part is not used, losses that do not hear a class, and healthy programs that look alike."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.asking import judged
from tuner.checks.batch_use.evidence import BatchUse
from tuner.checks.batch_use.measure import batch_use
from tuner.checks.classes_heard.evidence import ClassesHeard
from tuner.checks.classes_heard.measure import classes_heard
from tuner.checks.one_step.measure import one_step
from tuner.checks.tools.frame import CannotProbe


def linear():
    return nn.Linear(20, 10)


def with_batch_norm():
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def in_parts(clear_each):
    """Return a step over four parts of the batch; `clear_each`: the mistake of clearing the gradients for each."""

    def step(model, batch, loss, optimizer):
        optimizer.zero_grad()
        for inputs, targets in zip(*(part.chunk(4) for part in batch), strict=True):
            if clear_each:
                optimizer.zero_grad()
            value = loss(model(inputs), targets) / 4
            value.backward()
        optimizer.step()
        return value

    return step


def sliced(model, batch, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model(batch[0][:8]), batch[1][:8])
    value.backward()
    optimizer.step()
    return value


def mixed(model, batch, loss, optimizer):
    order = torch.randperm(len(batch[1]))
    optimizer.zero_grad()
    outputs = model(0.7 * batch[0] + 0.3 * batch[0][order])
    value = 0.7 * loss(outputs, batch[1]) + 0.3 * loss(outputs, batch[1][order])
    value.backward()
    optimizer.step()
    return value


def hardest_quarter(outputs, targets):
    losses = F.cross_entropy(outputs, targets, reduction="none")
    return losses.topk(max(1, len(losses) // 4)).values.mean()


CASES = {
    "plain": ({}, []),
    "batch norm": ({"model": with_batch_norm}, []),
    "parts of a batch": ({"train_step": in_parts(False)}, []),
    "mixup": ({"train_step": mixed}, []),
    "the hardest quarter": ({"loss": hardest_quarter}, []),
    "cleared for each part": ({"train_step": in_parts(True)}, [0]),
    "a slice": ({"train_step": sliced}, [1]),
    "the loss of the first": ({"loss": lambda o, t: F.cross_entropy(o, t, reduction="none")[0]}, [1]),
    "the loss of the last": ({"loss": lambda o, t: F.cross_entropy(o, t, reduction="none")[-1]}, [0]),
}


@pytest.mark.parametrize("case", CASES)
def test_halves_of_a_batch_that_change_nothing(setup_of, blobs, case):
    more, idle = CASES[case]
    found = batch_use(setup_of(blobs(), more.get("model", linear), **{k: v for k, v in more.items() if k != "model"}))
    assert found == BatchUse(idle, 32)
    findings, _, _ = judged("check-init", {"batch_use": found})
    said = [finding for finding in findings if finding.code == "IN125"]
    assert [finding.severity for finding in said] == (["error"] if idle else [])
    assert not said or ("first half" if idle == [0] else "second half") in said[0].title


def test_a_batch_of_all_examples_is_held_against_other_examples(setup_of):
    inputs = torch.linspace(1, 15, 15)[:, None]
    found = batch_use(setup_of((inputs, 2 * inputs), lambda: nn.Linear(1, 1), loss=F.mse_loss, batch_size=15))
    assert found == BatchUse([], 7)


def test_batches_without_halves_cannot_be_asked(setup_of, blobs):
    with pytest.raises(CannotProbe, match="batches of 2"):
        batch_use(setup_of(blobs(), linear, batch_size=2))


def one_hot(outputs, targets):
    return F.binary_cross_entropy_with_logits(outputs, F.one_hot(targets, 10).float())


@pytest.mark.parametrize(
    ("loss", "unheard"),
    [
        (F.cross_entropy, []),
        (F.multi_margin_loss, []),
        (one_hot, []),
        (lambda o, t: F.cross_entropy(o, t, reduction="sum"), []),
        (lambda o, t: F.cross_entropy(o, t, weight=torch.tensor([0.01] + [1.0] * 9)), []),
        (lambda o, t: F.cross_entropy(o, t, ignore_index=-100), []),
        (lambda o, t: F.cross_entropy(o, t, ignore_index=0), ["0"]),
        (lambda o, t: F.cross_entropy(o, t, weight=torch.tensor([1.0] * 8 + [0.0] * 2)), ["8", "9"]),
        (lambda o, t: F.cross_entropy(o, t, ignore_index=0, reduction="sum"), ["0"]),
    ],
)
def test_a_class_that_the_loss_does_not_hear(setup_of, blobs, loss, unheard):
    found = classes_heard(setup_of(blobs(), linear, loss=loss))
    assert (found.unheard, found.asked) == ({label: pytest.approx(0.1) for label in unheard}, 10)


def test_only_classes_with_examples_are_asked(setup_of, blobs):
    inputs, targets = blobs()
    kept = targets != 0
    setup = setup_of((inputs[kept], targets[kept]), linear, loss=lambda o, t: F.cross_entropy(o, t, ignore_index=0))
    assert classes_heard(setup) == ClassesHeard({}, 9)


def test_parameters_at_a_rate_of_0_are_seen(setup_of, blobs):
    def optimizer(params, lr):
        weight, bias = params
        return torch.optim.SGD([{"params": [weight], "lr": 0.0}, {"params": [bias]}], lr=lr)

    assert one_step(setup_of(blobs(), linear, optimizer=optimizer)).at_rate_0 == ["weight"]
    assert one_step(setup_of(blobs(), linear)).at_rate_0 == []
