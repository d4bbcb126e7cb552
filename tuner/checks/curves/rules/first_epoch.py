"""The rule over val against what train scored on batches that it had not seen yet (diagnose): CU645."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, need, rule
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.core.result import Finding
from tuner.core.statistics import wilson

BELOW = Limit("below", 0.05, "accuracy", "zoo: sound val splits lie above the first epoch")


@rule(
    "CU645",
    "train-val-shift",
    "diagnose",
    meaning="Val never reaches what the model scored on train batches that were new to it.",
    detected="The running accuracy of the first epoch, over batches that the model had not seen when it answered "
    f"them, is above the best val accuracy of any epoch by more than {BELOW:.0%} and both intervals (Wilson, 95 %). "
    "Copies within train would be known already: the rule is silent where check-init found some.",
    why="A model only gets better after its first epoch, and new train examples are as new as those of val: val must "
    "be something else (another index of words, other columns, another pipeline), and no regularisation closes that.",
    fix="Pass a few train examples through what makes val, and compare them value by value; build indices, scalers and "
    "class maps on train once, and use them for both.",
    confused_with="Overfitting, where val is at or above the first epoch's running accuracy and falls behind train "
    "later; class shares that differ between the splits.",
    source="derived: the first pass over train is a test on unseen examples (progressive validation, Blum et al. 1999)",
)
def below_the_first_epoch(curves: Curves) -> Finding | None:
    running = need(curves.running_accuracies, "accuracy was not measured while training")
    val = need(curves.val_accuracies, "the winner has no val accuracy")
    n = need(curves.val_n, "the size of val is not known")
    if (curves.copies_in_train or 0.0) > 0.01:
        raise Missing("train holds near copies of its own examples, which are known before the epoch ends")
    first, best = float(running[0]), min(1.0, float(max(val)))
    if wilson(min(1.0, first), n)[0] - wilson(best, n)[1] <= BELOW:
        return None
    title = (
        f"new train batches were answered at {first:.3f} in the first epoch, val never above {best:.3f}: val differs "
        "from train by more than what is learnt by heart"
    )
    return found("CU645", "warn", title, evidence={"first_epoch": first, "best_val": best, "val_n": n})
