"""Evidence of the measurement evaluated_weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class EvaluatedWeights(Evidence):
    """Weights for evaluation that a recipe takes of the trained ones, tried on a net of one weight and a batch norm.

    The net's weight and statistics move once, with the second update, and stay. `first`: by planned run, what share of
    the weights that are evaluated in its last epoch is that of the first ones. `still`: the weights that are evaluated
    moved, batch norm's statistics beside them did not. `norms`: how many batch norms the recipe's model has.
    """

    first: Mapping[str, float | None]
    updates: Mapping[str, int]
    still: bool = False
    norms: int = 0
