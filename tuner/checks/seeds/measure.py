"""Whether another seed gives another model."""

from __future__ import annotations

import torch

from tuner.checks.seeds.evidence import Seeds
from tuner.checks.tools.frame import DoesNotApply, before_training
from tuner.train.setup import Setup


@before_training
def seeds(setup: Setup) -> Seeds:
    """Build the model with two seeds and compare the parameters; weights from a file are the same for every seed."""
    if (setup.tables.get("finetune") or {}).get("weights"):
        raise DoesNotApply("the weights are those of finetune.weights")
    one, other = (setup.model(seed=setup.spec.seed + offset) for offset in (0, 1))
    pairs = list(zip(one.parameters(), other.parameters(), strict=False))
    equal = bool(pairs) and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
    return Seeds(same_object=one is other, equal=equal, parameters=sum(a.numel() for a, _ in pairs))
