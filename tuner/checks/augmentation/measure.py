"""What the recipe's augmentation makes of examples: are they still those of their labels, and still inputs?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.checks.augmentation.evidence import Augmentation
from tuner.checks.tools.augmented import ENOUGH, Pair, pairs
from tuner.checks.tools.features import Kernel, Scaler, small
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, before_training, keys_of
from tuner.train.setup import Setup

ON_THE_LINE = 0.01  # of the change: what may be left of it beside the way to another example
COLUMNS = 8  # among fewer any change leads towards some example
MOSTLY = 0.55  # an even mean of two examples may be named after either


@before_training
def augmentation(setup: Setup) -> Augmentation:
    """Compare the first batches of an epoch with and without augmentation: the same examples in the same order."""
    if not setup.data.augmentations:
        return Augmentation(augments=False)
    parts, before, after = [], _Values(), _Values()
    moved = mispaired = mixed = outweighed = 0
    for pair in pairs(setup):
        _check_comparable(pair)
        parts.append(_Examples.of(pair))
        before.add(pair[0])
        after.add(pair[2])
        places, wrong = _moved(pair)
        ways, other = _mixed(pair)
        moved, mispaired, mixed, outweighed = moved + places, mispaired + wrong, mixed + ways, outweighed + other
    found = _Examples(*(torch.cat(part) for part in zip(*(vars(part).values() for part in parts), strict=True)))
    examples = len(found.targets)
    if examples < ENOUGH:
        raise CannotProbe(f"only {examples} examples in whole batches")
    spread = max(before.std, 1e-12)
    return Augmentation(
        augments=True,
        examples=examples,
        changed=_share(found.differ),
        moved=moved,
        mispaired=mispaired / moved if moved else None,
        mixed=mixed / examples,
        outweighed=outweighed / examples,
        relabelled=_share(found.labels != found.targets),
        finite=after.finite or not before.finite,
        blanked=_share(found.blanked),
        shift=(after.mean - before.mean) / spread,
        ratio=after.std / spread,
        **_readable(found, setup.data.num_classes),
    )


def _check_comparable(pair: Pair) -> None:
    """Refuse what other measurements look at: labels that are shares (`mixed_shares`), other sizes (`input_sizes`)."""
    clean, targets, changed, labels = pair
    if labels.shape != targets.shape:
        raise DoesNotApply("augmentation makes shares of classes of the labels")
    if small(clean[:1]).shape != small(changed[:1]).shape:
        raise DoesNotApply(f"augmentation makes {tuple(changed.shape[1:])} of {tuple(clean.shape[1:])}")


@dataclass(frozen=True)
class _Examples:
    """What is kept of examples, clean and augmented: features, labels, and what became of each."""

    clean: Tensor
    targets: Tensor
    changed: Tensor
    labels: Tensor
    differ: Tensor
    blanked: Tensor
    mirrored: Tensor

    @classmethod
    def of(cls, pair: Pair) -> _Examples:
        clean, targets, changed, labels = pair
        clean, changed = clean.float(), changed.float().nan_to_num()
        flat, other = clean.flatten(1), changed.flatten(1)
        same_size = clean.shape == changed.shape
        differ = (flat != other).any(1) if same_size else torch.ones(len(clean), dtype=torch.bool)
        blanked = (other.amin(1) == other.amax(1)) & (flat.amin(1) != flat.amax(1))
        mirrored = differ & _is_turned(clean, changed) if same_size else ~differ
        return cls(small(clean), targets, small(changed), labels, differ, blanked, mirrored)


class _Values:
    """The mean and the spread of all values, a batch at a time."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares, self.finite = 0, 0.0, 0.0, True

    def add(self, inputs: Tensor) -> None:
        self.finite &= bool(inputs.isfinite().all())
        values = inputs.double().nan_to_num(0.0, 0.0, 0.0)
        self.count += values.numel()
        self.sum += float(values.sum())
        self.squares += float(values.square().sum())

    @property
    def mean(self) -> float:
        return self.sum / self.count

    @property
    def std(self) -> float:
        return math.sqrt(max(self.squares - self.sum * self.mean, 0.0) / max(self.count - 1, 1))


def _share(which: Tensor) -> float:
    return float(which.double().mean())


def _is_turned(clean: Tensor, changed: Tensor) -> Tensor:
    """Return which images became a mirror image or a turn of themselves."""
    if clean.ndim != 4:
        return torch.zeros(len(clean), dtype=torch.bool)
    turned = [x for x in (clean, clean.transpose(2, 3)) if x.shape == clean.shape]
    images = (x.flip(sides) if sides else x for x in turned for sides in ((), (2,), (3,), (2, 3)))
    return torch.stack([(image == changed).flatten(1).all(1) for image in images]).any(0)


def _moved(pair: Pair) -> tuple[int, int]:
    """Return how many inputs changed places, and for how many of them the label did not follow."""
    clean, targets, changed, labels = pair
    own, now = keys_of(clean), keys_of(changed)
    place_of = {key: place for place, key in enumerate(own)}
    moved = [(place, place_of[key]) for place, key in enumerate(now) if key in place_of and own[place] != key]
    return len(moved), sum(int(labels[place] != targets[at]) for place, at in moved)


def _mixed(pair: Pair) -> tuple[int, int]:
    """Return how many inputs are a mean with another example, and how many are so mostly without its label."""
    clean, targets, changed, labels = pair
    own, now = small(clean), small(changed)
    mixed = outweighed = 0
    if own.shape[1] < COLUMNS:
        return 0, 0
    for place, move in enumerate(now - own):
        size = float(move.norm())
        if size <= 1e-6 * float(own[place].norm()):
            continue
        ways = own - own[place]
        shares = (ways @ move) / ways.square().sum(1).clamp_min(1e-12)
        left = (move - shares[:, None] * ways).norm(dim=1) / size
        partner = int(left.argmin())
        if float(left[partner]) > ON_THE_LINE or not 0 < float(shares[partner]) < 1:
            continue
        mixed += 1
        outweighed += int(float(shares[partner]) > MOSTLY and labels[place] != targets[partner])
    return mixed, outweighed


def _readable(found: _Examples, classes: int) -> dict[str, Any]:
    """Say how much a kernel classifier reads of the labels, from clean and from augmented inputs."""
    targets, labels = found.targets, found.labels
    if int(min(targets.min(), labels.min())) < 0 or int(max(targets.max(), labels.max())) >= classes:
        return {"clean": None}
    half = len(targets) // 2
    scale = Scaler.of(found.clean[:half])
    as_is, now = scale(found.clean), scale(found.changed)
    of_clean = Kernel.fit(as_is[:half], targets[:half], classes)
    of_changed = Kernel.fit(now[:half], labels[:half], classes)

    def right(kernel: Kernel, examples: Tensor, truth: Tensor) -> float:
        return _share(kernel.scores(examples[half:]).argmax(1) == truth[half:])

    turned = found.mirrored[half:]
    known = of_clean.scores(now[half:][turned]).argmax(1) == targets[half:][turned] if turned.any() else None
    return {
        "clean": right(of_clean, as_is, targets),
        "augmented": right(of_clean, now, labels),
        "relearned": right(of_changed, now, labels),
        "chance": float(torch.bincount(targets[half:]).max()) / (len(targets) - half),
        **({} if known is None else {"mirrored": len(known), "of_mirrored": _share(known)}),
    }
