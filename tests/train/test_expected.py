"""Outputs that know the targets, or their shares alone, whether the classes are second or last."""

import torch

from tuner.train.expected import towards


def test_outputs_towards_the_targets_of_positions_have_the_classes_where_the_model_has_them():
    targets = torch.tensor([[0, 2, 1], [1, 1, 0]])
    second, last = towards(targets, torch.Size([2, 4, 3])), towards(targets, torch.Size([2, 3, 4]))
    assert second is not None and torch.equal(second.argmax(1), targets)
    assert last is not None and torch.equal(last.argmax(-1), targets)
