"""Rules over the axes of images (check-init): DA125 and IN183."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.image_axes.evidence import ImageAxes
from tuner.core.result import Finding

COLOURS = (1, 3, 4)  # grey, RGB, RGB with transparency


@rule(
    "DA125",
    "scrambled-input",
    "check-init",
    meaning="Images with their channels last are taken for channels first: a convolution runs over rows as channels.",
    detected="The last of an image's three sizes is 1, 3 or 4 and the first is none of these, and the first "
    "convolution that the model runs has as many input channels as the first size says.",
    why="Each row of pixels is a channel of its own, and the colours are the width: what is learnt is no picture.",
    fix="Give images as (N, C, H, W): images.transpose(0, 3, 1, 2) in numpy, permute(0, 3, 1, 2) in torch.",
    confused_with="A model that permutes its inputs itself: its first convolution then has the colours as channels.",
    source="PyTorch documentation, Conv2d: (N, C, H, W); UMLAUT: wrong layout",
)
def channels_last_taken_for_first(axes: ImageAxes) -> Finding | None:
    if len(axes.shape) != 3 or axes.shape[2] not in COLOURS or axes.shape[0] in COLOURS:
        return None
    if axes.channels != axes.shape[0]:
        return None
    shape = " x ".join(map(str, axes.shape))
    rows = axes.shape[0]
    title = f"images of {shape} have their channels last; the first convolution takes their {rows} rows for channels"
    return found("DA125", "error", title, evidence=axes.to_json())


@rule(
    "IN183",
    "plain-layout",
    "check-init",
    meaning="The model is trained with its images in the plain memory layout, which takes somewhat longer.",
    detected="On channels-last images its forward raises what view() raises on them; on plain ones it works.",
    why="Nothing is wrong; convolutions in channels-last layout are faster on most processors.",
    fix="Write x.flatten(1) or x.reshape(len(x), -1) in place of x.view(len(x), -1) behind convolutions.",
    source="PyTorch tutorial, Channels Last Memory Format",
)
def plain_layout(axes: ImageAxes) -> Finding | None:
    if not axes.plain_layout:
        return None
    title = (
        "the model views a convolution's output, which channels-last images do not allow: it is trained without them"
    )
    return found("IN183", "note", title, evidence={"plain_layout": True})
