"""A rule over what a step does beside the optimizer (check-init): IN199."""

from __future__ import annotations

from tuner.checks.cards import found, number, rule
from tuner.checks.limits import Limit
from tuner.checks.moves_at_rest.evidence import MovesAtRest
from tuner.core.result import Finding

STAYED = Limit("stayed", 1e-3, "of the weights' length", "derived: what adding and taking back leaves in fp32 is 1e-6")
UPHILL = Limit("uphill", 0.5, "the cosine with the gradient", "derived: of 100 weights or more, chance is 0.1 at most")

ENOUGH_WEIGHTS = Limit("enough weights", 100, "numbers", "derived: of fewer a bound on them may go any way")


@rule(
    "IN199",
    "sign-flipped-loss",
    "check-init",
    meaning="The step moves the weights along the gradient, and does not take it back.",
    detected=f"The user's step is called at rate 0 until an update was made: the weights moved by {STAYED:g} of their "
    f"length or more, in the direction of the gradient (cosine {UPHILL:g} or more).",
    why="Each call climbs the loss a little; the optimizer's steps have to make up for it.",
    fix="Take every climb of a sharpness-aware step back before the next batch: with accumulation, in each call, or "
    'climb once for all batches of an update. optimizer.name = "sam" with train.accumulate does.',
    confused_with="Weight noise, which is in no direction.",
    source="Foret et al. 2021, Sharpness-Aware Minimization: the gradient is taken at w + e, the step is made from w",
)
def climbs_and_stays_there(seen: MovesAtRest) -> Finding | None:
    uphill = number(seen.uphill)
    if uphill is None or seen.moved < STAYED or uphill < UPHILL:
        return None
    if seen.weights is not None and seen.weights < ENOUGH_WEIGHTS:
        return None
    title = (
        f"at rate 0, {seen.calls} calls of the step move the weights by {seen.moved:.2g} of their length, along the "
    )
    return found("IN199", "error", f"{title}gradient (cosine {uphill:.2f})", evidence=seen.to_json())
