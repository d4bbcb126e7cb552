"""Inputs and outputs of several tensors: tuples, lists and dictionaries of them, counted as one example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LOGITS = ("logits", "out", "output", "outputs")  # keys that models use for what is scored
TARGETS = ("labels", "label", "targets", "target", "y")  # keys that data sets of dictionaries use


def mapped(fn: Callable[[Tensor], Any], value: Any) -> Any:
    """Return the same structure with `fn` of every tensor."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, Mapping):
        return {key: mapped(fn, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(mapped(fn, item) for item in value)
    return value


def first(value: Any, count: int) -> Any:
    """Return the first examples of a batch, whatever its structure."""
    return mapped(lambda tensor: tensor[:count], value)


def leaves(value: Any) -> list[Tensor]:
    """Return the tensors of a structure, in order."""
    found: list[Tensor] = []
    mapped(found.append, value)
    return found


def blanked(inputs: Any) -> Any:
    """Return inputs that say nothing of their example: quantities are zero.

    Whole numbers beside quantities, such as lengths, say how these are read, and stay. Where there are whole numbers
    alone, such as words, every example is the first one: rows of zeros may be nothing that a model can read.
    """
    if any(part.is_floating_point() for part in leaves(inputs)):
        return mapped(lambda part: torch.zeros_like(part) if part.is_floating_point() else part, inputs)
    return mapped(lambda part: part[:1].expand_as(part).contiguous(), inputs)


def together(fn: Callable[[list[Tensor]], Tensor], values: Sequence[Any]) -> Any:
    """Return the structure of the values with `fn` of the tensors that are at one place in all of them."""
    first = values[0]
    if isinstance(first, Tensor):
        return fn(list(values))
    if isinstance(first, Mapping):
        return {key: together(fn, [value[key] for value in values]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(together(fn, list(parts)) for parts in zip(*values, strict=True))
    return first


def shape_of(value: Any) -> Any:
    """Return a tensor's shape; of a structure the same structure of shapes."""
    return mapped(lambda tensor: tuple(tensor.shape), value)


def is_one(shape: Any) -> bool:
    """Return whether a shape, as `shape_of` gives it, is that of one tensor."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


def values_of(shape: Any) -> int:
    """Return how many numbers an example of that shape has."""
    if is_one(shape):
        return int(torch.Size(shape).numel())
    return sum(values_of(part) for part in (shape.values() if isinstance(shape, Mapping) else shape))


def zeros_of(shape: Any, count: int) -> Any:
    """Return `count` examples of a shape, all zero."""
    if is_one(shape):
        return torch.zeros(count, *shape)
    if isinstance(shape, Mapping):
        return {key: zeros_of(part, count) for key, part in shape.items()}
    return tuple(zeros_of(part, count) for part in shape)


def parted(item: Any) -> tuple[Any, Any] | None:
    """Return (inputs, target) of what a Dataset or a collate function gives; None where it is neither pair nor dict.

    A dictionary's target is under one of the usual keys; a single other entry is the input itself.
    """
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    if not isinstance(item, Mapping) or len(item) < 2:
        return None
    keys = [key for key in TARGETS if key in item]
    if len(keys) != 1:
        return None
    rest = {key: value for key, value in item.items() if key != keys[0]}
    return (next(iter(rest.values())) if len(rest) == 1 else rest), item[keys[0]]


def scored_part(outputs: Any) -> Any:
    """Return the tensor of a model's outputs that is scored: itself, `.logits`, a usual key, the first of a tuple.

    A scalar among the parts is a loss, and no answer. What cannot be decided is given back as it is.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(getattr(outputs, "logits", None), Tensor):
        return outputs.logits
    if isinstance(outputs, Mapping):
        named = [outputs[key] for key in LOGITS if isinstance(outputs.get(key), Tensor)]
        parts = named or list(outputs.values())
    elif isinstance(outputs, (tuple, list)):
        parts = list(outputs)
    else:
        return outputs
    answers = [part for part in parts if isinstance(part, Tensor) and part.ndim]
    if isinstance(outputs, Mapping) and len(answers) > 1 and not named:
        return outputs
    return answers[0] if answers else outputs


def named_part(outputs: Any, name: str) -> Any:
    """Return one part of a model's outputs by attribute, key or place in a tuple.

    Raises:
        KeyError: there is none of that name.
    """
    if isinstance(outputs, Mapping) and name in outputs:
        return outputs[name]
    if isinstance(outputs, (tuple, list)) and name.isdigit() and int(name) < len(outputs):
        return outputs[int(name)]
    if isinstance(getattr(outputs, name, None), Tensor):
        return getattr(outputs, name)
    raise KeyError(name)


def hand_over_parts(model: nn.Module) -> None:
    """Have the model called with a tuple's parts one by one, a dictionary's by name, where its `forward` asks so."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = {parameter.name for parameter in parameters}

    def unpack(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 1 or kwargs:
            return None
        if isinstance(args[0], tuple) and (
            len(by_place) >= len(args[0]) > 1 or inspect.Parameter.VAR_POSITIONAL in kinds
        ):
            return args[0], {}
        if isinstance(args[0], dict) and (set(args[0]) <= names or inspect.Parameter.VAR_KEYWORD in kinds):
            return (), args[0]
        return None

    model.register_forward_pre_hook(unpack, with_kwargs=True)


def take_part(model: nn.Module, name: str) -> None:
    """Have the model give one part of its outputs (`[model] output`)."""
    model.register_forward_hook(lambda module, args, outputs: _part_or_error(outputs, name))


def _part_or_error(outputs: Any, name: str) -> Any:
    from tuner.core.errors import UsageError

    try:
        return named_part(outputs, name)
    except KeyError:
        there = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise UsageError(
            f"model.output: the model's outputs have no part {name!r} (they are: {there})",
            "Name a key, an attribute, or a place in the tuple: 0 is the first.",
        ) from None
