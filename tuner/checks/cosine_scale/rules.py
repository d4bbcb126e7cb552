"""A rule over the scale of a loss of cosines (check-init): IN187."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.cosine_scale.evidence import CosineScale
from tuner.checks.limits import Limit
from tuner.core.result import Finding

STEEP = Limit("steep", 10.0, "times AdaCos's scale", "derived: a tenth of the angle that the classes need decides all")


@rule(
    "IN187",
    "loss-mismatch",
    "check-init",
    meaning="The scale of a margin loss is made for many more classes than these.",
    detected="Outputs that are cosines (longer weights of the head change nothing): the loss's slope where an answer "
    f"is as wrong as it can be is its scale, {STEEP:g} times AdaCos's fixed scale for so many classes, or more.",
    why="The softmax decides at the smallest differences of the angles: right answers are given no gradient long "
    "before the classes are apart, wrong ones pull with all of the scale, and updates are as many times larger.",
    fix="Set loss.s to a few times sqrt(2) log(C - 1): 10 for ten classes; 30 to 64 is for thousands of faces.",
    confused_with="Scores that are no cosines, whose size the head learns.",
    source="Zhang et al. 2019, AdaCos: the fixed scale sqrt(2) log(C - 1)",
)
def steeper_than_the_classes_need(seen: CosineScale) -> Finding | None:
    times = seen.scale / seen.fitted
    if times < STEEP:
        return None
    title = (
        f"the loss multiplies cosines by {seen.scale:.3g}; for {seen.classes} classes AdaCos takes {seen.fitted:.3g}"
    )
    return found("IN187", "warn", title, evidence={**seen.to_json(), "times": times})
