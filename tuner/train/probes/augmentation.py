"""What the recipe's augmentation makes of examples: are they still those of their labels, and still inputs?"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from tuner.train.probes._features import Kernel, Scaler, small
from tuner.train.probes._frame import CannotProbe, before_training, keys_of

MOST = 1024
ENOUGH = 60


@before_training
def augmentation(setup: Any) -> dict[str, Any]:
    """Compare the first batches of an epoch with and without augmentation: the same examples in the same order.

    `mispaired`: of the augmented inputs that equal another example of the batch, the share with a label that is not
    that example's. `blanked`: inputs that became a single value. `shift`, `ratio`: of means in units of the clean
    spread, and of spreads. `clean`, `augmented`: the accuracy of a kernel classifier made on one half of the clean
    examples, on the other half as it is and augmented; `relearned`: made on augmented ones as well.
    """
    if not setup.data.augmentations:
        return {"augments": False}
    if setup.data.stochastic:
        raise CannotProbe("two reads of one example differ, so augmented inputs cannot be held against clean ones")
    clean, targets, changed, labels, mispaired, moved = _pairs(setup)
    if len(clean) < ENOUGH:
        raise CannotProbe(f"only {len(clean)} examples in whole batches")
    spread = float(clean.std().clamp_min(1e-12))
    flat, other = clean.flatten(1), changed.flatten(1)
    was_constant = flat.amin(1) == flat.amax(1)
    return {
        "augments": True,
        "examples": len(clean),
        "changed": float((flat != other).any(1).double().mean()),
        "moved": moved,
        "mispaired": mispaired,
        "relabelled": float((labels != targets).double().mean()),
        "finite": bool(changed.isfinite().all()),
        "blanked": float(((other.amin(1) == other.amax(1)) & ~was_constant).double().mean()),
        "shift": float(changed.mean() - clean.mean()) / spread,
        "ratio": float(changed.std()) / spread,
        **_readable(clean, targets, changed, labels, setup.data.num_classes),
    }


def _pairs(setup: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, float | None, int]:
    """Return clean inputs and labels, augmented ones, and how labels follow inputs that changed places."""
    size = setup.spec.tables["train"]["batch_size"]
    epochs = [setup.data.epoch(setup.spec.seed, 1, size, augment=augment) for augment in (False, True)]
    kept: list[tuple[Tensor, ...]] = []
    wrong = moved = 0
    for (x, y), (augmented, labels) in itertools.islice(zip(*epochs, strict=True), max(1, MOST // size)):
        kept.append(tuple(t.detach().cpu() for t in (x, y, augmented, labels)))
        own, now = keys_of(x), keys_of(augmented)
        place_of = {key: place for place, key in enumerate(own)}
        for place, key in enumerate(now):
            at = place_of.get(key)
            if at is None or own[place] == key:
                continue
            moved += 1
            wrong += int(kept[-1][3][place] != kept[-1][1][at])
    joined = [torch.cat(part) for part in zip(*kept, strict=True)]
    clean, targets, changed, labels = (t.float() if t.is_floating_point() else t for t in joined)
    return clean, targets, changed.nan_to_num(), labels, wrong / moved if moved else None, moved


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
    }
