"""What is known of a recipe, and of the machine, before the first trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.core.inventory import Inventory
from tuner.core.memory import Room
from tuner.core.stacking import SINGLE, Stacking


@dataclass(frozen=True)
class Preflight:
    """What checking a recipe in a worker gave.

    `device`: the kind that trials run on. `problems`: (dotted key, what is wrong), all at once; `hints`: what fixes
    them. `summary`: sizes of the data and the model. `inventory`: what the machine has; None: nobody looked.
    `peak_memory_bytes`: of one training step on that device; None: not measured. `decoded`: the names of the files in
    the cache that the data were read from. `room`: what the memory of searched configurations is foreseen by; None: it
    does not depend on what is searched. `stacking`: how many trials are trained as one.
    """

    device: str
    problems: Sequence[tuple[str, str]] = ()
    hints: Sequence[str] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    inventory: Inventory | None = None
    peak_memory_bytes: int | None = None
    decoded: Sequence[str] = ()
    room: Room | None = None
    stacking: Stacking = SINGLE
