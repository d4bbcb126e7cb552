"""What a result says about the importance of the searched keys, for reports and plots alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.core.metrics import KeyImportance, SearchMetrics
from tuner.core.result import StageResult
from tuner.view.text import fixed, is_number, number


def entries(result: StageResult[Any]) -> Sequence[KeyImportance]:
    """Return how important each searched key is, the most important first."""
    metrics: SearchMetrics = result.metrics
    return metrics.importance


def sentence(result: StageResult[Any]) -> str:
    """Say what the importances rest on: `16 trials, compared at epoch 1`."""
    trials, epoch = result.metrics.importance_trials, result.metrics.importance_epoch
    text = f"{number(trials)} trials" if is_number(trials) else "the trials"
    return f"{text}, compared at epoch {number(epoch)}" if is_number(epoch) else text


def map_keys(keys: Sequence[str], trials: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the two keys of the map, from keys in the order of their importance: the first, and the least of the rest.

    One with more than two values where there is one: two values make no map.
    """
    spread = [key for key in keys[1:] if len({str(row.get(key)) for row in trials if row.get(key) is not None}) > 2]
    return keys[0], (spread or keys)[-1]


def told_text(result: StageResult[Any], key: str) -> str:
    """Return how important a key is, `importance 0.62`; an empty text where nobody asked."""
    entry = next((entry for entry in entries(result) if entry.key == key), None)
    if entry is None:
        return ""
    if not entry.enough or not is_number(entry.importance):
        return "importance: not distinguishable"
    return f"importance {fixed(entry.importance, 2)}"
