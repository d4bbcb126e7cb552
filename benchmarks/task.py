"""What every side of a comparison is given: the same data, the same net, the same rates, the same epochs."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BATCH = 64
WIDTHS = (32, 64, 128)
CLASSES = 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's train images
MARK = "RESULT "


@dataclass(frozen=True)
class Task:
    """One comparison. `folder`: the images as {train,val,test}/<class>/*; `work`: where a side keeps what it makes."""

    kind: str  # cifar10 | digits
    folder: str
    work: str
    trials: int
    epochs: int

    @property
    def rates(self) -> list[float]:
        """The learning rates, drawn log-uniform, the same for every side."""
        draws = random.Random(0)
        return [float(f"{math.exp(draws.uniform(math.log(1e-3), math.log(3e-1))):.3g}") for _ in range(self.trials)]


@dataclass(frozen=True)
class Outcome:
    """What a side took. `apart`: seconds that are not in `seconds`; `best`: the best val accuracy of all trials."""

    seconds: float
    examples: int
    best: float
    apart: dict[str, float]
    note: str = ""

    @property
    def rate(self) -> float:
        return self.examples / self.seconds


def serve(side: Callable[[Task], Outcome]) -> None:
    """Run a side in this process, on the task that the command line holds, and print its outcome as the last line."""
    answer(lambda asked: asdict(side(Task(**asked))))


def answer(function: Callable[[dict[str, Any]], Any]) -> None:
    """Call `function` in this process on what the command line holds, and print what it gives as the last line."""
    print(MARK + json.dumps(function(json.loads(sys.argv[1]))), flush=True)


def ask(module: str, asked: Any, python: str = sys.executable) -> Any:
    """Have a module `answer` in a process of its own.

    Raises:
        SystemExit: it ended without an answer.
    """
    command = [python, "-m", module, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise SystemExit(f"{module} ended without a result (exit code {done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(lines[-1].removeprefix(MARK))


def make_subset(root: Path, images: int, work: Path, tests: int = 50) -> Path:
    """Link the first images of each class into train (80 %), val (20 %) and test (`tests` more); return the folder."""
    folder = work / f"images-{images}-{tests}"
    per_class, tests = images // CLASSES, tests // CLASSES
    if folder.exists():
        return folder
    for name in sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir()):
        files = sorted((root / "train" / name).iterdir())[: per_class + tests]
        if len(files) < per_class + tests:
            raise SystemExit(f"{root}/train/{name}: {len(files)} images, {per_class + tests} are needed")
        bounds = {"train": (0, per_class * 4 // 5), "val": (per_class * 4 // 5, per_class), "test": (per_class, None)}
        for split, (start, stop) in bounds.items():
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for file in files[start:stop]:
                os.symlink(file.resolve(), folder / split / name / file.name)
    return folder


def digits() -> tuple[Any, Any, Any, Any]:
    """Return scikit-learn's digits as float32 arrays: 60 % to train on, 20 % val, the rest left out as a test split."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    inputs = ((found.data - found.data.mean()) / found.data.std()).astype(np.float32)
    x, left, y, left_targets = train_test_split(
        inputs, found.target, test_size=0.4, stratify=found.target, random_state=0
    )
    return x, y, left[::2], left_targets[::2]


class Clock:
    """Seconds since the last call, for what is given apart."""

    def __init__(self) -> None:
        self.at = time.perf_counter()

    def __call__(self) -> float:
        before, self.at = self.at, time.perf_counter()
        return self.at - before
