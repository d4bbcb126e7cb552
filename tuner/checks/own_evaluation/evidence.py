"""Evidence of the measurement own_evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class OwnEvaluation(Evidence):
    """The recipe's evaluate, asked about a few examples that the model was trained on.

    `own`: whether the recipe has one; nothing else is known where not. `learnt`: the objective fell to a twentieth of
    `first_loss`, to `loss`, in `steps` (`with_adam`: in place of the recipe's optimizer). `hook`: what evaluate then
    returns; `majority`: the share of the largest class. `foreign_norms`: normalisation layers that evaluate ran and
    that are none of the model's; `still`: of these, those of other weights of the model whose statistics stay while the
    model's move.
    """

    learnt: bool
    first_loss: float | None
    loss: float | None
    hook: Mapping[str, float | None]
    steps: int = 0
    with_adam: bool = False
    majority: float = 0.0
    foreign_norms: int = 0
    still: int = 0
    own: bool = True
