"""What a model's outputs are (logits, probabilities, ...) and how low a loss can go over outputs of such a kind."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.core.errors import UsageError, UserCodeError
from tuner.train.expected import towards
from tuner.train.nested import scored_part

Loss = Callable[[Tensor, Tensor], Tensor]


def class_axis(outputs: Tensor) -> int:
    """Return the axis that the classes are on: the second, also where every position has scores (N, C, ...)."""
    return 1 if outputs.ndim > 2 else -1


LAST = " of the last dimension"  # (N, T, C), as token models give them
HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z,
    "log-probabilities": lambda z: F.log_softmax(z, dim=class_axis(z)),
    "probabilities": lambda z: F.softmax(z, dim=class_axis(z)),
    f"log-probabilities{LAST}": lambda z: F.log_softmax(z, dim=-1),
    f"probabilities{LAST}": lambda z: F.softmax(z, dim=-1),
    "unit": torch.sigmoid,
    "signed": torch.tanh,
}
SQUASHED = ("probabilities", "unit", "signed")
TRIED = 24  # parameters, the last ones: what squashes comes after all of them
MARGINS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0)
FAR = (1e4, 1e6)
UNBOUNDED = -1e3


# what a loss raises at outputs that it does not take: one of ours refuses them, a user's own is wrapped
REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError, UsageError, UserCodeError)


def looks_like(outputs: Tensor) -> str:
    """Name the kind of outputs by their values alone: a key of HEADS."""
    if not torch.isfinite(outputs).all():
        return "logits"
    low, high = float(outputs.min()), float(outputs.max())
    for axis, where in ((1, ""), (-1, LAST)) if outputs.ndim == 3 else ((1, ""),):
        if outputs.ndim < 2 or outputs.shape[axis] < 2:
            continue
        if high <= 1e-6 and outputs.logsumexp(axis).abs().max() < 1e-4:
            return f"log-probabilities{where}"
        if low >= 0 and (outputs.sum(axis) - 1).abs().max() < 1e-4:
            return f"probabilities{where}"
    if low >= 0 and high <= 1:
        return "unit"
    return "signed" if low >= -1 and high <= 1 else "logits"


def kind_of(model: nn.Module, inputs: Tensor) -> str:
    """Name the kind of a model's outputs: a key of HEADS; `logits` unless a bound is proved.

    The proof is an intervention: large random numbers are added to one parameter after another, the last ones first.
    Outputs that stay inside their range whatever the parameter are squashed; small logits leave it at once.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            kind = looks_like(scored_part(model(inputs)).float())
            if kind == "logits" or kind.startswith("log-probabilities"):
                return kind
            generator = torch.Generator().manual_seed(0)
            held = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
            for parameter in held[: -TRIED - 1 : -1]:
                kept = parameter.detach().clone()
                noise = torch.randn(parameter.shape, generator=generator) * 100
                parameter.add_(noise.to(parameter.device, parameter.dtype))
                outputs = scored_part(model(inputs)).float()
                parameter.copy_(kept)
                if torch.isfinite(outputs).all() and not _inside(outputs, kind):
                    return "logits"
            return kind
    finally:
        model.train(training)


def _inside(outputs: Tensor, kind: str) -> bool:
    found = looks_like(outputs)
    return found == kind or (kind == "signed" and found in ("unit", "probabilities"))


def towards_targets(targets: Tensor, shape: torch.Size) -> Tensor:
    """Return outputs of the shape that favour each target by 1: one-hot, or +-1 for a single output.

    Where the shape has no place for the targets (features), each target has a direction of its own, drawn at random:
    at zeros, a loss of angles has no gradient.
    """
    found = towards(targets, shape)
    if found is not None:
        return found
    generator = torch.Generator().manual_seed(0)
    if targets.ndim == 1 and not targets.is_floating_point() and len(shape) == 2:
        directions = torch.randn((int(targets.max()) + 1, shape[1]), generator=generator)
        return directions.to(targets.device)[targets]
    return torch.zeros(shape, device=targets.device)


def uniform(kind: str, shape: torch.Size, device: torch.device) -> Tensor:
    """Return the outputs of the kind that say nothing about the input: equal for every class."""
    return HEADS[kind](torch.zeros(shape, device=device))


def at_prior(kind: str, shape: torch.Size, shares: Tensor) -> Tensor | None:
    """Return outputs that say the class prior for every example; None for kinds and shapes that cannot say it."""
    if len(shape) != 2 or shape[1] != len(shares) or kind == "signed":
        return None
    shares = shares.float().clamp_min(1e-12)
    rows = shares if kind in ("probabilities", "unit") else shares.log()
    return rows.expand(shape).contiguous()


def value(loss: Loss, outputs: Tensor, targets: Tensor) -> float | None:
    """Return the loss at given outputs, or None where it does not take them (a range check, a missing class)."""
    try:
        with torch.no_grad():
            return float(loss(outputs, targets))
    except REFUSALS:
        return None


