"""The recipe's own evaluate, asked about examples that have just been learnt by heart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.overfit.measure import balanced
from tuner.checks.own_evaluation.evidence import OwnEvaluation
from tuner.checks.tools.cost import demand
from tuner.checks.tools.frame import (
    NORMALISATION,
    Batch,
    as_number,
    before_training,
    fresh_model,
    fresh_optimizer,
    gathered,
    random_state,
    sample,
    train_once,
)
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

EXAMPLES = 32
STEPS = 150
LEARNT = 0.05  # of the loss at the start, where the floor is 0
LOOKS = (3, 6)  # updates after which evaluate is watched


@before_training
def own_evaluation(setup: Setup) -> OwnEvaluation:
    """Train on a few examples until they are learnt, and let the recipe's evaluate judge them."""
    if setup.evaluate_hook is None:
        return OwnEvaluation(learnt=False, first_loss=None, loss=None, hook={}, own=False)
    demand(setup, 2 * STEPS * EXAMPLES, "learning examples by heart")
    if setup.data.one_class_each:
        indices = balanced(setup.data.targets("train"), EXAMPLES, derive_seed(setup.spec.seed, "own_evaluation"))
    else:
        indices = sample(setup, EXAMPLES, "own_evaluation")
    batch = gathered(setup, "train", indices)
    found = _attempt(setup, batch, None)
    return OwnEvaluation(**(found if found["learnt"] else _attempt(setup, batch, 3e-3) | {"with_adam": True}))


def _attempt(setup: Setup, batch: Batch, adam: float | None) -> dict[str, Any]:
    """Train with the recipe's optimizer, or with Adam at a rate that suits most small nets."""
    assert setup.evaluate_hook is not None
    model, loss = fresh_model(setup), setup.loss()
    optimizer: torch.optim.Optimizer = (
        fresh_optimizer(setup, model, decay=False) if adam is None else torch.optim.Adam(model.parameters(), lr=adam)
    )
    first, value, states = math.nan, math.inf, []
    for step in range(STEPS):
        with random_state(derive_seed(setup.spec.seed, "own_evaluation", step)):
            value = train_once(setup, model.train(), batch, loss, optimizer)
        first = value if step == 0 else first
        if step + 1 in LOOKS:
            states.append(_norms_in_evaluation(setup, model, batch, loss))
        if not math.isfinite(value) or (value <= LEARNT * first and step + 1 >= LOOKS[-1]):
            break
    with random_state(0):
        judged = setup.evaluate_hook(model=model, batches=[batch], loss=loss)
    return {
        "learnt": math.isfinite(value) and 0 <= value <= LEARNT * first,
        "first_loss": first,
        "loss": value if math.isfinite(value) else None,
        "steps": step + 1,
        "with_adam": False,
        "hook": {key: as_number(item) for key, item in judged.items()},
        "majority": _majority(batch[1]) if setup.data.one_class_each else 0.0,
        **_compared(*states),
    }


def _majority(labels: Tensor) -> float:
    return float(torch.bincount(labels.clamp_min(0)).max()) / len(labels)


@dataclass(frozen=True)
class _Norm:
    """The running mean of a normalisation layer, and its gain, if there is one."""

    mean: Tensor
    gain: Tensor | None

    @classmethod
    def of(cls, module: Any) -> _Norm:
        return cls(module.running_mean.clone(), None if module.weight is None else module.weight.detach().clone())


Norms = tuple[list[_Norm], list[_Norm]]


def _norms_in_evaluation(setup: Setup, model: nn.Module, batch: Batch, loss: Callable[..., Tensor]) -> Norms:
    """Return the normalisation layers that evaluate runs beside the model's, and the model's own."""
    evaluate = setup.evaluate_hook
    assert evaluate is not None
    own = {id(module) for module in model.modules()}
    seen: dict[int, Any] = {}

    def look(module: Any, given: Any) -> None:
        if isinstance(module, NORMALISATION) and module.running_mean is not None and id(module) not in own:
            seen.setdefault(id(module), module)

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        with random_state(0):
            evaluate(model=model, batches=[batch], loss=loss)
    finally:
        handle.remove()
    model.train()
    mine = [m for m in model.modules() if isinstance(m, NORMALISATION) and m.running_mean is not None]
    return [_Norm.of(m) for m in seen.values()], [_Norm.of(m) for m in mine]


def _compared(before: Norms, after: Norms) -> dict[str, Any]:
    """Count the foreign layers whose statistics stood still while the model's own moved.

    They are those of other weights of the model: as many and as wide as the model's, or with a gain that moves. A net
    of its own that evaluate asks (features for a distance between images, a teacher) is none.
    """
    moved = any(not torch.equal(a.mean, b.mean) for a, b in zip(before[1], after[1], strict=False))
    copies = [len(norm.mean) for norm in after[0]] == [len(norm.mean) for norm in after[1]]
    still = [
        torch.equal(a.mean, b.mean) and (copies or _moved(a.gain, b.gain))
        for a, b in zip(before[0], after[0], strict=False)
    ]
    return {"foreign_norms": len(after[0]), "still": sum(still) if moved else 0}


def _moved(before: Tensor | None, after: Tensor | None) -> bool:
    return before is not None and after is not None and not torch.equal(before, after)
