"""Rules over what one training step does with gradients, state and batches (check-init): codes IN122 to 129, IN15x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.gradient_seen.evidence import GradientSeen
from tuner.checks.limits import Limit
from tuner.core.result import Finding, Severity

CUT = Limit("cut", 0.1, "of the gradient's norm", "zoo: usual clipping leaves more, though norms are largest at first")
CUT_AWAY = Limit("cut away", 0.01, "of the gradient's norm", "zoo: clipping that harms SGD leaves less")
UPHILL = Limit("uphill", -0.5, "cosine", "derived: a gradient with noise is not turned round")
EXACT = Limit("exact", 0.02, "relative", "derived: rounding and dropout noise of the same batch")


@rule(
    "IN123",
    "gradient-clipped-away",
    "check-init",
    meaning="Hardly anything of the gradient reaches the update.",
    detected="The gradient that the optimizer sees, over that of the loss on the same batch computed apart: less "
    "than a tenth of its norm. For optimizers that divide by the gradient's size (Adam and the like) it is only a "
    "note.",
    why="With SGD the step shrinks by as much: the useful rate moves by decades, and all steps have one length.",
    fix="Clip at about the 90th percentile of the norms that training has (1 to 10 is usual), after unscaling.",
    confused_with="Clipping at 1 early in training, which cuts a part; a loss divided on purpose, for accumulation.",
    source="Google tuning playbook: more than half of the steps clipped is extremely aggressive",
)
def gradient_cut(seen: GradientSeen) -> Finding | None:
    ratios = [number(value) for value in seen.ratios]
    if None in ratios:
        raise Missing("the gradient is not finite")
    largest = max(ratio for ratio in ratios if ratio is not None)
    if largest >= CUT or largest == 0:
        return None
    severity: Severity = "note" if seen.adaptive and largest > 1e-6 else "warn" if largest < CUT_AWAY else "note"
    title = (
        f"the update sees {largest:.1%} of the gradient's norm"
        if largest > 1e-4
        else (f"the update sees {largest:.1g} of the gradient's norm")
    )
    return found("IN123", severity, title, evidence=seen.to_json())


@rule(
    "IN150",
    "summed-loss",
    "check-init",
    meaning="The training step adds up the gradients of several batches and does not divide by their number.",
    detected="The same batch is given for all calls that make one update: the gradient of the update is as many "
    f"times that of the loss as there were calls, within {EXACT:.0%}. For optimizers that divide by the gradient's "
    "size a note.",
    why="The effective rate is the recipe's times the number of batches, and moves when that number is changed.",
    fix="Divide the loss by the number of batches that make one update before backward.",
    confused_with="Batches that are averaged; gradients that are never cleared, which grow from update to update.",
    source="PyTorch documentation, gradient accumulation: loss = loss / iters_to_accumulate",
)
def adds_up_batches(seen: GradientSeen) -> Finding | None:
    ratios, cosines = ([number(value) or 0.0 for value in values] for values in (seen.ratios, seen.cosines))
    calls = seen.calls
    if calls < 2 or any(abs(ratio / calls - 1) > EXACT for ratio in ratios) or min(cosines) < 1 - EXACT:
        return None
    severity: Severity = "note" if seen.adaptive else "warn"
    title = f"an update sees the sum of {calls} batches' gradients, not their mean: {calls} times the recipe's rate"
    return found("IN150", severity, title, evidence=seen.to_json())


@rule(
    "IN124",
    "sign-flipped-loss",
    "check-init",
    meaning="The training step goes uphill: it makes the loss larger.",
    detected="The gradient that the optimizer sees points against that of the loss on the same batch (cosine below "
    f"{UPHILL:g}), or the optimizer maximises.",
    why="Training raises the loss, at any rate.",
    fix="Give backward the loss itself, not its negative; leave maximize off.",
    confused_with="A rate that is too high: there the gradient points the right way.",
    source="CS231n notes; Full Stack Deep Learning, troubleshooting (loss goes up)",
)
def goes_uphill(seen: GradientSeen) -> Finding | None:
    cosines = [number(value) or 0.0 for value in seen.cosines]
    against = max(cosines) < UPHILL
    if against == seen.maximises:  # twice negated is right again
        return None
    title = "the optimizer maximises" if seen.maximises else "the update sees the gradient with its sign turned"
    return found("IN124", "error", f"{title}: the loss goes up", evidence=seen.to_json())
