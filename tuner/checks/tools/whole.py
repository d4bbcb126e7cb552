"""Models whose outputs are no bare tensor, for measures that ask the loss about outputs of their own making.

What is scored is one part of the outputs (`scored_part`); a loss of the user's own takes all of them. The loss that is
handed to measures puts a tensor that it is given in the place of that part, beside the other parts of the last forward.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from tuner.train.nested import scored_part
from tuner.train.own_loss import of_model
from tuner.train.setup import Setup


def whole(setup: Setup) -> Setup:
    """Return the setup with losses that take the scored part of the outputs for all of them."""
    return cast(Setup, _Whole(setup))


class _Whole:
    """A trial's setup whose losses take the scored part of the outputs for all of them; the rest is the setup's."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._last: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._setup, name)

    def __deepcopy__(self, memo: Any) -> _Whole:
        """Return itself: copies of a model carry hooks that know of it, and outputs with a graph cannot be copied."""
        return self

    def model(self, *args: Any, **kwargs: Any) -> Any:
        model, last = self._setup.model(*args, **kwargs), self._last

        def keep(module: Any, given: Any, outputs: Any) -> None:  # no method: a copy of the model would copy its object
            last["outputs"] = None if isinstance(outputs, Tensor) else outputs  # a tensor holds its graph, and weights

        model.register_forward_hook(keep)
        return model

    def loss(self) -> Any:
        raw, last = self._setup.loss(), self._last
        if of_model(raw):  # it knows what to do of a tensor, and the loss in the last outputs is not of these
            return raw

        def loss(outputs: Any, targets: Tensor) -> Tensor:
            whole = last.get("outputs")
            if isinstance(outputs, Tensor) and whole is not None:
                outputs = in_place(whole, outputs)
            value: Tensor = raw(outputs, targets)
            return value

        loss.raw = getattr(raw, "raw", raw)  # type: ignore[attr-defined]
        return loss


def in_place(structure: Any, part: Tensor) -> Any:
    """Return outputs of the same form with `part` where the scored tensor is; the others detached, of as many rows."""
    scored = scored_part(structure)
    if not isinstance(scored, Tensor):
        return part

    def fitted(item: Any) -> Any:
        if item is scored:
            return part
        if not isinstance(item, Tensor) or not item.ndim or len(item) != len(scored):
            return item
        return item.detach()[torch.arange(len(part), device=item.device) % len(item)]

    if isinstance(structure, Mapping):
        whole = copy.copy(structure)
        for key, item in structure.items():
            whole[key] = fitted(item)  # type: ignore[index]
        return whole
    if isinstance(structure, (tuple, list)):
        parts = [fitted(item) for item in structure]
        return parts if isinstance(structure, list) else tuple(parts)
    other: Any = copy.copy(structure)
    other.logits = part
    return other
