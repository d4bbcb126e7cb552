"""What a recipe adds to the loss, held against the loss: how much each weighs, and of which example it speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.loss_terms.evidence import LossTerms, Term
from tuner.checks.tools.frame import (
    Batch,
    CannotProbe,
    DoesNotApply,
    before_training,
    fresh_model,
    fresh_optimizer,
    one_batch,
    random_state,
    takes,
)
from tuner.checks.tools.updates import step_size
from tuner.train.objective import FeatureTerm
from tuner.train.own_loss import told
from tuner.train.setup import Setup
from tuner.train.step import needs_closure

EXAMPLES = 5  # whose inputs are exchanged
EQUAL = 1e-6  # of the largest demand of an example: the same kernels over the same batch

Penalty = Callable[..., Tensor]


@before_training
@takes(4)
def loss_terms(setup: Setup) -> LossTerms:
    """Take the gradients of the loss and of each term beside it, before any update and after one by the loss alone."""
    if setup.train_step is not None:
        raise DoesNotApply("the step is the user's own: what it adds to the loss is not told apart")
    model = fresh_model(setup)
    points = setup.points(model)
    parts: dict[str, Penalty] = {}
    for index, part in enumerate(points.parts):
        if "penalty" in part:
            name = _name(setup, index, part)
            parts[f"{name}, number {len(parts) + 1}" if name in parts else name] = part["penalty"]
    if not parts:
        raise DoesNotApply("nothing is added to the loss")
    optimizer = fresh_optimizer(setup, model, decay=False)
    if needs_closure(optimizer):
        raise CannotProbe(f"{type(optimizer).__name__} evaluates the loss more than once in an update")
    batch, loss = one_batch(setup, step_size(setup), "terms"), setup.loss()
    first = _Weighed.of(setup, model, batch, loss, parts)
    optimizer.step()
    points.after_update(model=model, step=1, total_steps=1, steps_per_epoch=1)
    then = _Weighed.of(setup, model, batch, loss, parts)
    terms = [
        Term(
            name,
            first.terms[name][0],
            (first.terms[name][1], then.terms[name][1]),
            *_elsewhere(setup, model, batch, penalty),
            _pulled(setup, model, batch, penalty),
        )
        for name, penalty in parts.items()
    ]
    return LossTerms(first.loss[0], (first.loss[1], then.loss[1]), terms)


def _name(setup: Setup, index: int, part: Mapping[str, Any]) -> str:
    """Return what the reader of a recipe calls a part: built of its tables, of a term of features, or of a teacher."""
    if index < len(setup.parts):
        return f"{setup.parts[index].where} ({getattr(setup.parts[index].fn, '__name__', 'a callable')})"
    owner = getattr(part["penalty"], "__self__", part["penalty"])
    if isinstance(owner, FeatureTerm):
        raw = owner.loss.raw  # type: ignore[attr-defined]
        return f"loss ({getattr(raw, '__name__', type(raw).__name__)})"
    return f"teacher ({type(owner).__name__})"


class _Weighed:
    """Values and lengths of gradients of the loss and of each term, on one batch; the loss's gradients are kept."""

    def __init__(self, loss: tuple[float, float], terms: dict[str, tuple[float, float]]) -> None:
        self.loss, self.terms = loss, terms

    @classmethod
    def of(
        cls, setup: Setup, model: nn.Module, batch: Batch, loss: Callable[..., Tensor], parts: Mapping[str, Penalty]
    ) -> _Weighed:
        inputs, targets = batch
        weights = [item for item in model.parameters() if item.requires_grad]
        terms = {}
        with random_state(setup.spec.seed), told(targets):
            outputs = model(inputs)
            objective = loss(outputs, targets)
            offered = {"model": model, "outputs": outputs, "inputs": inputs, "targets": targets}
            for name, penalty in parts.items():
                value = penalty(**offered)
                terms[name] = float(value.detach()), _length(_gradients(value, weights))
            gradients = _gradients(objective, weights)
        for item, gradient in zip(weights, gradients, strict=True):
            item.grad = gradient
        return cls((float(objective.detach()), _length(gradients)), terms)


def _gradients(value: Tensor, weights: list[nn.Parameter]) -> list[Tensor | None]:
    if not value.requires_grad:
        return [None] * len(weights)
    return list(torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True))


def _length(gradients: list[Tensor | None]) -> float:
    squares = [float(item.float().norm()) ** 2 for item in gradients if item is not None]
    return sum(squares) ** 0.5


def _elsewhere(setup: Setup, model: nn.Module, batch: Batch, penalty: Penalty) -> tuple[int, int]:
    """Give the term other inputs in the place of single ones, beside the same outputs; see `Term`."""
    inputs, targets = batch
    with torch.no_grad(), random_state(setup.spec.seed):
        outputs = model(inputs)
    count = len(targets)
    if not isinstance(inputs, Tensor) or not isinstance(outputs, Tensor) or len(outputs) != count or count < 4:
        return 0, 0

    def demand(given: Tensor) -> Tensor | None:
        leaf = outputs.detach().clone().requires_grad_(True)
        with random_state(setup.spec.seed), _kept(model):
            value = penalty(model=model, outputs=leaf, inputs=given, targets=targets)
        if not value.requires_grad:
            return None
        (found,) = torch.autograd.grad(value, [leaf], allow_unused=True)
        return found

    first = demand(inputs)
    if first is None or not torch.equal(first, demand(inputs.clone())):  # type: ignore[arg-type]
        return 0, 0
    size = float(first.abs().max())
    asked = elsewhere = 0
    for place in range(0, count, max(1, count // EXAMPLES)):
        other = inputs.clone()
        other[place] = inputs[(place + count // 2) % count]
        now = demand(other)
        if now is None:
            return 0, 0
        changed = (now - first).abs().flatten(1).amax(1) > EQUAL * size
        asked += int(changed.any())
        elsewhere += int(changed.any() and not changed[place])
    return asked, elsewhere


def _pulled(setup: Setup, model: nn.Module, batch: Batch, penalty: Penalty) -> float | None:
    """Return the share of the weights that a term of the weights alone pulls harder than the loss; see `Term`."""
    inputs, targets = batch
    values: list[Tensor] = []
    for count in (len(targets), len(targets) // 2):
        given, labels = inputs[:count], targets[:count]
        with random_state(setup.spec.seed), _kept(model), told(labels):
            values.append(penalty(model=model, outputs=model(given), inputs=given, targets=labels))
    whole, half = (float(value.detach()) for value in values)
    if not abs(whole - half) <= EQUAL * abs(whole):
        return None
    weights = [item for item in model.parameters() if item.grad is not None]
    heard = more = 0
    for item, found in zip(weights, _gradients(values[0], weights), strict=True):
        if found is None or item.grad is None:
            continue
        pull = item.grad.abs()
        heard += int((pull > 0).sum())
        more += int(((found.abs() > pull) & (pull > 0)).sum())
    return more / heard if heard else None


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """Put the model's buffers back after the block: a term may take batches through it."""
    before = {name: item.clone() for name, item in model.named_buffers()}
    try:
        yield
    finally:
        for name, item in model.named_buffers():
            if name in before:
                item.copy_(before[name])
