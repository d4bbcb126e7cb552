"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tuner.train.probes._frame import (
    NORMALISATION,
    Batch,
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
    """Counts an optimizer's updates and keeps the gradients that each of them saw; also which others made updates."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.named = dict(model.named_parameters())
        self.gradients: list[dict[str, Tensor | None]] = []
        self.others: list[torch.optim.Optimizer] = []  # kept, so that no two have one id
        self.entries: list[tuple[int, int]] = []  # of the optimizer's state, before and after each update
        self.calls = 0
        self.called: list[int] = []  # how many calls of the step had been made at each update
        self.rates: list[tuple[float, float]] = []  # before and after each update
        self.optimizer = optimizer
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _before(self, *_: Any) -> None:
        self.gradients.append({n: None if p.grad is None else p.grad.detach().clone() for n, p in self.named.items()})
        self.entries.append((_entries(self.optimizer), 0))
        self.called.append(self.calls)
        self.rates.append((self.rate, self.rate))

    def _after(self, *_: Any) -> None:
        self.rates[-1] = (self.rates[-1][0], self.rate)
        self.entries[-1] = (self.entries[-1][0], _entries(self.optimizer))

    def any_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Hear of every optimizer's step."""
        if optimizer is not self.optimizer and all(optimizer is not other for other in self.others):
            self.others.append(optimizer)

    @property
    def rate(self) -> float:
        """The largest rate of the optimizer's groups."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    @property
    def rates_set(self) -> list[float]:
        """The rates of the updates, where they change between updates: an optimizer's own step may move its rate."""
        changed = [before != after for (_, after), (before, _) in itertools.pairwise(self.rates)]
        return [before for before, _ in self.rates] if any(changed) else []

    @property
    def state_lost(self) -> bool:
        """Whether state that an update left was gone at the next one."""
        return any(after > 0 and before == 0 for (_, after), (before, _) in itertools.pairwise(self.entries))


def _entries(optimizer: torch.optim.Optimizer) -> int:
    """Count the parameters that the optimizer remembers something of."""
    return sum(any(value is not None for value in entry.values()) for entry in optimizer.state.values())


def updates_of(
    setup: Any, updates: int, *, at_rest: bool, batch: Batch | None = None
) -> tuple[nn.Module, Any, _Watch, list[bool]]:
    """Make a number of updates on one batch; `at_rest`: with rate and decay 0, so that nothing moves."""
    model, loss = fresh_model(setup), setup.loss()
    optimizer = fresh_optimizer(setup, model, decay=not at_rest)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise CannotProbe("LBFGS calls the loss many times within one step")
    if at_rest:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
    watch = _Watch(model, optimizer)
    if batch is None:
        batch = one_batch(setup, min(64, setup.spec.tables["train"]["batch_size"]), "step")
    modes: list[bool] = []
    hooks = [
        model.register_forward_pre_hook(lambda module, _: modes.append(module.training)),
        register_optimizer_step_pre_hook(watch.any_step),
    ]
    try:
        while watch.calls < MOST_CALLS and len(watch.gradients) < updates and len(watch.others) < updates:
            watch.calls += 1
            with random_state(setup.spec.seed):
                train_once(setup, model, batch, loss, optimizer)
    finally:
        for hook in hooks:
            hook.remove()
    return model, optimizer, watch, modes


