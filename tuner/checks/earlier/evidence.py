"""Evidence of the measurement earlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Earlier(Evidence):
    """What the steps before found, the latest step first: findings as in result.json."""

    findings: Sequence[Mapping[str, Any]] = ()
