from pathlib import Path

import pytest
import torch

from tuner.recipe.registry import built_ins, resolve


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adadelta", "Adamax"])
def test_torchs_optimizers_have_their_lower_case_names(name):
    assert resolve("optimizer", name.lower(), Path()) is getattr(torch.optim, name)


def test_only_optimizers_and_what_builds_them_are_among_the_built_ins():
    found = built_ins("optimizer")
    assert len(found) >= 16
    assert {"swats", "sam", "lookahead", "muon"} <= set(found) and "optimizer" not in found
    classes = [value for value in found.values() if isinstance(value, type)]
    assert all(issubclass(value, torch.optim.Optimizer) for value in classes)
