"""Evidence of the measurement labels_fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class LabelsFit(Evidence):
    """A kernel classifier on small pictures of the inputs: how much they say about the labels, in accuracy.

    `train`: every train example judged by the others; `by_spectrum`: the same by the strengths of frequencies, asked
    of images and long sequences where `train` is no more than chance; `chance`: the share of the largest class;
    `shuffled`, `shuffled_std`: on labels in a random order. `val`: judged by train (None without a val split);
    `val_renamed`: with its answers renamed class by class as fits best; `val_chance`: the share of val's largest class.
    `recalls`: the mean recall over the classes that both splits have enough of, every example judged by the others of
    its own split: [train, val], from as many examples of each.
    """

    n: int
    classes: int
    train: float
    chance: float
    shuffled: float | None
    shuffled_std: float | None
    val_n: int = 0
    val: float | None = None
    val_renamed: float = 0.0
    val_chance: float = 0.0
    recalls: Sequence[float] | None = None
    by_spectrum: float | None = None
