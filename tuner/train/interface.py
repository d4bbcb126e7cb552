"""What a trained model takes and gives: kept in its checkpoint, so that it can be used where the data are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.core.errors import InputError
from tuner.train.data import Data
from tuner.train.nested import is_one, leaves


@dataclass(frozen=True)
class Interface:
    """The inputs of a model as its data source gives them, and the names of its outputs.

    Shapes: `shape` is one example's, as the model sees it. `shift` and `factor` broadcast against it; None: inputs are
    passed on as they are. `dtype`: of the inputs before `(x - shift) * factor`. Of inputs of several parts `shape` has
    their structure, `dtype` is that of the first, and nothing is normalised.
    """

    shape: Any
    dtype: torch.dtype
    shift: Tensor | None
    factor: Tensor | None
    num_classes: int
    class_names: tuple[str, ...]
    columns: tuple[str, ...] | None

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and plain values only, as a checkpoint holds them."""
        return {**vars(self), "dtype": str(self.dtype).removeprefix("torch.")}

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], where: str) -> Interface:
        """Return what `to_plain` put into a checkpoint.

        Raises:
            InputError: "does not say what its inputs are" (written by an earlier version).
        """
        if "interface" not in checkpoint:
            raise InputError(
                f"{where} does not say what its inputs are: an earlier version of tuner wrote it",
                "Have it written again: tuner fine RECIPE --fresh",
            )
        found = checkpoint["interface"]
        return cls(**{**found, "dtype": getattr(torch, found["dtype"])})


def interface_of(data: Data) -> Interface:
    """Return the interface of a model that is trained on `data`."""
    first = data.part("train").inputs(torch.zeros(1, dtype=torch.int64))
    return Interface(
        shape=tuple(data.input_shape) if is_one(data.input_shape) else data.input_shape,
        dtype=leaves(first)[0].dtype,
        shift=compact(data.normaliser.shift),
        factor=compact(data.normaliser.factor),
        num_classes=data.num_classes,
        class_names=tuple(data.class_names),
        columns=None if data.feature_names is None else tuple(data.feature_names),
    )


def compact(values: Tensor | None) -> Tensor | None:
    """Return statistics that are spread over an example without what only repeats: per channel, or one for all."""
    if values is None:
        return None
    for kept in ((), (0,)):
        axes = tuple(axis for axis in range(values.dim()) if axis not in kept)
        small = values[tuple(slice(None) if axis in kept else slice(0, 1) for axis in range(values.dim()))]
        if axes and torch.equal(small.expand_as(values), values):
            return small.clone(memory_format=torch.contiguous_format)
    return values.clone(memory_format=torch.contiguous_format)
