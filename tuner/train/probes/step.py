"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tuner.train.probes._frame import (
    NORMALISATION,
    CannotProbe,
    before_training,
    fresh_model,
    fresh_optimizer,
    one_batch,
    random_state,
    train_once,
)

# an accumulating step may skip updates; one that made none in this many calls makes none
MOST_CALLS = 64
# a zero-initialised head over zero-initialised branches lets gradient through at the third update
UPDATES = 4


class _Watch:
    """Counts an optimizer's updates and keeps the gradients that each of them saw."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.named = dict(model.named_parameters())
        self.gradients: list[dict[str, Tensor | None]] = []
        optimizer.register_step_pre_hook(self._before)

    def _before(self, *_: Any) -> None:
        self.gradients.append({n: None if p.grad is None else p.grad.detach().clone() for n, p in self.named.items()})


def _update(setup: Any, updates: int, *, at_rest: bool) -> tuple[nn.Module, Any, _Watch, list[bool]]:
    """Make a number of updates on one batch; `at_rest`: with rate and decay 0, so that nothing moves."""
    model, loss = fresh_model(setup), setup.loss()
    optimizer = fresh_optimizer(setup, model, decay=not at_rest)
    if at_rest:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
    watch = _Watch(model, optimizer)
    batch = one_batch(setup, min(64, setup.spec.tables["train"]["batch_size"]), "step")
    modes: list[bool] = []
    hook = model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for _ in range(MOST_CALLS):
        with random_state(setup.spec.seed):
            train_once(setup, model, batch, loss, optimizer)
        if len(watch.gradients) >= updates or (_ == MOST_CALLS - 1):
            break
    hook.remove()
    return model, optimizer, watch, modes


@before_training
def one_step(setup: Any) -> dict[str, Any]:
    """Make a few updates with the recipe's optimizer and step; say which parameters got gradient and which moved."""
    if setup.spec.tables["optimizer"]["name"].lower() == "lbfgs":
        raise CannotProbe("LBFGS calls the loss many times within one step")
    before = {name: p.detach().clone() for name, p in setup.model().named_parameters()}
    model, optimizer, watch, modes = _update(setup, UPDATES, at_rest=False)
    named = dict(model.named_parameters())
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trainable = {name for name, p in named.items() if p.requires_grad}
    last = watch.gradients[-1] if watch.gradients else {}
    flowing = {name for name in trainable if any(_nonzero(seen[name]) for seen in watch.gradients)}
    rate = min(float(group["lr"]) for group in optimizer.param_groups)
    moved = {name for name, p in named.items() if not torch.equal(p.detach(), before[name])}
    still = [
        name
        for name in sorted(flowing - moved)
        if id(named[name]) in known and _would_show(before[name], [seen[name] for seen in watch.gradients], rate)
    ]
    return {
        "updates": len(watch.gradients),
        "parameters": sum(p.numel() for p in named.values()),
        "trainable": sum(named[name].numel() for name in trainable),
        "frozen": sorted(set(named) - trainable),
        "unknown_to_optimizer": sorted(name for name in trainable if id(named[name]) not in known),
        "known_to_optimizer": sum(id(p) in known for p in named.values()),
        "foreign_in_optimizer": len(known - {id(p) for p in named.values()}),
        "no_gradient": sorted(name for name in trainable if last and last[name] is None),
        "zero_gradient": sorted(
            name
            for name in trainable
            if last and named[name].ndim >= 2 and last[name] is not None and not _nonzero(last[name])
        ),
        "moved": len(moved),
        "not_moved": still,
        "forward_in_eval_mode": bool(modes) and not all(modes),
        "eval_modules": _in_eval(model),
        "left_in_eval_mode": not model.training,
    }


def _nonzero(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())


def _would_show(weights: Tensor, gradients: list[Tensor | None], rate: float) -> bool:
    """Say whether a plain step is large enough to change the float that holds the weight."""
    largest = max(float(g.abs().max()) for g in gradients if g is not None)
    return largest * rate > 1e-5 * max(1e-3, float(weights.abs().max()))


