"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.checks.labels_fit.evidence import LabelsFit
from tuner.checks.tools.examples import ENOUGH, MOST, different
from tuner.checks.tools.features import Kernel, Scaler, small, spectral, without_copies
from tuner.checks.tools.frame import Batch, CannotProbe, of_data_alone
from tuner.core.statistics import mean_std
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

OF_A_CLASS = 10  # examples
CLEAR = 3.0  # standard deviations


@of_data_alone
def labels_fit(setup: Setup) -> LabelsFit:
    """Ask a kernel classifier on small pictures of the inputs how much they say about the labels."""
    (features, spectra), targets = different(setup, "train", MOST, small, spectral)
    classes = setup.data.num_classes
    inside = (targets >= 0) & (targets < classes)
    features, spectra, targets = features[inside], spectra[inside], targets[inside]
    if len(targets) < ENOUGH:
        raise CannotProbe(f"only {len(targets)} different train examples")
    scale = Scaler.of(features)
    alone = without_copies(scale(features))
    targets = targets[alone]
    kernel = Kernel.fit(scale(features)[alone], targets, classes)
    guesses = kernel.left_out.argmax(1)
    found: dict[str, Any] = {
        "n": len(targets),
        "classes": classes,
        "train": float((guesses == targets).double().mean()),
        "chance": float(torch.bincount(targets).max()) / len(targets),
        **_shuffled(kernel, targets, setup.spec.seed),
    }
    if found["train"] <= found["shuffled"] + CLEAR * found["shuffled_std"] and spectra.shape[1]:
        by_spectrum = Kernel.fit(Scaler.of(spectra)(spectra)[alone], targets, classes)
        found["by_spectrum"] = float((by_spectrum.left_out.argmax(1) == targets).double().mean())
    if not setup.data.size("val"):
        return LabelsFit(**(found))
    (val_features,), val_targets = different(setup, "val", MOST, small)
    inside = (val_targets >= 0) & (val_targets < classes)
    answers = kernel.scores(scale(val_features[inside])).argmax(1)
    table = torch.zeros(classes, classes)
    table.index_put_((answers, val_targets[inside]), torch.ones(len(answers)), accumulate=True)
    total = max(len(answers), 1)
    majority = float(torch.bincount(val_targets[inside], minlength=classes).max()) / total
    return LabelsFit(
        **found,
        val_n=len(answers),
        val=float(table.diagonal().sum()) / total,
        val_renamed=float(table.max(1).values.sum()) / total,
        val_chance=majority,
        recalls=_recalls((scale(features)[alone], targets), (scale(val_features[inside]), val_targets[inside])),
    )


def _recalls(train: Batch, val: Batch) -> list[float] | None:
    """Return the mean recall within each split, from as many examples of a class in one as in the other."""
    val = tuple(part[without_copies(val[0])] for part in val)  # type: ignore[assignment]
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in train[1].unique().tolist():
        places = [(targets == label).nonzero().flatten() for _, targets in (train, val)]
        count = min(map(len, places))
        if count >= OF_A_CLASS:
            for part, rows in zip(kept, places, strict=True):
                part.append(rows[:count])
    if len(kept[0]) < 2:
        return None
    recalls = []
    for (features, targets), rows in zip((train, val), kept, strict=True):
        names, truth = targets[torch.cat(rows)].unique(return_inverse=True)
        guesses = Kernel.fit(features[torch.cat(rows)], truth, len(names)).left_out.argmax(1)
        hits = [float((guesses[truth == label] == label).double().mean()) for label in range(len(names))]
        recalls.append(sum(hits) / len(hits))
    return recalls


def _shuffled(kernel: Kernel, targets: Tensor, seed: int) -> dict[str, float | None]:
    """Return what the left-out scores get right of labels in a random order: mean and standard deviation."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "probe", "shuffled labels"))
    guesses = kernel.left_out.argmax(1)
    rights = [
        float((guesses == targets[torch.randperm(len(targets), generator=generator)]).double().mean())
        for _ in range(50)
    ]
    mean, std = mean_std(rights)
    return {"shuffled": mean, "shuffled_std": std}
