"""Evidence of the measurement state_between_calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class StateBetweenCalls(Evidence):
    """One batch shown in eval mode, another, then the first again, with the same random state.

    `differ`: the largest difference of its outputs over their spread; `changed`: attributes of modules, no
    parameters or buffers, that changed on the way, at most eight.
    """

    differ: float | None
    changed: Sequence[str] = ()
