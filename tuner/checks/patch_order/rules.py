"""The rule over the places of an image's parts (check-init): IN185."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.limits import Limit
from tuner.checks.patch_order.evidence import PatchOrder
from tuner.core.result import Finding

UNMOVED = Limit(
    "unmoved", 1e-4, "of the outputs' spread", "derived: sums in another order differ by 1e-6 in fp32, places by more"
)


@rule(
    "IN185",
    "scrambled-input",
    "check-init",
    meaning="The model gives the same answer wherever the parts of an image are: it knows what is there, not where.",
    detected="Images are cut into square patches that change places, for every side that fits; the outputs of the "
    f"fresh model, with a little noise on its weights, change by less than {UNMOVED:g} of their spread, though they "
    "change when single pixels do.",
    why="A face with its eyes below its mouth is the same to it: what depends on the arrangement cannot be learnt.",
    fix="Add a position to every patch, one of its own: positions[:, :count], not positions[:, count - 1].",
    confused_with="A bag of patches or colours by design (textures, stains): accept the code. Positions that start at "
    "zero count, for the weights are shaken.",
    source="Dosovitskiy et al. 2021, An image is worth 16x16 words: position embedding (D.4)",
)
def places_do_not_matter(order: PatchOrder) -> Finding | None:
    still = [int(side) for side, change in order.differ.items() if change is not None and change < UNMOVED]
    if not still or order.pixels is None or order.pixels < UNMOVED:
        return None
    side = min(still)
    title = f"patches of {side} x {side} pixels may change places: the outputs stay the same"
    return found("IN185", "warn", title, evidence=order.to_json())
