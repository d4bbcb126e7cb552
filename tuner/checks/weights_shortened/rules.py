"""A rule over what follows each update (check-init): IN197."""

from __future__ import annotations

from tuner.checks.cards import found, need, number, rule
from tuner.checks.limits import Limit
from tuner.checks.weights_shortened.evidence import WeightsShortened
from tuner.core.result import Finding

LEFT_OF_OUTPUTS = Limit(
    "left of outputs", 0.1, "of the outputs' spread", "derived: scores a tenth as far apart are near the uniform answer"
)


@rule(
    "IN197",
    "over-regularised",
    "check-init",
    meaning="The limit of the weights' length is far below the length that they begin with.",
    detected="What follows an update is done to the untrained weights: it shortens units, and the outputs' spread is "
    f"less than {LEFT_OF_OUTPUTS:.0%} of what it was.",
    why="No update can bring them back, as each is followed by the same: signals shrink from layer to layer, and the "
    "scores stay close to each other.",
    fix="Set a limit that the first weights keep: 3 to 4 for the length of a unit's weights (train.max_norm = 3).",
    confused_with="Layers in front of a normalisation, whose length does not matter: the spread stays.",
    source="Srivastava et al. 2014, Dropout, appendix A.3: typical values of c range from 3 to 4",
)
def shortened_from_the_start(seen: WeightsShortened) -> Finding | None:
    left = number(need(seen.left, "the outputs of the untrained model do not vary"))
    if left is None or left >= LEFT_OF_OUTPUTS or not seen.shortened:
        return None
    title = f"what follows an update shortens {seen.shortened:.0%} of the units' first weights, to "
    title += f"{need(seen.length, ''):.2g} of their length; {left:.2g} of the outputs' spread is left"
    return found("IN197", "warn", title, evidence=seen.to_json())
