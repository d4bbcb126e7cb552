"""Rules over pixels in the wrong place and what augmentation makes of the examples (check-init): DA119 to DA121."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.image_axes.evidence import ImageAxes
from tuner.checks.image_layout.evidence import ImageLayout
from tuner.checks.limits import Limit
from tuner.core.result import Finding

SMOOTHER = Limit("smoother", 0.1, "correlation", "zoo: sound images get rougher when a reshape is undone")


@rule(
    "DA119",
    "scrambled-input",
    "check-init",
    meaning="Images of height, width, channels were reshaped to channels first, not transposed: by the data's code, or "
    "by the model's.",
    detected="The correlation of neighbouring pixels and of channels, as the images come (and as the model's first "
    "convolution is given them) and with the reshape undone: sound images get rougher, scrambled ones smoother by "
    f"{SMOOTHER} in both.",
    why="Each channel holds a third of the image, with the colours side by side: convolutions find little in it.",
    fix="Use permute or transpose in place of reshape or view.",
    confused_with="Images that are rough by nature, such as noise: undoing nothing does not make them smooth.",
    source="37 reasons; Karpathy, A Recipe for Training Neural Networks (view in place of permute)",
)
def channels_reshaped(answer: ImageLayout, axes: ImageAxes | None) -> Finding | None:
    places = [("the data", answer.smooth, answer.undone)]
    if axes is not None and axes.smooth is not None and axes.undone is not None:
        places += [("the model's first convolution", axes.smooth, axes.undone)]
    for place, smooth, undone in places:
        if min(after - before for before, after in zip(smooth, undone, strict=True)) < SMOOTHER:
            continue
        title = (
            f"in {place}, neighbouring pixels agree more with height, width and channels read in that order "
            f"({undone[0]:.2f} in place of {smooth[0]:.2f})"
        )
        return found("DA119", "warn", title, evidence={"place": place, "smooth": smooth, "undone": undone})
    return None
