"""At equal compute, summed epochs: tuner's coarse and fine against Optuna's TPE with its hyperband pruner.

Both search the same space, begin with the same configuration and train with the same engine; tuner goes first and what
it has spent is Optuna's budget. Compared are the winners' accuracies on untouched test data, and the epochs until the
best val accuracy that Optuna's study came to.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.drive import reached
from benchmarks.part import Asked, cifar10_root
from benchmarks.task import ask, make_subset

SIDE = "benchmarks.search_side"
SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True},
    "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "optimizer.momentum": {"low": 0.5, "high": 0.99},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
OPTIMIZER = {"name": "sgd", "lr": 1e-2, "weight_decay": 1e-4, "momentum": 0.9}
MODELS = {
    "digits": {"name": "mlp", "width": 128, "depth": 2, "dropout": 0.1},
    "cifar10": {"name": "convnet", "width": 8, "depth": 3, "dropout": 0.1},
}
AIM = 0.5


@dataclass(frozen=True)
class Sizes:
    digits: int = 1  # 0: leave it out
    cifar10: int = 1
    images: int = 5_000
    test_images: int = 3_000
    coarse_trials: int = 16
    coarse_epochs: int = 3
    fine_trials: int = 8
    fine_epochs: int = 9


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    """Run as many seeds at once as there are cores, one worker each."""
    root = cifar10_root(asked, "search") if sizes.cifar10 else None
    kinds = [kind for kind in MODELS if (kind == "digits" and sizes.digits) or (kind == "cifar10" and root)]
    found: dict[str, Any] = {"sizes": asdict(sizes)}
    for kind in kinds:
        work = asked.work / "search" / kind
        work.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = {"source": "digits", "val_fraction": 0.25, "test_fraction": 0.2}
        if root is not None and kind == "cifar10":
            folder = make_subset(root, sizes.images, work, sizes.test_images)
            data = {"source": "image_folder", "root": str(folder), "image_size": 32, "augment": ["hflip"]}
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            pairs = pool.map(
                lambda seed, k=kind, w=work, d=data: pair(asked, sizes, k, str(w), d, seed), range(asked.seeds)
            )
            found[kind] = list(pairs)
    return found


def pair(asked: Asked, sizes: Sizes, kind: str, work: str, data: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Run both sides of a seed; the seed is also that of the split."""
    tables = {"data": {**data, "split_seed": seed}, "model": MODELS[kind], "optimizer": OPTIMIZER}
    tables |= {"schedule": {"name": "cosine"}, "train": {"batch_size": 64}, "search": SPACE}
    recipe = {"name": "benchmark", "seed": seed, **tables}
    coarse = {"trials": sizes.coarse_trials, "epochs": sizes.coarse_epochs}
    fine = {"trials": sizes.fine_trials, "epochs": sizes.fine_epochs}
    given = {"recipe": recipe, "work": work, "coarse": coarse, "fine": fine}
    own = {key: value for key, value in asdict(sizes).items() if key not in MODELS}
    of = {"part": "search", **own, "kind": kind, "seed": seed}
    sides: dict[str, Any] = {}
    for name in ("tuner", "optuna"):
        more = {"side": name, "epochs": sides["tuner"]["epochs"] if sides else 0}
        sides[name] = asked.lines.once({**of, "side": name}, lambda m=more: ask(SIDE, {**given, **m}))
        side = sides[name]
        best = f"best {side['best']:.4f}, test {side['test']:.4f}"
        asked.say(f"search: {kind}, {name}, seed {seed}: {side['epochs']} epochs, {best}")
    return sides


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    sizes = found["sizes"]
    lines = [
        f"## Search at equal compute: coarse {sizes['coarse_trials']} x {sizes['coarse_epochs']} epochs and fine "
        f"{sizes['fine_trials']} x {sizes['fine_epochs']}, against Optuna's TPE + hyperband with as many epochs",
        "",
    ]
    for kind in MODELS:
        if found.get(kind):
            lines += table(kind, found[kind])
    return lines


def table(kind: str, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"### {kind}",
        "",
        "| seed | epochs: tuner | Optuna | trials: tuner | Optuna | best val: tuner | Optuna | test: tuner | Optuna "
        "| epochs to Optuna's best val: tuner | Optuna |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for seed, sides in enumerate(pairs):
        both = [sides["tuner"], sides["optuna"]]
        to = [reached(side["points"], sides["optuna"]["best"], 1) for side in both]
        ratios.append(math.inf if to[0] is None else to[0] / (to[1] or math.inf))
        cells = [str(side[key]) for key in ("epochs", "trials") for side in both]
        cells += [f"{side[key]:.4f}" for key in ("best", "test") for side in both]
        cells += ["never" if epochs is None else str(epochs) for epochs in to]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    tests = {name: [sides[name]["test"] for sides in pairs] for name in ("tuner", "optuna")}
    gaps = [a - b for a, b in zip(tests["tuner"], tests["optuna"], strict=True)]
    half = t_half(gaps)
    noise = "" if half is None else f" +- {half:.4f} (95 %, t over {len(gaps)} seeds)"
    means = {name: spread(values) for name, values in tests.items()}
    return [
        *lines,
        "",
        f"- test accuracy of the winner, mean over seeds: tuner {means['tuner']}, Optuna {means['optuna']}; "
        f"difference {statistics.fmean(gaps):+.4f}{noise} (aim: no worse)",
        f"- epochs to Optuna's best val accuracy: tuner's share of Optuna's, median {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}; inf: never) (aim: at most {AIM:g})",
        "",
    ]


def t_half(values: Sequence[float]) -> float | None:
    """Return half the width of the 95 % t interval of the mean; None for fewer than two values."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def spread(values: Sequence[float]) -> str:
    std = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{std}"
