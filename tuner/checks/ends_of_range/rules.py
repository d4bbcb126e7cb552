"""The rule over values at the ends of their range (check-init): DA128."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.ends_of_range.evidence import EndsOfRange
from tuner.checks.limits import Limit
from tuner.core.result import Finding

AT_THE_ENDS = Limit("at the ends", 0.5, "of the values of coloured pixels", "zoo: photographs and drawings keep below")
LEVELS = Limit(
    "levels", 32, "different values", "derived: plain colours are a handful; stretched bytes keep 256 / contrast"
)
COLOURED = Limit("coloured", 0.2, "of the pixels", "derived: with fewer, edges of grey marks are all there is")


@rule(
    "DA128",
    "constant-input",
    "check-init",
    meaning="Most colours are cut off at an end of their range: what was there between them is gone.",
    detected="Of the pixels that are not grey, the share of values that are exactly the smallest or the largest of "
    f"all images: more than {AT_THE_ENDS:.0%}, though there are {LEVELS:g} different values or more.",
    why="Shades become flat areas of one value: shapes that differ by shade look alike, and the model learns to do "
    "without. A contrast or a scale was applied before the values were cut to bytes, or to 0 .. 1.",
    fix="Look at some images as loaded; scale to the range of the file (16 bits: divide by 256), and clip last.",
    confused_with="Drawings with a few plain colours, which have few different values; grey marks on paper.",
    source="Pillow issue 3011 (16-bit images clipped to white)",
)
def colours_cut_off(ends: EndsOfRange) -> Finding | None:
    share = ends.at_low + ends.at_high
    if share <= AT_THE_ENDS or ends.levels < LEVELS or ends.coloured < COLOURED:
        return None
    title = f"{share:.0%} of the values of coloured pixels are exactly the smallest or the largest there is"
    return found("DA128", "warn", title, evidence=ends.to_json())