def floor(loss: Loss, targets: Tensor, shape: torch.Size, kind: str) -> float | None:
    """Return the least loss over all outputs of a kind: minus infinity where it falls without end, None if unknown.

    Found by LBFGS on free numbers behind the kind's squashing, started from the best of a few clear margins.
    """
    head = HEADS[kind]
    direction = towards_targets(targets, shape)
    scale = max(1.0, abs(value(loss, head(torch.zeros_like(direction)), targets) or 1.0))
    tried = {a: value(loss, head(a * direction), targets) for m in MARGINS for a in (m, -m)}
    known = {a: v for a, v in tried.items() if v is not None and not math.isnan(v)}
    if not known:
        return None
    far = [value(loss, head(s * m * direction), targets) for m in FAR for s in (1, -1)]
    if any(v is not None and v < UNBOUNDED * scale for v in far):
        return -math.inf
    start = min(known, key=lambda a: (known[a], abs(a)))
    best = minimise(loss, targets, head, start * direction, known[start])
    return -math.inf if best < UNBOUNDED * scale else best


def minimise(loss: Loss, targets: Tensor, head: Callable[[Tensor], Tensor], start: Tensor, best: float) -> float:
    """Return the least loss that LBFGS finds over free numbers behind `head`, from `start`, where it is `best`."""
    free = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [free], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-12
    )
    values = [best]

    def closure() -> Tensor:
        optimizer.zero_grad()
        result = loss(head(free), targets)
        result.backward()
        values.append(float(result.detach()))
        return result

    with contextlib.suppress(*REFUSALS):
        optimizer.step(closure)
    return min(v for v in values if not math.isnan(v))


def constant_floor(loss: Loss, targets: Tensor, shape: torch.Size, kind: str) -> float | None:
    """Return the least loss over outputs that are the same for every example: what ignoring the input gives."""
    head = HEADS[kind]
    start = torch.zeros(shape[1:], device=targets.device)
    first = value(loss, head(start.expand(shape)), targets)
    if first is None or math.isnan(first):
        return None
    return minimise(loss, targets, lambda row: head(row.expand(shape)), start, first)


def ignores_pairing(loss: Loss, targets: Tensor, shape: torch.Size, kind: str) -> bool | None:
    """Return whether the loss stays the same when the targets change places: it then holds every output against all of
    them, as a broadcast of (N, 1) with (N) does. None where it cannot be said.
    """
    if targets.ndim != 1:
        return None
    order = targets.argsort()
    turned = order.flip(0)
    if bool((targets[order] == targets[turned]).all()):
        return None
    ramp = torch.linspace(-2, 2, math.prod(shape), device=targets.device).reshape(shape)
    outputs = HEADS[kind](ramp * (1 + torch.arange(math.prod(shape[1:]), device=targets.device).reshape(shape[1:]) % 3))
    one, other = (value(loss, outputs, targets[places]) for places in (order, turned))
    if one is None or other is None or not math.isfinite(one - other) or one == 0:
        return None
    return abs(one - other) <= 1e-5 * abs(one)


def ignores_targets(loss: Loss, targets: Tensor, shape: torch.Size, kind: str) -> bool | None:
    """Return whether the loss is the same at other targets: all the smallest, all the largest. None: not known."""
    if targets.ndim != 1:
        return None
    first, last = targets.min(), targets.max()
    if bool(first == last):
        return None
    outputs = HEADS[kind](torch.linspace(-2, 2, math.prod(shape), device=targets.device).reshape(shape))
    given = [value(loss, outputs, wanted) for wanted in (targets, *(one.expand_as(targets) for one in (first, last)))]
    known = [item for item in given if item is not None and math.isfinite(item)]
    if len(known) < len(given) or known[0] == 0:
        return None
    return max(known) - min(known) <= 1e-6 * abs(known[0])


def over_batch(loss: Loss, targets: Tensor, shape: torch.Size) -> bool | None:
    """Return whether the loss normalises raw scores over the examples of the batch in place of the classes.

    A softmax does not see what is added to all scores that it normalises: over classes that is a number per example,
    over the batch a number per class. None where it cannot be said.
    """
    if len(shape) != 2 or shape[1] < 2 or shape[0] < 2 or targets.ndim != 1 or targets.is_floating_point():
        return None
    generator = torch.Generator().manual_seed(0)
    outputs, by_class, by_example = (
        torch.randn(size, generator=generator).to(targets.device) for size in (shape, (1, shape[1]), (shape[0], 1))
    )
    plain, of_class, of_example = (
        value(loss, shifted, targets) for shifted in (outputs, outputs + by_class, outputs + by_example)
    )
    if plain is None or of_class is None or of_example is None or not math.isfinite(plain + of_class + of_example):
        return None
    room = max(1e-3, abs(plain))
    return abs(of_class - plain) <= 1e-5 * room and abs(of_example - plain) > 1e-2 * room


def rewards_wrong(loss: Loss, targets: Tensor, shape: torch.Size, kind: str) -> bool | None:
    """Return whether raising the target's output raises the loss: a sign error. None where it cannot be said."""
    if len(shape) != 2 or shape[1] < 2:
        return None
    step = 0.1 * towards_targets(targets, shape)
    up, down = (value(loss, HEADS[kind](sign * step), targets) for sign in (1, -1))
    if up is None or down is None or not math.isfinite(up - down):
        return None
    return up - down > 1e-6 * max(1.0, abs(up))
