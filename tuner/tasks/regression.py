"""One quantity per example, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.core.errors import UsageError
from tuner.tasks import scores
from tuner.tasks.base import Array, Rows, Tensor

BINS = 10  # of the first value, by which splits are stratified
SHOWN = 1000  # examples of the test's picture
SCORES = {"r2": scores.r2, "mae": scores.mae, "rmse": scores.rmse}


@dataclass(frozen=True)
class Regression:
    """Targets (N,) or (N, D) float, outputs the same; (N, 1) and (N,) are one another's equals in scores alone."""

    name: str = "regression"
    score: str = "r2"
    always: tuple[str, ...] = ("r2", "mae", "rmse")
    scores: tuple[str, ...] = ("r2", "mae", "rmse")
    noun: str = "value"

    def as_targets(self, values: Any, where: str) -> Array:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
            raise UsageError(
                f"{where}: regression targets must be numbers, (examples,) or (examples, values), "
                f"they are {array.dtype} of shape {array.shape}",
                "One row of numbers per example.",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            first = int(np.argwhere(~np.isfinite(array))[0][0])
            raise UsageError(
                f"{where}: target {first} is not finite ({array[first]})", "Leave the example out, or fill it in."
            )
        return array.astype(np.float32)

    def width(self, *targets: Array) -> int:
        return 1 if targets[0].ndim == 1 else int(targets[0].shape[1])

    def strata(self, targets: Array) -> Array:
        """Return which tenth of the examples the (first) value lies in, so that every split spans the range."""
        values = targets if targets.ndim == 1 else targets[:, 0]
        bins = max(1, min(BINS, len(values) // 20))
        return np.searchsorted(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]), values)

    def by_group(self) -> bool:
        return False

    def rows(self, outputs: Any, targets: Tensor, threshold: float = 0.0) -> Rows | None:
        wide = targets[:, None] if targets.ndim == 1 else targets
        outputs = outputs[:, None] if outputs.ndim == 1 else outputs
        return (outputs, wide) if tuple(outputs.shape) == tuple(wide.shape) else None

    def measure(self, names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
        return {name: SCORES[name](outputs, targets) for name in names if name in SCORES}

    def constant(self, targets: Array) -> Array:
        return np.broadcast_to(targets.mean(0, dtype=np.float64), targets.shape)

    def per_example(self, outputs: Array, targets: Array) -> Array:
        return -(scores.errors(outputs, targets) ** 2).mean(1)

    def picture(self, outputs: Array, targets: Array) -> dict[str, Any]:
        chosen = np.linspace(0, len(targets) - 1, min(SHOWN, len(targets))).astype(int)
        return {"residuals": {"true": targets[chosen, 0].tolist(), "said": outputs[chosen, 0].tolist()}}
