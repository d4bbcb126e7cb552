"""Fine-tuning against training from scratch: Fashion-MNIST's classes 0 to 4, then 5 to 9 with 200 images.

python -m benchmarks.finetuning [--root FOLDER] [--seeds N]: a small conv net is trained on classes 0 to 4. Then it is
trained on 200 images of classes 5 to 9 from scratch and in each of the four ways of `[finetune]`, with the same
number of updates, each at every rate of one grid. The rate is chosen on 500 val images, for each seed anew; what is
told is the accuracy on the 5,000 test images of these classes. A seed draws other images and other first weights.

FOLDER holds the four idx files (.gz), such as those of Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from tuner.core.streams import derive_seed
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.recipe.model import Recipe
from tuner.train.data import load_data
from tuner.train.loop import fit
from tuner.train.setup import Setup, make_setup

WAYS: Mapping[str, Mapping[str, Any] | None] = {
    "from scratch": None,
    "head": {"way": "head"},
    "last-blocks": {"way": "last-blocks", "blocks": 1},
    "discriminative": {"way": "discriminative"},
    "all": {"way": "all"},
}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
EPOCHS, BATCH = 30, 20
EARLIER_IMAGES, EARLIER_EPOCHS = 15_000, 4
TRAIN, VAL = 200, 500
Split = tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetuning", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("TUNER_DATA", ".")) / "fashion-mnist")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (read(options.root, name) for name in ("train", "t10k"))
    begun = time.process_time()
    with tempfile.TemporaryDirectory(prefix="tuner-bench-") as work:
        folder = Path(work)
        write_earlier(train, test, folder)
        print(f"trained before, on {EARLIER_IMAGES:,} images of classes 0 to 4: {train_before(folder):.3f}", flush=True)
        scores = {way: [] for way in WAYS}
        for seed in range(options.seeds):
            write_later(train, test, folder, seed)
            for way, table in WAYS.items():
                tried = [one(folder, table, rate, seed) for rate in RATES]
                val, tested, rate = max(tried, key=lambda item: item[0])
                scores[way].append(tested)
                print(f"seed {seed}  {way:15} lr {rate:g}  val {val:.3f}  test {tested:.3f}", flush=True)
    print("\n".join(table_of(scores)))
    print(f"{time.process_time() - begun:.0f} CPU seconds")


def read(root: Path, name: str) -> Split:
    """Return (images, labels) of an idx pair: (N, 28, 28) bytes and (N,) int64."""
    with gzip.open(root / f"{name}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(root / f"{name}-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)


def some(split: Split, classes: range, count: int, seed: int, skip: int = 0) -> Split:
    """Draw `count` examples, as many of each class, numbered from 0; the first `skip` of the draw are passed over."""
    images, labels = split
    draw, each = np.random.default_rng(seed), len(classes)
    chosen = [draw.permutation(np.flatnonzero(labels == label))[skip // each :][: count // each] for label in classes]
    places = draw.permutation(np.concatenate(chosen))
    return images[places], labels[places] - classes[0]


def write_earlier(train: Split, test: Split, folder: Path) -> None:
    parts = {"train": some(train, range(5), EARLIER_IMAGES, 0), "val": some(test, range(5), 2000, 0)}
    save(folder / "earlier.npz", parts)


def write_later(train: Split, test: Split, folder: Path, seed: int) -> None:
    parts = {
        "train": some(train, range(5, 10), TRAIN, seed),
        "val": some(train, range(5, 10), VAL, seed, skip=TRAIN),
        "test": some(test, range(5, 10), 5000, 0),
    }
    save(folder / f"later-{seed}.npz", parts)


def save(path: Path, parts: Mapping[str, Split]) -> None:
    arrays = {f"{key}_{name}": value for name, pair in parts.items() for key, value in zip("xy", pair, strict=True)}
    np.savez(path, **arrays)


def setup_of(folder: Path, data: str, seed: int, epochs: int, changes: Mapping[str, Any]) -> Setup:
    """Return a trial's setup on one of the files."""
    recipe = Recipe(
        name="finetuning",
        data={"source": "npz", "path": str(folder / data), "normalize": "standardize"},
        model={"name": "convnet", "width": 16, "depth": 3},
        **changes,
    )
    return make_setup(TrialSpec(recipe.tables(), {}, seed, horizon_epochs=epochs), TrialEnv(folder))


def train_before(folder: Path) -> float:
    """Train on the classes 0 to 4, keep the weights, and return the val accuracy."""
    changes = {
        "optimizer": {"name": "adam", "lr": 2e-3},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 64},
    }
    training = fit(setup_of(folder, "earlier.npz", 0, EARLIER_EPOCHS, changes))
    assert training.best is not None
    torch.save(training.best.weights, folder / "earlier.pt")
    return training.best.score


def one(folder: Path, table: Mapping[str, Any] | None, rate: float, seed: int) -> tuple[float, float, float]:
    """Train in one way at one rate; return the best epoch's val accuracy, its test accuracy, and the rate."""
    changes: dict[str, Any] = {
        "optimizer": {"name": "adam", "lr": rate},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": BATCH},
    }
    if table is not None:
        changes["finetune"] = {"weights": str(folder / "earlier.pt"), **table}
    setup = setup_of(folder, f"later-{seed}.npz", derive_seed(seed, "later"), EPOCHS, changes)
    training = fit(setup)
    if training.best is None:
        return 0.0, 0.0, rate
    training.model.load_state_dict(training.best.weights)
    data = load_data(setup.tables, setup.env, with_test=True)
    model, right, seen = training.model.eval(), 0, 0
    with torch.no_grad():
        for inputs, targets in data.batches("test", 500):
            right += int((model(inputs).argmax(1) == targets).sum())
            seen += len(targets)
    return training.best.score, right / seen, rate


def table_of(scores: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a Markdown table: mean and spread of each way, and its difference from scratch, seed by seed."""
    base = scores["from scratch"]
    lines = ["| way | test accuracy, mean (std) | against scratch, 95 % |", "|---|---|---|"]
    for way, found in scores.items():
        cell = "-"
        if way != "from scratch" and len(found) > 1:
            differences = [a - b for a, b in zip(found, base, strict=True)]
            half = stats.t.ppf(0.975, len(found) - 1) * statistics.stdev(differences) / len(found) ** 0.5
            cell = f"{statistics.fmean(differences):+.3f} +- {half:.3f}"
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        lines.append(f"| {way} | {statistics.fmean(found):.3f} ({spread:.3f}) | {cell} |")
    return lines


if __name__ == "__main__":
    main()
