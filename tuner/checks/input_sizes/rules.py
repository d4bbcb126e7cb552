"""A rule over the sizes of images (check-init): DA134."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.input_sizes.evidence import InputSizes
from tuner.checks.limits import Limit
from tuner.core.result import Finding

HALF = Limit(
    "half the side",
    0.5,
    "of val's side",
    "derived: strokes half as wide; the usual draws of a size have val's among them",
)


ROUGHER = Limit(
    "rougher",
    1.4,
    "times the differences of neighbouring pixels",
    "derived: 2 for smooth images of half the side, 1.6 for 8 x 8 digits; 1 for pieces, 1.3 for the middle of digits",
)


@rule(
    "DA134",
    "augmentation-harms",
    "check-init",
    meaning="The model trains on images of at most half the size of those that it is evaluated on.",
    detected=f"The largest of the first batches of train has {HALF:.0%} of the sides of val's images, or less, and "
    f"neighbouring pixels of train differ {ROUGHER:g} times as much or more.",
    why="Strokes and parts are of another size than the filters know, and what is small is gone.",
    fix='Let train have val\'s size too: { name = "multi_scale", factors = [0.75, 1.0, 1.25] }, or set data.size.',
    confused_with="Batches at several sizes, val's among them; pieces that are cut out of images, whose pixels are as "
    "large as those of val.",
    source="Touvron et al. 2019, Fixing the train-test resolution discrepancy",
)
def trained_on_smaller_images(seen: InputSizes) -> Finding | None:
    share = max(ours / theirs for ours, theirs in zip(seen.largest, seen.val, strict=True))
    if share > HALF or (seen.rougher is not None and seen.rougher < ROUGHER):
        return None
    sizes = [" x ".join(map(str, size)) for size in (seen.largest, seen.val)]
    title = f"images of train are {sizes[0]} at most, those of val {sizes[1]}"
    return found("DA134", "warn", title, evidence=seen.to_json())
