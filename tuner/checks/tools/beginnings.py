"""Positions that a causal model cannot distinguish: what it has read up to there is the same.

A language model that reads from left to right gives equal beginnings one answer. Where they go on differently no
weights answer all of them right: the least loss is the entropy of what follows, not that of free outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.frame import forward
from tuner.train.nested import leaves, mapped

CUTS = 4  # places behind which the inputs are exchanged
SAME = 1e-5  # of the outputs' spread
SHARE = 1e-3  # of an answer that never follows


def tied(model: nn.Module, inputs: Any, targets: Tensor) -> Tensor | None:
    """Return (N, T): for each position a number that is the same where the beginnings up to it are.

    None where equal beginnings go on alike, where inputs and targets are not one per position, and where an output
    depends on what comes after it: the model is then free to answer each position as it likes.
    """
    read = leaves(inputs)
    if targets.ndim != 2 or targets.is_floating_point() or not read:
        return None
    if any(part.shape[:2] != targets.shape for part in read):
        return None
    groups = _groups(read, targets.shape)
    places = [int(t) for t in _going_on_differently(groups, targets)[:, :-1].any(0).nonzero()]
    if not places or not _is_causal(model, inputs, targets, places):
        return None
    return groups


def tied_floor(loss: _outputs.Loss, targets: Tensor, shape: torch.Size, kind: str, groups: Tensor) -> float | None:
    """Return the least loss over outputs of a kind that are the same where `groups` is; None if unknown."""
    classes_last = shape[1] == targets.shape[1] and shape[2] != targets.shape[1]
    count = int(groups.max()) + 1
    classes = shape[2] if classes_last else shape[1]
    counted = (targets >= 0) & (targets < classes)
    follows = torch.zeros(count, classes, device=targets.device)
    follows.index_put_((groups[counted], targets[counted]), torch.ones(()).to(follows), accumulate=True)
    start = (follows / follows.sum(1, keepdim=True).clamp_min(1) + SHARE).log()

    def spread(rows: Tensor) -> Tensor:
        each = rows[groups]
        return _outputs.HEADS[kind](each if classes_last else each.movedim(-1, 1))

    best: list[tuple[float, Tensor]] = []
    for sharper in (1.0, 2.0, 4.0):
        found = _outputs.value(loss, spread(sharper * start), targets)
        if found is not None and found == found:
            best.append((found, sharper * start))
    if not best:
        return None
    least, at = min(best, key=lambda pair: pair[0])
    return _outputs.minimise(loss, targets, spread, at, least)


def floors(
    model: nn.Module, loss: _outputs.Loss, inputs: Any, targets: Tensor, shape: torch.Size
) -> tuple[Callable[[str], float | None], float]:
    """Return what gives the floor of a kind of outputs, and the share of positions that are tied to other targets."""
    groups = tied(model, inputs, targets) if len(shape) == 3 else None
    if groups is None:
        return (lambda kind: _outputs.floor(loss, targets, shape, kind)), 0.0
    share = float(_going_on_differently(groups, targets).double().mean())
    return (lambda kind: tied_floor(loss, targets, shape, kind, groups)), share


def _groups(read: list[Tensor], shape: torch.Size) -> Tensor:
    """Number the beginnings of every sequence."""
    numbers: dict[bytes, int] = {}
    rows = []
    for n in range(shape[0]):
        known, row = hashlib.blake2b(digest_size=16), []
        for t in range(shape[1]):
            for part in read:
                known.update(part[n, t].detach().cpu().contiguous().numpy().tobytes())
            row.append(numbers.setdefault(known.digest() + t.to_bytes(4, "big"), len(numbers)))
        rows.append(row)
    return torch.tensor(rows, device=read[0].device)


def _going_on_differently(groups: Tensor, targets: Tensor) -> Tensor:
    """Return (N, T): whether another sequence with the same beginning has another target there."""
    counted = targets >= 0
    flat, wanted = groups[counted], targets[counted].double()
    size = int(groups.max()) + 1
    high = torch.full((size,), -torch.inf, dtype=torch.double, device=targets.device)
    low = -high
    high.scatter_reduce_(0, flat, wanted, "amax")
    low.scatter_reduce_(0, flat, wanted, "amin")
    return (high > low)[groups] & counted


def _is_causal(model: nn.Module, inputs: Any, targets: Tensor, places: list[int]) -> bool:
    """Return whether no output changes where what comes after it is another sequence's."""
    training = model.training
    model.eval()
    before = forward(model, inputs)
    axis = 1 if before.shape[1] == targets.shape[1] else 2
    room = SAME * float(before.std().clamp_min(1e-12))
    chosen = {places[i * (len(places) - 1) // (CUTS - 1)] for i in range(CUTS)}
    moved = False
    try:
        for t in chosen:

            def cut(part: Tensor, t: int = t) -> Tensor:
                return torch.cat([part[:, : t + 1], part.roll(1, 0)[:, t + 1 :]], 1)

            after = forward(model, mapped(cut, inputs))
            if float((after - before).narrow(axis, 0, t + 1).abs().max()) > room:
                return False
            moved |= float((after - before).abs().max()) > room
        return moved  # a model that ignores its input shows nothing
    finally:
        model.train(training)