@before_training
def one_step(setup: Any) -> dict[str, Any]:
    """Make a few updates with the recipe's optimizer and step; say which parameters got gradient and which moved."""
    untouched = setup.model()
    before = {name: p.detach().clone() for name, p in untouched.named_parameters()}
    statistics = {name: b.clone() for name, b in untouched.named_buffers()}
    other = dict(setup.model(seed=setup.spec.seed + 1).named_parameters())
    model, optimizer, watch, modes = updates_of(setup, UPDATES, at_rest=False)
    named = dict(model.named_parameters())
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trainable = {name for name, p in named.items() if p.requires_grad}
    last = watch.gradients[-1] if watch.gradients else {}
    flowing = {name for name in trainable if any(_nonzero(seen[name]) for seen in watch.gradients)}
    rate_of = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    moved = {name for name, p in named.items() if not torch.equal(p.detach(), before[name])}
    still = [
        name
        for name in sorted(flowing - moved)
        if id(named[name]) in known
        and _would_show(before[name], [seen[name] for seen in watch.gradients], rate_of[id(named[name])])
    ]
    return {
        "updates": len(watch.gradients),
        "calls": watch.calls,
        "steps_per_epoch": setup.data.steps_per_epoch(setup.spec.tables["train"]["batch_size"]),
        "other_optimizers": len(watch.others),
        "state_lost": watch.state_lost,
        "rates_set": watch.rates_set,
        "momentum": max(
            (float(m) for group in optimizer.param_groups if isinstance(m := group.get("momentum"), (int, float))),
            default=0.0,
        ),
        "precisions": sorted({str(p.dtype).removeprefix("torch.") for p in named.values()}),
        "parameters": sum(p.numel() for p in named.values()),
        "trainable": sum(named[name].numel() for name in trainable),
        "frozen": sorted(set(named) - trainable),
        # weights that another seed makes different were drawn at random: nobody can have meant these very values
        "frozen_at_random": sorted(
            name
            for name in set(named) - trainable
            if name in other and before[name].ndim >= 2 and not torch.equal(other[name], before[name])
        ),
        "unregistered": _unregistered(setup),
        "unknown_to_optimizer": sorted(name for name in trainable if id(named[name]) not in known),
        "at_rate_0": sorted(name for name in trainable if rate_of.get(id(named[name])) == 0),
        "known_to_optimizer": sum(id(p) in known for p in named.values()),
        "foreign_in_optimizer": len(known - {id(p) for p in named.values()}),
        # a branch that is taken at times only has none at others
        "no_gradient": sorted(name for name in trainable - flowing if last and last[name] is None),
        "zero_gradient": sorted(
            name
            for name in trainable
            if last and named[name].ndim >= 2 and last[name] is not None and not _nonzero(last[name])
        ),
        "had_gradient": sorted(flowing),
        "moved": len(moved),
        "not_moved": still,
        "forward_in_eval_mode": bool(modes) and not all(modes),
        "eval_modules": _in_eval(model),
        "normalisation": _normalisation(model, statistics, flowing),
        "left_in_eval_mode": not model.training,
    }


def _unregistered(setup: Any) -> list[list[int]]:
    """Return the shapes of trainable tensors that the outputs are made with and that are no parameters of the model."""
    model = fresh_model(setup)
    known = {id(p) for p in model.parameters()}
    outputs = model(one_batch(setup, 2, "step")[0])
    if not isinstance(outputs, Tensor) or outputs.grad_fn is None:
        return []
    waiting, done, found = [outputs.grad_fn], set(), {}
    while waiting:
        node = waiting.pop()
        if node in done:
            continue
        done.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            found[id(leaf)] = list(leaf.shape)
        waiting += [below for below, _ in node.next_functions if below is not None]
    return sorted(found.values())


def _normalisation(model: nn.Module, before: dict[str, Tensor], flowing: set[str]) -> dict[str, Any]:
    """Say which batch norms in train mode kept their running statistics though they were used, and the momenta."""
    layers = {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, NORMALISATION) and m.running_mean is not None and m.training
    }
    used = {name for name, m in layers.items() if not m.affine or any(n.startswith(f"{name}.") for n in flowing)}
    after = dict(model.named_buffers())
    same = [name for name in used if torch.equal(after[f"{name}.running_mean"], before[f"{name}.running_mean"])]
    momenta = [float(m.momentum) for m in layers.values() if m.momentum is not None]
    return {"layers": len(layers), "still": sorted(same), "largest_momentum": max(momenta, default=None)}


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
    before = {name: p.detach().clone() for name, p in fresh_model(setup).named_parameters()}
    _, optimizer, watch, _ = updates_of(setup, 3, at_rest=True)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    seen_by = [{n: g for n, g in seen.items() if id(watch.named[n]) in held} for seen in watch.gradients]
    if len(watch.gradients) < 3:
        raise CannotProbe(f"the training step made {len(watch.gradients)} updates in {MOST_CALLS} calls")
    if not any(g is not None for g in seen_by[0].values()):
        raise CannotProbe("the optimizer holds no parameter of the model that has a gradient")
    flat = [torch.cat([g.flatten().double() for g in seen.values() if g is not None]) for seen in seen_by]
    growing = [name for name in seen_by[0] if _adds_up([seen[name] for seen in seen_by])]
    norm = float(flat[0].norm())
    if not norm or len({len(g) for g in flat}) != 1:
        raise CannotProbe("the first update has no gradient to compare with")
    return {
        "growing": growing,
        "rounded": [name for name, p in watch.named.items() if _rounded(before[name], p.detach())],
        "ratios": [float(g.norm()) / norm for g in flat],
        "cosines": [float(torch.dot(g, flat[0]) / (g.norm() * norm).clamp_min(1e-300)) for g in flat],
    }


