"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.one_step.evidence import OneStep
from tuner.checks.tools.frame import NORMALISATION, Batch, before_training, fresh_model, one_batch, shaken_model, takes
from tuner.checks.tools.updates import Gradient, step_size, updates_of
from tuner.train.nested import scored_part
from tuner.train.setup import Setup

# a zero-initialised head over zero-initialised branches lets gradient through at the third update
UPDATES = 4
LATER = 12  # of these, the ones from UPDATES on: a branch that is taken every second time is missed once in 500


@before_training
@takes(4)
def one_step(setup: Setup) -> OneStep:
    """Make a few updates with the recipe's optimizer and step; say which parameters got gradient and which moved."""
    untouched = setup.model()
    # copied: a user may hand out modules that several models share
    before = {name: p.detach().clone() for name, p in untouched.named_parameters()}
    statistics = {name: b.clone() for name, b in untouched.named_buffers()}
    del untouched
    asked = fresh_model(setup)
    meant = (sorted(n for n, p in asked.named_parameters() if not p.requires_grad), set(_in_eval(asked)))
    del asked
    model, optimizer, watch, modes = updates_of(setup, UPDATES, at_rest=False, keep=_largest)
    named = dict(model.named_parameters())
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trainable = {name for name, p in named.items() if p.requires_grad}
    last = watch.gradients[-1] if watch.gradients else {}
    flowing = {name for name in trainable if any(seen[name] for seen in watch.gradients)}
    silent = {name for name in trainable if last and (last[name] is None or (named[name].ndim >= 2 and not last[name]))}
    silent -= _heard_at_times(setup, silent)
    rate_of = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    moved = {name for name, p in named.items() if not torch.equal(p.detach(), before[name])}
    still = [
        name
        for name in sorted(flowing - moved)
        if id(named[name]) in known
        and _would_show(before[name], [seen[name] for seen in watch.gradients], rate_of[id(named[name])])
    ]
    return OneStep.from_json(
        {
            "updates": len(watch.gradients),
            "calls": watch.calls,
            "batch_size": setup.spec.tables["train"]["batch_size"],
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
            "frozen_by_the_recipe": meant[0] if setup.tables.get("finetune") else [],
            # weights that another seed makes different were drawn at random: nobody can have meant these very values
            "frozen_at_random": _at_random(setup, set(named) - trainable - moved, before),
            "unregistered": _unregistered(setup),
            "unknown_to_optimizer": sorted(name for name in trainable if id(named[name]) not in known),
            "at_rate_0": sorted(name for name in trainable if rate_of.get(id(named[name])) == 0),
            "known_to_optimizer": sum(id(p) in known for p in named.values()),
            "foreign_in_optimizer": len(known - {id(p) for p in named.values()}),
            # a branch that is taken at times only has none at others
            "no_gradient": sorted(name for name in silent - flowing if last[name] is None),
            "zero_gradient": sorted(name for name in silent if last[name] is not None),
            "had_gradient": sorted(flowing),
            "moved": len(moved),
            "not_moved": still,
            "forward_in_eval_mode": bool(modes) and not all(modes),
            "eval_modules": [name for name in _in_eval(model) if name not in meant[1]],
            "normalisation": _normalisation(model, statistics, flowing),
            "left_in_eval_mode": not model.training,
        }
    )


def _heard_at_times(setup: Setup, names: set[str]) -> set[str]:
    """Return those parameters that have a gradient once each update has a batch and a random state of its own.

    Such are layers that are skipped at random, and experts that few examples are sent to.
    """
    if not names:
        return set()
    some: Callable[[int], Batch] = lambda call: one_batch(setup, step_size(setup), f"step {call}")  # noqa: E731
    seen = updates_of(setup, LATER, at_rest=False, batch=some, keep=_largest)[2].gradients[UPDATES - 1 :]
    return {name for name in names if any(gradients[name] for gradients in seen)}


def _unregistered(setup: Setup) -> list[list[int]]:
    """Return the shapes of trainable tensors that the outputs are made with and that are no parameters of the model.

    They are there in each forward, and have a gradient: an input that is asked for one is another tensor each time, and
    what is handed to torch.utils.checkpoint so that it keeps a graph has none.
    """
    model = shaken_model(setup)
    known = {id(p) for p in model.parameters()}
    outputs = [scored_part(model(one_batch(setup, 2, "step")[0])) for _ in range(2)]
    first, second = ({id(leaf): leaf for leaf in _leaves(item)} for item in outputs)
    leaves = [leaf for key, leaf in second.items() if key in first and key not in known]
    if not leaves:
        return []
    kept = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    outputs[1].abs().sum().backward()
    found = sorted(list(leaf.shape) for leaf in leaves if leaf.grad is not None)
    for leaf, gradient in zip(leaves, kept, strict=True):
        leaf.grad = gradient
    return found


def _leaves(outputs: Any) -> list[Tensor]:
    """Return the tensors at the ends of the graph that outputs are made by."""
    if not isinstance(outputs, Tensor) or outputs.grad_fn is None:
        return []
    waiting, done, found = [outputs.grad_fn], set(), []
    while waiting:
        node = waiting.pop()
        if node in done:
            continue
        done.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.append(leaf)
        waiting += [below for below, _ in node.next_functions if below is not None]
    return found


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


def _largest(gradients: Gradient) -> dict[str, float | None]:
    """Return the largest size of a gradient's values, per parameter; None where it has none."""
    return {name: None if g is None else _size(g) for name, g in gradients.items()}


def _size(gradient: Tensor) -> float:
    size = float(gradient.abs().max()) if gradient.numel() else 0.0
    return size if math.isfinite(size) else math.inf


def _at_random(setup: Setup, frozen: set[str], before: dict[str, Tensor]) -> list[str]:
    """Return the frozen weights that another seed makes different, but for copies of others: those of a teacher."""
    if not frozen:
        return []
    other = dict(setup.model(seed=setup.spec.seed + 1).named_parameters())
    drawn = [
        name
        for name in frozen
        if name in other and before[name].ndim >= 2 and not torch.equal(other[name], before[name])
    ]
    others = [item for name, item in before.items() if name not in frozen]
    return sorted(name for name in drawn if not any(torch.equal(before[name], item) for item in others))


def _would_show(weights: Tensor, gradients: list[float | None], rate: float) -> bool:
    """Return whether a plain step is large enough to change the float that holds the weight."""
    largest = max(size for size in gradients if size is not None)
    return largest * rate > 1e-5 * max(1e-3, float(weights.abs().max()))


def _in_eval(model: nn.Module) -> list[str]:
    """Name the modules that behave differently in eval mode and are in it."""
    kinds: Callable[[nn.Module], bool] = lambda m: isinstance(m, (NORMALISATION, nn.modules.dropout._DropoutNd))  # noqa: E731
    return [name for name, module in model.named_modules() if kinds(module) and not module.training]
