"""Rules of step 6 over the loss that was trained on: lost, never moved, never fell. Codes CU65x.

A stage's winner has passed steps 2 and 3; the log of a training that tuner never saw has not.
"""

from __future__ import annotations

from tuner.checks.cards import DoesNotApply, found, rule, series
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.core.formatting import rate as spelled
from tuner.core.result import Finding
from tuner.core.statistics import robust_sigma

NOISE = Limit("noise", 2.0, "times the noise of the curve", "derived: 95 % of a normal scatter")
LEAST = Limit("least", 0.01, "of the first loss", "derived: less is no progress of a training")
SAME = Limit("same", 1e-6, "of the loss", "derived: single precision holds seven digits")


@rule(
    "CU650",
    "lr-too-high",
    "diagnose",
    meaning="The train loss turned infinite or not a number, and nothing after that is a training.",
    detected="the first epoch whose mean train loss is not finite",
    why="One update with a gradient that is not finite spoils every weight; later epochs only repeat it.",
    fix="Lower the rate by ten or warm it up, and clip gradients; if that does not help, look for log, division or exp "
    "without a guard, for half precision, and for values in the inputs that are not finite.",
    confused_with="one broken batch, or a numerical fault of the loss, which no rate fixes",
    source="CS231n notes: a loss that is NaN usually means a rate that is too high",
)
def loss_is_lost(curves: Curves) -> Finding | None:
    if curves.lost_at is None:
        return None
    before = curves.last_finite_loss
    was = f" (it was {before:.4g})" if before is not None else ""
    at = f" at lr {spelled(curves.lost_lr)}" if curves.lost_lr else ""
    title = f"the train loss is not finite from epoch {curves.lost_at} on{was}{at}"
    return found("CU650", "error", title, evidence=curves.only("lost_at", "last_finite_loss", "lost_lr"))


@rule(
    "CU651",
    "no-update",
    "diagnose",
    meaning="The train loss is the same number in every epoch.",
    detected=f"three epochs or more, whose train losses agree to {SAME:g} of their size",
    why="The weights do not move, or the loss does not see them.",
    fix="Check that the step calls loss.backward() and optimizer.step(), and that the optimizer has this model's "
    "parameters.",
    confused_with="a training that has reached the floor of its loss exactly, which is 0 for few losses",
    source="Karpathy, A Recipe for Training Neural Networks",
)
def loss_never_changes(curves: Curves) -> Finding | None:
    losses = series(curves.running_losses, "running losses", 3)
    _of_a_log(curves)
    if max(losses) - min(losses) > SAME * max(map(abs, losses)) or max(map(abs, losses)) == 0:
        return None
    title = f"the train loss is {losses[0]:.6g} in each of {len(losses)} epochs"
    return found("CU651", "error", title, evidence={"loss": losses[0], "epochs": len(losses)})


@rule(
    "CU652",
    "at-baseline",
    "diagnose",
    meaning="The train loss never falls clearly below that of the first epoch.",
    detected=f"five epochs or more, none of them lower than the first by more than {NOISE:g} times the noise of the "
    f"curve and by {LEAST:.0%} of it; accuracy on val does not rise either, as far as it is known. Where the share of "
    "the majority class is known, CU606 says it",
    why="What is learnt is learnt in the first epoch or not at all; no tuning of what comes later can show.",
    fix="Try rates a decade up and down (tuner lr-sweep), fit a handful of examples first (tuner overfit, "
    "tuner.check), and look at whether labels belong to their inputs.",
    confused_with="fine-tuning, or a large data set, whose first epoch ends near the floor: accuracy is then high",
    source="CS231n notes: loss barely changing",
    explained_by=("CU650", "CU651"),
)
def loss_never_falls(curves: Curves) -> Finding | None:
    losses = series(curves.running_losses, "running losses", 5)
    _of_a_log(curves)
    if max(curves.val_accuracies or [0.0]) >= curves.target or curves.lost_at is not None:
        raise DoesNotApply("accuracy is high: the first epoch may end near the floor")
    sigma, low = robust_sigma(losses), min(losses[1:])
    if losses[0] - low > max(NOISE * sigma, LEAST * abs(losses[0])) or _rises(curves):
        return None
    title = (
        f"the train loss never falls: {losses[0]:.4g} in the first epoch, {low:.4g} at best in {len(losses) - 1} more"
    )
    return found("CU652", "warn", title, evidence={"first": losses[0], "lowest": low, "noise": sigma})


def _of_a_log(curves: Curves) -> None:
    """Leave a run of tuner's own to the rules that know more: its winner has passed steps 2 and 3."""
    if curves.val_n is not None and curves.majority_share is not None:
        raise DoesNotApply("accuracy against that of the majority class says it (CU606)")


def _rises(curves: Curves) -> bool:
    """Return whether val accuracy is better at its best than after the first epoch, by more than its noise."""
    values = curves.val_accuracies or ()
    return len(values) > 2 and max(values) - values[0] > NOISE * robust_sigma(values)
