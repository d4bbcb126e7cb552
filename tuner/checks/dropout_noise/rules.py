"""A rule over dropout (check-init): IN198."""

from __future__ import annotations

from tuner.checks.cards import found, need, rule
from tuner.checks.dropout_noise.evidence import DropoutNoise
from tuner.checks.limits import Limit
from tuner.core.result import Finding

SHARED = Limit("shared", 0.05, "of the outputs' variance", "derived: four layers in a row that drop a half leave 6 %")


@rule(
    "IN198",
    "over-regularised",
    "check-init",
    meaning="Dropout leaves next to nothing of the input in the answers of train mode.",
    detected="One batch goes through the untrained model several times in train mode: two forwards have less than "
    f"{SHARED:.0%} of the outputs' variance over the examples in common; a rate of dropout is above a half.",
    why="The gradients are those of noise. Mostly the share to keep was given where the share to drop is asked for.",
    fix="Give the share to drop: 0.1 to 0.5, in single layers.",
    confused_with="Rates of a half in one or two layers, which leave a quarter of the variance.",
    source="arithmetic: a layer that keeps a share k of its inputs keeps k of the variance; Wan et al. 2013, "
    "DropConnect; Srivastava et al. 2014: 0.5 is near to the best for a wide range of nets",
)
def dropout_drowns_the_input(seen: DropoutNoise) -> Finding | None:
    shared = need(seen.shared, "the outputs of the untrained model do not vary")
    if shared >= SHARED:
        return None
    name, rate = next(iter(seen.rates.items()))
    title = f"two forwards in train mode have {max(shared, 0.0):.1%} of the outputs' variance in common (a rate of "
    return found("IN198", "warn", f"{title}{rate:g} at {name or 'the model'})", evidence=seen.to_json())
