"""A rule over labels of mixed examples (check-init): DA133."""

from __future__ import annotations

import math

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.limits import SURE, Limit
from tuner.checks.mixed_shares.evidence import MixedShares
from tuner.core.result import Finding

ENOUGH_MIXED = Limit(
    "enough mixed", 30, "examples", "derived: a correlation of -1 is 6 standard errors off 0 from 8 on"
)


@rule(
    "DA133",
    "misaligned-labels",
    "check-init",
    meaning="The labels of mixed examples are shared the wrong way round.",
    detected="Of examples that augmentation mixed with another of their batch it is seen what they are made of: the "
    "more of an example is itself, the less its label says so (the correlation is below 0 by "
    f"{SURE:g} standard errors, over {ENOUGH_MIXED:g} examples or more).",
    why="An image that is nearly whole is labelled as its partner.",
    fix="Give the label of each example the share that it has of the mixture: lambda of the one that is "
    "multiplied with lambda; for cutmix 1 - (area of the box) of the one that the box is pasted into.",
    confused_with="Partners of the same class, which share one label.",
    source="Yun et al. 2019, CutMix, equation 1; Zhang et al. 2018, mixup",
)
def shared_the_wrong_way_round(seen: MixedShares) -> Finding | None:
    if seen.examples < ENOUGH_MIXED:
        raise Missing("of too few mixed examples it is seen what they are made of")
    correlation = number(seen.correlation)
    if correlation is None:
        raise Missing("all examples are mixed alike")
    chance = math.tanh(SURE / math.sqrt(seen.examples - 3))  # Fisher's z of no correlation, so many errors off
    if -correlation < chance:
        return None
    title = f"the more of a mixed example is itself, the less its label says so (correlation {correlation:.2f}, "
    return found("DA133", "error", f"{title}{seen.examples} examples)", evidence={**seen.to_json(), "chance": chance})
