"""Rules over the scan of the data (check-init): codes DA1xx."""

from __future__ import annotations

from dataclasses import replace

from tuner.checks.cards import Missing, found, rule
from tuner.checks.input_scale.evidence import InputScale
from tuner.core.result import Change, Finding


@rule(
    "DA109",
    "unnormalised-input",
    "check-init",
    meaning="The inputs are far from zero mean and unit scale, and the model feels it.",
    detected=(
        "Mean and standard deviation per channel or column of a batch as the model gets it; and the fresh model's "
        "outputs vary over the examples at least 3 times more, or less, than on the same batch standardised."
    ),
    why=(
        "Weights are initialised for inputs of unit scale: otherwise units saturate or die, or the useful "
        "rate moves by decades."
    ),
    fix='Set data.normalize = "standardize".',
    confused_with=(
        "A model whose first layer normalises; inputs in [0, 1]; statistics of another data set that are off by little."
    ),
    source="CS231n notes, data preprocessing; 37 reasons",
)
def unnormalised_input(scale: InputScale) -> Finding | None:
    """Inputs on a scale that the initialisation is not made for."""
    ratio, spreads = scale.spread_ratio, [std for std in scale.std if std is not None and std > 0]
    if ratio is None or not spreads:
        raise Missing("the outputs do not vary, so the effect of the scale cannot be decided")
    offset = max(abs(mean) for mean in scale.mean)
    large = max(spreads) > 5 or offset > 10
    small = max(spreads) < 0.05
    if not ((large and ratio > 3) or (small and ratio < 1 / 3)):
        return None
    kind = "large" if large else "small"
    title = (
        f"inputs are on a {kind} scale (standard deviation up to {max(spreads):.3g}, mean up to {offset:.3g}): "
        f"the outputs vary {ratio:.3g} times as much as on standardised inputs"
    )
    change = Change("data.normalize", scale.normalize, "standardize", title)
    return replace(found("DA109", "warn", title, evidence=scale.to_json()), changes=(change,))
