"""Rules over the scan of the data (check-init): codes DA1xx."""

from __future__ import annotations

from dataclasses import replace

from tuner.checks.cards import Missing, found, rule
from tuner.checks.input_scale.evidence import InputScale
from tuner.checks.limits import Limit
from tuner.core.result import Change, Finding

LARGE = Limit(
    "large", 5.0, "spread of a channel", "derived: standardised channels have 1, photographs of ImageNet 2.6 at most"
)
FAR_OFF = Limit("far off", 10.0, "spreads from zero", "derived: as large")
SMALL = Limit("small", 0.05, "spread of a channel", "derived: pixels in 0 .. 1 have 0.2 or more")
SCALED = Limit(
    "scaled",
    3.0,
    "times the outputs' spread on standardised inputs",
    "zoo: models that normalise their inputs themselves are not moved",
)


@rule(
    "DA109",
    "unnormalised-input",
    "check-init",
    meaning="The inputs are far from zero mean and unit scale, and the model feels it.",
    detected="Mean and standard deviation per channel or column of a batch as the model gets it; and the fresh "
    f"model's outputs vary over the examples at least {SCALED:g} times more, or less, than on the same batch "
    "standardised.",
    why="Weights are initialised for inputs of unit scale: otherwise units saturate or die, or the useful rate moves "
    "by decades.",
    fix='Set data.normalize = "standardize".',
    confused_with="A model whose first layer normalises; inputs in [0, 1]; statistics of another data set that are "
    "off by little.",
    source="CS231n notes, data preprocessing; 37 reasons",
)
def unnormalised_input(scale: InputScale) -> Finding | None:
    ratio, spreads = scale.spread_ratio, [std for std in scale.std if std is not None and std > 0]
    if ratio is None or not spreads:
        raise Missing("the outputs do not vary, so the effect of the scale cannot be decided")
    offset = max(abs(mean) for mean in scale.mean if mean is not None)
    large = max(spreads) > LARGE or offset > FAR_OFF
    small = max(spreads) < SMALL
    if not ((large and ratio > SCALED) or (small and ratio < 1 / SCALED)):
        return None
    kind = "large" if large else "small"
    title = (
        f"inputs are on a {kind} scale (standard deviation up to {max(spreads):.3g}, mean up to {offset:.3g}): "
        f"the outputs vary {ratio:.3g} times as much as on standardised inputs"
    )
    change = Change("data.normalize", scale.normalize, "standardize", title)
    return replace(found("DA109", "warn", title, evidence=scale.to_json()), changes=(change,))
