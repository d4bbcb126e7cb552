"""Rules over pixels in the wrong place and what augmentation makes of the examples (check-init): DA119 to DA121."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.image_layout.evidence import ImageLayout
from tuner.checks.limits import Limit
from tuner.core.result import Finding

SMOOTHER = Limit("smoother", 0.1, "correlation", "zoo: sound images get rougher when a reshape is undone")


@rule(
    "DA119",
    "scrambled-input",
    "check-init",
    meaning="The images are stored as height, width, channels, and were reshaped to channels first, not transposed.",
    detected=(
        "The correlation of neighbouring pixels and of channels, as the images come and with the reshape undone: "
        f"sound images get rougher, scrambled ones smoother by {SMOOTHER} in both."
    ),
    why="Each channel holds a third of the image, with the colours side by side: convolutions find little in it.",
    fix="Use permute or transpose in place of reshape or view.",
    confused_with="Images that are rough by nature, such as noise: undoing nothing does not make them smooth.",
    source="37 reasons; Karpathy, A Recipe for Training Neural Networks (view in place of permute)",
)
def channels_reshaped(answer: ImageLayout) -> Finding | None:
    """Images whose axes were mixed up."""
    gains = [after - before for before, after in zip(answer.smooth, answer.undone, strict=True)]
    if min(gains) < SMOOTHER:
        return None
    title = (
        f"neighbouring pixels agree more with height, width and channels read in that order "
        f"({answer.undone[0]:.2f} in place of {answer.smooth[0]:.2f})"
    )
    return found("DA119", "warn", title, evidence=answer.to_json())
