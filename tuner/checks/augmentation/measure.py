"""What the recipe's augmentation makes of examples: are they still those of their labels, and still inputs?"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from tuner.checks.augmentation.evidence import Augmentation
from tuner.checks.tools.features import Kernel, Scaler, small
from tuner.checks.tools.frame import CannotProbe, before_training, keys_of
from tuner.train.setup import Setup

MOST = 1024
ENOUGH = 60
ON_THE_LINE = 0.01  # of the change: what may be left of it beside the way to another example
COLUMNS = 8  # among fewer any change leads towards some example
MOSTLY = 0.55  # an even mean of two examples may be named after either


@before_training
def augmentation(setup: Setup) -> Augmentation:
    """Compare the first batches of an epoch with and without augmentation: the same examples in the same order."""
    if not setup.data.augmentations:
        return Augmentation(augments=False)
    if setup.data.stochastic:
        raise CannotProbe("two reads of one example differ, so augmented inputs cannot be held against clean ones")
    pairs = _batches(setup)
    clean, targets, changed, labels = _joined(pairs)
    mispaired, moved = _moved(pairs)
    mixed, outweighed = _mixed(pairs)
    if len(clean) < ENOUGH:
        raise CannotProbe(f"only {len(clean)} examples in whole batches")
    spread = float(clean.std().clamp_min(1e-12))
    flat, other = clean.flatten(1), changed.flatten(1)
    was_constant = flat.amin(1) == flat.amax(1)
    return Augmentation(
        augments=True,
        examples=len(clean),
        changed=float((flat != other).any(1).double().mean()),
        moved=moved,
        mispaired=mispaired,
        mixed=mixed,
        outweighed=outweighed,
        relabelled=float((labels != targets).double().mean()),
        finite=bool(changed.isfinite().all()),
        blanked=float(((other.amin(1) == other.amax(1)) & ~was_constant).double().mean()),
        shift=float(changed.mean() - clean.mean()) / spread,
        ratio=float(changed.std()) / spread,
        **_readable(clean, targets, changed, labels, setup.data.num_classes),
    )


def _batches(setup: Setup) -> list[tuple[Tensor, ...]]:
    """Return the first batches of an epoch: clean inputs and labels, augmented ones."""
    size = setup.spec.tables["train"]["batch_size"]
    epochs = [setup.data.epoch(setup.spec.seed, 1, size, augment=augment) for augment in (False, True)]
    both = itertools.islice(zip(*epochs, strict=True), max(1, MOST // size))
    return [tuple(t.detach().cpu() for t in (x, y, augmented, labels)) for (x, y), (augmented, labels) in both]


def _joined(pairs: list[tuple[Tensor, ...]]) -> list[Tensor]:
    clean, targets, changed, labels = (torch.cat(part) for part in zip(*pairs, strict=True))
    return [clean.float(), targets, changed.float().nan_to_num(), labels]


def _moved(pairs: list[tuple[Tensor, ...]]) -> tuple[float | None, int]:
    """Return how many inputs changed places, and the share of them whose label did not follow."""
    wrong = moved = 0
    for clean, targets, changed, labels in pairs:
        own, now = keys_of(clean), keys_of(changed)
        place_of = {key: place for place, key in enumerate(own)}
        for place, key in enumerate(now):
            at = place_of.get(key)
            if at is None or own[place] == key:
                continue
            moved += 1
            wrong += int(labels[place] != targets[at])
    return wrong / moved if moved else None, moved


def _mixed(pairs: list[tuple[Tensor, ...]]) -> tuple[float, float]:
    """Return the shares of inputs that are a mean with another example, and that are so mostly without its label."""
    mixed = outweighed = 0
    for clean, targets, changed, labels in pairs:
        own, now = small(clean), small(changed)
        if own.shape[1] < COLUMNS:
            continue
        moves = now - own
        for place, move in enumerate(moves):
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
    examples = sum(len(targets) for _, targets, _, _ in pairs)
    return mixed / examples, outweighed / examples


def _readable(clean: Tensor, targets: Tensor, changed: Tensor, labels: Tensor, classes: int) -> dict[str, Any]:
    """Say how much a kernel classifier reads of the labels, from clean and from augmented inputs."""
    if int(min(targets.min(), labels.min())) < 0 or int(max(targets.max(), labels.max())) >= classes:
        return {"clean": None}
    half = len(clean) // 2
    scale = Scaler.of(small(clean[:half]))
    as_is, now = scale(small(clean)), scale(small(changed))
    of_clean = Kernel.fit(as_is[:half], targets[:half], classes)
    of_changed = Kernel.fit(now[:half], labels[:half], classes)

    def right(kernel: Kernel, examples: Tensor, truth: Tensor) -> float:
        return float((kernel.scores(examples[half:]).argmax(1) == truth[half:]).double().mean())

    return {
        "clean": right(of_clean, as_is, targets),
        "augmented": right(of_clean, now, labels),
        "relearned": right(of_changed, now, labels),
        "chance": float(torch.bincount(targets[half:]).max()) / (len(clean) - half),
        **_mirrored(of_clean, (clean[half:], changed[half:]), now[half:], targets[half:]),
    }


def _mirrored(kernel: Kernel, pair: tuple[Tensor, Tensor], features: Tensor, truth: Tensor) -> dict[str, Any]:
    """Say how many inputs became a mirror image or a turn of themselves, and what of them is still read."""
    clean, changed = pair
    if clean.ndim != 4:
        return {}
    turned = [x for x in (clean, clean.transpose(2, 3)) if x.shape == clean.shape]
    images = [x.flip(sides) if sides else x for x in turned for sides in ((), (2,), (3,), (2, 3))][1:]
    hits = torch.stack([(x == changed).flatten(1).all(1) for x in images]).any(0)
    hits &= (clean != changed).flatten(1).any(1)
    if not hits.any():
        return {}
    right = kernel.scores(features[hits]).argmax(1) == truth[hits]
    return {"mirrored": int(hits.sum()), "of_mirrored": float(right.double().mean())}