def _rounded(before: Tensor, after: Tensor) -> bool:
    """Say whether a weight tensor has far fewer different values after steps that should have left it as it is."""
    if before.ndim < 2 or before.numel() < 100 or torch.equal(before, after):
        return False
    return 5 * len(after.unique()) < len(before.unique())


def _adds_up(gradients: list[Tensor | None]) -> bool:
    """Say whether one parameter's gradients are one, two and three times the first."""
    there = [g for g in gradients if g is not None]
    if len(there) != 3 or not bool((there[0] != 0).any()):
        return False
    room = 0.02 * float(there[0].abs().max())
    return all(torch.allclose(g, k * there[0], rtol=0.02, atol=room) for k, g in enumerate(there, 1))


@before_training
def gradient_seen(setup: Any, batches: int = 2) -> dict[str, Any]:
    """Compare the gradient that an update sees with the one that the loss has on that batch, computed apart.

    `ratios`: the norm that is left of it (clipping, scaling); `cosines`: -1 means that the step goes uphill. `calls`:
    of the step for one update, all with the same batch here; without division the gradient is as many times as large.
    """
    size = min(64, setup.spec.tables["train"]["batch_size"])
    own, seen, calls = [], [], []
    for index in range(batches):
        batch = one_batch(setup, size, f"gradient {index}")
        model, loss = fresh_model(setup), setup.loss()
        with random_state(setup.spec.seed):
            loss(model(batch[0]), batch[1]).backward()
        own.append({n: None if p.grad is None else p.grad.detach().clone() for n, p in model.named_parameters()})
        gradient, needed, optimizer = gradient_on(setup, batch)
        seen.append(gradient)
        calls.append(needed)
    pairs = [_flat_pair(a, b) for a, b in zip(own, seen, strict=True)]
    norms = [(float(a.norm()), float(b.norm())) for a, b in pairs]
    if not all(a > 0 for a, _ in norms):
        raise CannotProbe("the loss has no gradient")
    return {
        "ratios": [b / a for a, b in norms],
        "norms": [b for _, b in norms],
        "cosines": [float(torch.dot(a, b)) / max(float(a.norm() * b.norm()), 1e-300) for a, b in pairs],
        "maximises": any(bool(group.get("maximize")) for group in optimizer.param_groups),
        "adaptive": any("betas" in group or "eps" in group for group in optimizer.param_groups),
        "clip_norm": setup.spec.tables["train"].get("clip_norm"),
        "calls": max(calls),
    }


def gradient_on(setup: Any, batch: Batch) -> tuple[dict[str, Tensor | None], int, torch.optim.Optimizer]:
    """Return the gradient that a whole update on a batch sees, how many calls of the step it took, and the optimizer.

    Every call is given the same batch.
    """
    _, optimizer, watch, _ = updates_of(setup, 2, at_rest=True, batch=batch)
    if not watch.gradients:
        raise CannotProbe("the training step makes no update with the recipe's optimizer")
    # a step that counts its calls beyond this model may be in the middle of a round: the second one is whole
    whole = len(watch.called) > 1 and watch.called[1] - watch.called[0] > 1
    return watch.gradients[whole], watch.called[1] - watch.called[0] if whole else watch.called[0], optimizer


def _flat_pair(own: dict[str, Tensor | None], seen: dict[str, Tensor | None]) -> tuple[Tensor, Tensor]:
    """Return two gradients as vectors over the parameters that the first has one for; a missing one is 0."""
    pairs = [(g, torch.zeros_like(g) if (s := seen[name]) is None else s) for name, g in own.items() if g is not None]
    first, second = (torch.cat([g.flatten().double() for g in part]) for part in zip(*pairs, strict=True))
    return first, second
