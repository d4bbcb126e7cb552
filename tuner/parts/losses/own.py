"""The loss that a model computes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

NO_LOSS = (
    "the model gives no loss of its own here: where its forward is given the targets (labels, targets or y) it must "
    'return (answers, loss), or {"logits": ..., "loss": ...}'
)


def model(outputs: Any, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Take the loss that the model itself returns beside its answers: `.loss`, a key `loss`, the scalar of a tuple.

    The model is given the targets as an argument of its own: labels, label, targets, target or y, None by default.
    `ignore_index`: which targets have no class for it.

    When: a model that computes its loss itself: Hugging Face's, or `return logits, loss`.
    ignore_index: -1 in nanoGPT.
    Source: the forward of transformers' models for a task; A. Karpathy, nanoGPT.
    """
    found = _scalars(outputs)
    if len(found) != 1:
        raise NotImplementedError(NO_LOSS)
    return found[0].float()


model.of_model = True  # type: ignore[attr-defined]  # it takes all of the outputs, which the model made of the targets


def _scalars(outputs: Any) -> list[Tensor]:
    """Return what may be the loss in a model's outputs: what is named so, otherwise every scalar."""
    if isinstance(named := getattr(outputs, "loss", None), Tensor):
        return [named]
    if isinstance(outputs, Mapping) and isinstance(outputs.get("loss"), Tensor):
        return [outputs["loss"]]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    parts = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    return [part for part in parts if isinstance(part, Tensor) and part.ndim == 0]
