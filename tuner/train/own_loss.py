"""Models that compute their loss themselves, given the targets: `loss.name = "model"`.

The targets reach such a model as an argument of its own forward wherever the step or an evaluation says that they are
known (`told`); called otherwise it answers alone. The loss of outputs that the model did not make is known where the
model's own loss is one that everybody has: it then equals that one on some examples, at their targets and at others.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.train.device import generators_kept
from tuner.train.kernel_asserts import as_on_cpu
from tuner.train.nested import TARGETS, first

if TYPE_CHECKING:
    from tuner.train.setup import Setup

Loss = Callable[[Any, Tensor], Tensor]
NAME = "model"
EXAMPLES, NOISE, EQUAL = 16, 0.05, 1e-4  # of train; on the weights, so that none is zero; relative
CANDIDATES = ("cross_entropy", "bce", "mse", "mae", "huber")
REFUSALS = (RuntimeError, ValueError, IndexError, TypeError, UsageError)

_told: ContextVar[Tensor | None] = ContextVar("targets", default=None)


@contextmanager
def told(targets: Tensor) -> Iterator[None]:
    """Run the block with the targets of its batch known to a model that asks for them."""
    token = _told.set(targets)
    try:
        yield
    finally:
        _told.reset(token)


def is_asked(table: Mapping[str, Any]) -> bool:
    """Return whether a loss table, or a term of its list, is the model's own loss."""
    return any(term.get("name") == NAME for term in table.get("terms", [table]))


def of_model(loss: Loss) -> bool:
    """Return whether a loss is the model's own."""
    return bool(getattr(loss, "of_model", False))


def listen(model: nn.Module) -> None:
    """Have the model given the targets where they are told, under its own name of them.

    Raises:
        UsageError: its forward has no argument for targets, or cannot do without them.
    """
    name = _parameter(model)

    def hand_over(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        targets = _told.get()
        return None if targets is None or name in kwargs else (args, {**kwargs, name: targets})

    model.register_forward_pre_hook(hand_over, with_kwargs=True)


def _parameter(model: nn.Module) -> str:
    parameters = inspect.signature(model.forward).parameters
    name = next((name for name in TARGETS if name in parameters), None)
    if name is None:
        raise UsageError(
            f'loss.name: "model" is the model\'s own loss, but forward() of {type(model).__name__} has no argument for '
            f"targets (it has: {', '.join(parameters) or 'none'})",
            f"Call it one of {', '.join(TARGETS)}, None by default; or name a loss.",
        )
    if parameters[name].default is inspect.Parameter.empty:
        raise UsageError(
            f'loss.name: "model": forward() of {type(model).__name__} cannot do without {name}, which are not known '
            "where it answers",
            f"def forward(self, ..., {name}=None): the answers alone without them, (answers, loss) with them.",
        )
    return name


def with_stand_in(own: Loss, stand_in: Callable[[], Loss | None]) -> Loss:
    """Return the model's own loss of what it returned, and the equal one, if there is any, of other outputs."""
    known: list[Loss | None] = []

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        try:
            return own(outputs, targets)
        except NotImplementedError:
            if _told.get() is not None:
                raise
            if not known:
                known.append(stand_in())
            if known[0] is None:
                raise
            return known[0](outputs, targets)

    loss.raw = getattr(own, "raw", own)  # type: ignore[attr-defined]
    loss.states = getattr(own, "states", [])  # type: ignore[attr-defined]
    loss.of_model = True  # type: ignore[attr-defined]
    return loss


def equal_to(setup: Setup, own: Loss, build: Callable[[str], Loss]) -> Loss | None:
    """Return the loss that equals the model's own on some train examples; None where none of the usual does.

    `build`: makes the function of a name. No stream of random numbers is moved.
    """
    streams = random.getstate(), np.random.get_state()
    try:
        with generators_kept(), torch.no_grad(), as_on_cpu(setup.env.device):
            return _equal(setup, own, build)
    finally:
        random.setstate(streams[0])
        np.random.set_state(streams[1])


def _equal(setup: Setup, own: Loss, build: Callable[[str], Loss]) -> Loss | None:
    size = min(EXAMPLES, setup.data.size("train"))
    inputs, targets = first(next(iter(setup.data.batches("train", size))), size)
    model = setup.model().eval()
    for p in model.parameters():
        p.add_(NOISE * torch.randn(p.shape, device=p.device).to(p.dtype) if p.is_floating_point() else 0)
    given = [(_answer(model, inputs, wanted), wanted) for wanted in (targets, targets.roll(1, 0))]
    expected = [float(own(outputs, wanted)) for outputs, wanted in given]
    for candidate in map(build, CANDIDATES):
        try:
            found = [float(candidate(outputs, wanted)) for outputs, wanted in given]
        except REFUSALS:
            continue
        if all(abs(a - b) <= EQUAL * max(abs(b), EQUAL) for a, b in zip(found, expected, strict=True)):
            return candidate
    return None


def _answer(model: nn.Module, inputs: Any, targets: Tensor) -> Any:
    with told(targets):
        return model(inputs)
