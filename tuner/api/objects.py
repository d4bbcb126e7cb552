"""The user's own objects, as `tuner.check` and `tuner.watch` take them: what cannot be looked at is refused at once."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tuner.core.errors import InputError, UsageError, first_line
from tuner.core.formatting import shown
from tuner.train import own_loss


def check_objects(model: object, loss: object, optimizer: object) -> None:
    """Refuse what is no module, loss or optimizer, or not built yet.

    Raises:
        UsageError: what it is, and what to hand over.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model: is {_kind(model)}, not a module", "Hand over the built module: Net(), not Net.")
    if any(nn.parameter.is_lazy(item) for item in [*model.parameters(), *model.buffers()]):
        raise UsageError(
            "model: it has lazy layers, which know no shape yet", "Call it once on the inputs of a batch before."
        )
    if next(model.parameters(), None) is None:
        raise UsageError(
            "model: it has no parameters, so nothing can be trained",
            "Keep layers in attributes of the module; lists of them in nn.ModuleList.",
        )
    if isinstance(loss, str) and loss != own_loss.NAME:
        raise UsageError(
            f"loss: {loss!r} is a text, not a function of (outputs, targets)",
            'Hand over the function or module; "model" where the model returns its loss itself.',
        )
    if isinstance(loss, type) or not (callable(loss) or isinstance(loss, str)):
        raise UsageError(
            f"loss: is {_kind(loss)}, not a loss", "Hand over a function of (outputs, targets), or a built module."
        )
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"optimizer: is {_kind(optimizer)}, not an optimizer", "Such as torch.optim.Adam(model.parameters())."
        )


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model.

    Raises:
        UsageError: it holds what cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"model: cannot be copied: {first_line(error)}",
            "tuner.check trains copies: compute tensors in forward, and keep open files, locks and the like outside.",
        ) from error


@contextmanager
def in_words_of_python() -> Iterator[None]:
    """Have messages about data, which name keys of a recipe, name the arguments of `tuner.check` as well."""
    try:
        yield
    except (UsageError, InputError) as error:
        raise type(error)(_said(error.message), _said(error.hint)) from error


def _said(text: str) -> str:
    return re.sub(r'data\.task = ("\w+")', r"data.task = \1 (here: task=\1)", text.replace("data.source python: ", ""))


def _kind(value: object) -> str:
    return (
        f"the class {value.__name__}" if isinstance(value, type) else f"{shown(value)}, of type {type(value).__name__}"
    )
