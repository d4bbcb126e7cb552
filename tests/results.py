"""Results of stages for tests, with the parts that matter given as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from tuner import stages
from tuner.core.result import StageResult

EMPTY: dict[str, Any] = {
    "headline": "",
    "findings": [],
    "checks": {"ran": [], "skipped": []},
    "choice": {},
    "metrics": {},
}


def result_of(stage: str, parts: Mapping[str, Any] | StageResult[Any]) -> StageResult[Any]:
    """Return the result of a stage whose `result.json` has these parts; a result is returned as it is."""
    if isinstance(parts, StageResult):
        return parts
    return StageResult.from_json({**EMPTY, **parts, "stage": stage}, stages.load(stage).Metrics)


def inputs_of(
    results: Mapping[str, Mapping[str, Any] | StageResult[Any]],
    trials: Mapping[str, Sequence[Any]] | None = None,
    **more: Any,
) -> stages.Inputs:
    """Return the inputs of a stage that reads these results."""
    return stages.Inputs({name: result_of(name, parts) for name, parts in results.items()}, trials or {}, **more)
