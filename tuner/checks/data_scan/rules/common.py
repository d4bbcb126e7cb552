"""Rules over the scan of the data (check-init): codes DA1xx."""

from __future__ import annotations

from tuner.checks.cards import Missing
from tuner.checks.data_scan.evidence import DataScan
from tuner.core.metrics import SplitScan


def splits_of(scan: DataScan) -> dict[str, SplitScan]:
    """Return the splits that were scanned, by name."""
    return {name: split for name, split in (("train", scan.train), ("val", scan.val)) if split is not None}


def train_of(scan: DataScan) -> SplitScan:
    """Return the scan of train; without it a rule cannot be applied."""
    if scan.train is None:
        raise Missing("train was not scanned")
    return scan.train


def is_image(split: SplitScan) -> bool:
    """Return whether its examples are images."""
    return len(split.shape) >= 3
