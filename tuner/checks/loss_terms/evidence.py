"""Evidence of the measurement loss_terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Term:
    """Something that is added to the loss: its value on one batch, and the length of its gradient over the weights.

    `gradients`: before any update, and after one by the loss alone. `asked`: how many examples another input was put
    in the place of, that changed what the term wants of any; `elsewhere`: of these, the ones where it wants the same
    of this example as before, and another answer of another. `pulled`: the share of the weights that
    it pulls harder than the loss does, of those that the loss pulls at all; None where it hangs on more than the
    weights.
    """

    name: str
    value: float | None
    gradients: Sequence[float | None]
    asked: int = 0
    elsewhere: int = 0
    pulled: float | None = None


@dataclass(frozen=True)
class LossTerms(Evidence):
    """The loss and what a recipe adds to it, on one batch of the untrained model, dropout off.

    `value`: the loss's own; `gradients`: its lengths over the weights, before any update and after one.
    """

    value: float | None
    gradients: Sequence[float | None]
    terms: Sequence[Term] = ()
