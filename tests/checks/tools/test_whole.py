import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tuner.checks.tools.whole import in_place, whole


@pytest.mark.parametrize(
    ("structure", "read"),
    [
        ((torch.zeros(4, 3), torch.ones(4, 7)), lambda outputs: outputs),
        ({"logits": torch.zeros(4, 3), "features": torch.ones(4, 7)}, lambda o: (o["logits"], o["features"])),
        (SimpleNamespace(logits=torch.zeros(4, 3), features=torch.ones(4, 7)), lambda o: (o.logits, o.features)),
    ],
)
def test_a_tensor_takes_the_place_of_the_scored_part(structure, read):
    part = torch.randn(4, 3)
    first, second = read(in_place(structure, part))
    assert first is part
    assert torch.equal(second, torch.ones(4, 7))
    assert not torch.equal(read(structure)[0], part)  # what the model gave is as it was


def test_the_other_parts_get_as_many_rows():
    _, features = in_place((torch.zeros(4, 3), torch.arange(4.0)[:, None]), torch.zeros(6, 3))
    assert features.flatten().tolist() == [0, 1, 2, 3, 0, 1]


class Named(nn.Linear):
    def forward(self, inputs):
        return {"logits": super().forward(inputs)}


def test_a_loss_of_the_whole_outputs_can_be_asked_about_a_tensor():
    setup = whole(SimpleNamespace(model=lambda: Named(5, 3), loss=lambda: lambda o, t: F.cross_entropy(o["logits"], t)))
    loss, targets = setup.loss(), torch.tensor([0, 1])
    outputs = setup.model()(torch.randn(2, 5))
    assert torch.equal(loss(outputs["logits"], targets), loss(outputs, targets))
    free = torch.zeros(2, 3, requires_grad=True)
    loss(free, targets).backward()
    assert free.grad.abs().sum() > 0


def test_outputs_that_are_a_tensor_are_left_alone():
    setup = whole(SimpleNamespace(model=lambda: nn.Linear(5, 3), loss=lambda: F.cross_entropy))
    outputs = setup.model()(torch.randn(2, 5))
    assert torch.equal(setup.loss()(outputs, torch.tensor([0, 1])), F.cross_entropy(outputs, torch.tensor([0, 1])))


def test_a_model_can_be_copied_as_steps_that_average_weights_do():
    class Unique:
        """Stands for what cannot be copied: data, open files."""

        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

        def model(self):
            return nn.Linear(5, 3)

    assert copy.deepcopy(whole(Unique()).model())(torch.zeros(2, 5)).shape == (2, 3)


def test_what_holds_the_setup_can_be_copied_after_a_forward():
    setup = whole(SimpleNamespace(model=lambda: nn.Linear(5, 3)))
    setup.model()(torch.zeros(2, 5))
    assert copy.deepcopy([setup]) == [setup]
