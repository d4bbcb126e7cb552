"""What a part is given. A part is a module with `Sizes`, `measure(asked, sizes)` and `section(found)`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lines import Lines


@dataclass(frozen=True)
class Asked:
    """`work`: a folder for what is made on the way; `lines`: what is finished; `say`: tells the user."""

    work: Path
    lines: Lines
    seeds: int
    say: Callable[[str], None]


def cifar10_root(asked: Asked, part: str) -> Path | None:
    """Return the folder of CIFAR-10's images, or None, said, where there is none."""
    root = Path(os.environ.get("TUNER_DATA", ""), "cifar10")
    if os.environ.get("TUNER_DATA") and (root / "train").is_dir():
        return root
    asked.say(f"{part}: skipped, there is no $TUNER_DATA/cifar10/train/<class>/*.jpg")
    return None
