"""Evidence of the measurement repeatable_evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class RepeatableEvaluation(Evidence):
    """One batch evaluated twice in eval mode with different random states, and val examples read twice.

    `outputs_differ`: the largest difference over the outputs' spread; `statistics_moved`: running statistics that
    changed; `modes_in_forward`, `left_in_train_mode`, `hook_values`: of the recipe's own evaluate.
    `val_reads_differ`: the share of val examples that are other inputs then; `val_reads_times`: the one number all
    are multiplied by.
    """

    outputs_differ: float | None
    statistics_moved: Sequence[str] = ()
    modes_in_forward: Sequence[str] = ()
    left_in_train_mode: bool = False
    hook_values: Sequence[Mapping[str, float | None]] = ()
    val_reads_differ: float | None = None
    val_reads_times: float | None = None