def _in_eval(model: nn.Module) -> list[str]:
    """Name the modules that behave differently in eval mode and are in it."""
    kinds: Callable[[nn.Module], bool] = lambda m: isinstance(m, (NORMALISATION, nn.modules.dropout._DropoutNd))  # noqa: E731
    return [name for name, module in model.named_modules() if kinds(module) and not module.training]


@before_training
def fresh_gradients(setup: Any) -> dict[str, Any]:
    """Repeat one step with the rate at 0: each update must see the same gradient, none left over from the last.

    `ratios`: the norm of each update's gradient over the first one's; 1, 2, 3 means that they add up.
    """
    if setup.spec.tables["optimizer"]["name"].lower() == "lbfgs":
        raise CannotProbe("LBFGS calls the loss many times within one step")
    _, _, watch, _ = _update(setup, 3, at_rest=True)
    if len(watch.gradients) < 3:
        raise CannotProbe(f"the training step made {len(watch.gradients)} updates in {MOST_CALLS} calls")
    flat = [torch.cat([g.flatten().double() for g in seen.values() if g is not None]) for seen in watch.gradients]
    norm = float(flat[0].norm())
    if not norm or len({len(g) for g in flat}) != 1:
        raise CannotProbe("the first update has no gradient to compare with")
    return {
        "ratios": [float(g.norm()) / norm for g in flat],
        "cosines": [float(torch.dot(g, flat[0]) / (g.norm() * norm).clamp_min(1e-300)) for g in flat],
    }


@before_training
def weight_decay(setup: Any) -> dict[str, Any]:
    """Make a step with zero gradients: it must shrink exactly the decayed parameters, and none with decay off.

    The step is made at rate 1e-3 and with at least 0.1 of decay where the recipe has any, so that it shows in
    single precision. Parameters that are zero cannot shrink and are left out.
    """
    asked = setup.spec.tables["optimizer"].get("weight_decay")
    optimizer = fresh_optimizer(setup, fresh_model(setup))
    if not all("weight_decay" in group for group in optimizer.param_groups):
        raise CannotProbe(f"{type(optimizer).__name__} has no weight_decay to ask for")
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise CannotProbe("SparseAdam takes sparse gradients only")
    decays = sorted({float(group["weight_decay"]) for group in optimizer.param_groups})
    on, off = _decay_step(setup, on=True), _decay_step(setup, on=False)
    return {
        "asked": asked,
        "in_groups": decays,
        "decayed": [name for name, (decay, _, _) in on.items() if decay > 0],
        "exempt": [name for name, (decay, _, _) in on.items() if decay == 0],
        "not_shrunk": [name for name, (decay, way, _) in on.items() if decay > 0 and way != "shrunk"],
        "moved_though_exempt": [name for name, (decay, way, _) in on.items() if decay == 0 and way != "same"],
        "moved_with_decay_off": [name for name, (_, way, _) in off.items() if way != "same"],
        "factors": sorted({round(factor, 6) for decay, _, factor in on.values() if decay > 0}),
    }


def _decay_step(setup: Any, *, on: bool) -> dict[str, tuple[float, str, float]]:
    """Return, per non-zero parameter that the optimizer has: its group's decay, what it did, and by what factor."""
    model = fresh_model(setup)
    optimizer = fresh_optimizer(setup, model)
    decay_of: dict[int, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = torch.full_like(group["lr"], 1e-3) if isinstance(group["lr"], Tensor) else 1e-3
        group["weight_decay"] = max(float(group["weight_decay"]), 0.1) if on and group["weight_decay"] > 0 else 0.0
        decay_of |= {id(p): group["weight_decay"] for p in group["params"] if p.requires_grad}
    named = {name: p for name, p in model.named_parameters() if id(p) in decay_of and bool((p != 0).any())}
    before = {name: p.detach().clone() for name, p in named.items()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    return {name: (decay_of[id(p)], *_what_happened(before[name], p.detach())) for name, p in named.items()}


def _what_happened(before: Tensor, after: Tensor) -> tuple[str, float]:
    factor = float(after.abs().sum().double() / before.abs().sum().double())
    if torch.equal(before, after):
        return "same", factor
    inward = bool(((after - before) * before <= 0).all())
    return ("shrunk" if inward and factor < 1 else "moved"), factor
