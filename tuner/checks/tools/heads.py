"""What the outputs of the fresh model are, for measures that ask the loss about outputs of their own making."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.cost import is_large
from tuner.checks.tools.frame import forward, fresh_model, one_batch
from tuner.train.setup import Setup

EXAMPLES, FEW = 16, 4  # of a large model


@dataclass(frozen=True)
class Head:
    """The kind of outputs (a key of HEADS), and the shape of one example's."""

    kind: str
    shape: torch.Size

    def of(self, examples: int) -> torch.Size:
        """Return the shape of a batch's outputs."""
        return torch.Size([examples, *self.shape])


_last: tuple[Setup, Head] | None = None


def head_of(setup: Setup) -> Head:
    """Return what the fresh model's outputs are; a large model is asked once.

    Raises:
        CannotProbe: the outputs are not one tensor.
    """
    global _last
    if _last is not None and _last[0] is setup:
        return _last[1]
    model = fresh_model(setup)
    inputs, _ = one_batch(setup, FEW if is_large(setup) else EXAMPLES, "head")
    head = Head(_outputs.kind_of(model, inputs), forward(model, inputs).shape[1:])
    if is_large(setup):
        _last = (setup, head)
    return head
