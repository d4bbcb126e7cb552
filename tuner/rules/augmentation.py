"""Rules over pixels in the wrong place and what augmentation makes of the examples (check-init): DA119 to DA121."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, rule
from tuner.rules.init import number, probe

BLANKED = 0.2
LEFT = 0.25  # of what a classifier reads from clean inputs; usual augmentation leaves more than half
SIGNAL = 0.2  # accuracy above chance that there must be in clean inputs
SHIFT = 1.0
RATIOS = (0.4, 2.5)
MISPAIRED = 0.2
SMOOTHER = 0.1  # gain in correlation, of neighbours and of channels, that only a mended layout gives


@rule(
    "DA119",
    "scrambled-input",
    "check-init",
    meaning="The images are stored as height, width, channels, and were reshaped to channels first, not transposed.",
    detected=(
        "The correlation of neighbouring pixels and of channels, as the images come and with the reshape undone: "
        "sound images get rougher, scrambled ones smoother by 0.1 in both."
    ),
    why="Each channel holds a third of the image, with the colours side by side: convolutions find little in it.",
    fix="Use permute or transpose in place of reshape or view.",
    confused_with="Images that are rough by nature, such as noise: undoing nothing does not make them smooth.",
    source="37 reasons; Karpathy, A Recipe for Training Neural Networks (view in place of permute)",
)
def channels_reshaped(evidence: Mapping[str, Any]) -> Finding | None:
    """Images whose axes were mixed up."""
    answer = probe(evidence, "image_layout")
    gains = [after - before for before, after in zip(answer["smooth"], answer["undone"], strict=True)]
    if min(gains) < SMOOTHER:
        return None
    title = (
        f"neighbouring pixels agree more with height, width and channels read in that order "
        f"({answer['undone'][0]:.2f} in place of {answer['smooth'][0]:.2f})"
    )
    return found("DA119", "warn", title, evidence=dict(answer), confidence=0.95)


@rule(
    "DA120",
    "augmentation-harms",
    "check-init",
    meaning="Augmentation destroys what the label depends on.",
    detected=(
        "The same examples with and without augmentation: many become a single value, or their scale leaves that of "
        "val; or a kernel classifier reads less than a quarter as much from augmented examples as from clean ones, "
        "above chance, even when it is made on augmented ones."
    ),
    why="The model trains on inputs without an answer, or unlike those that it will be asked about.",
    fix="Look at some augmented examples; choose padding and holes for the size of these images, and pixel ranges.",
    confused_with="Strong augmentation that keeps the label: train accuracy falls below val, and val gains.",
    source="TheDeepChecker (augmentation check); 37 reasons: too much augmentation",
)
def augmentation_destroys(evidence: Mapping[str, Any]) -> Finding | None:
    """Augmentation that leaves nothing."""
    answer = probe(evidence, "augmentation")
    if not answer["augments"]:
        return None
    facts = dict(answer)
    if not answer["finite"]:
        return found("DA120", "error", "augmented inputs are not finite", evidence=facts)
    if answer["blanked"] > BLANKED:
        title = f"{answer['blanked']:.0%} of the augmented inputs hold one single value"
        return found("DA120", "warn", title, evidence=facts)
    if abs(answer["shift"]) > SHIFT or not RATIOS[0] < answer["ratio"] < RATIOS[1]:
        title = (
            f"augmented inputs are on another scale than val's: shifted by {answer['shift']:.2g} of the spread, "
            f"{answer['ratio']:.2g} times as spread"
        )
        return found("DA120", "warn", title, evidence=facts)
    clean = number(answer["clean"])
    if clean is None or clean - answer["chance"] < SIGNAL or (answer["mispaired"] or 0.0) >= MISPAIRED:
        return None  # what can be read says nothing about augmentation where the labels are others'
    left = (max(answer["augmented"], answer["relearned"]) - answer["chance"]) / (clean - answer["chance"])
    if left >= LEFT:
        return None
    best = max(answer["augmented"], answer["relearned"])
    title = f"a classifier that reads {clean:.0%} of clean examples right reads {best:.0%} of augmented ones"
    return found("DA120", "warn", title, evidence={**facts, "left": left}, confidence=0.7)


@rule(
    "DA121",
    "misaligned-labels",
    "check-init",
    meaning="Augmentation moves or mixes the inputs of a batch and leaves the labels where they were.",
    detected=(
        "Hashes of the inputs of a batch before and after augmentation: where an input is another example of the "
        "batch, its label must be that example's. And where an input is a weighted mean with another example that "
        "outweighs it, so must its label."
    ),
    why="The model is taught wrong labels for all examples that moved.",
    fix="Apply the same permutation or selection to the targets, and give them back.",
    confused_with="Means of two examples that keep the larger part's label, which regularise (sample pairing).",
    source="derived",
)
def augmentation_mispairs(evidence: Mapping[str, Any]) -> Finding | None:
    """Augmentation that tears inputs and labels apart."""
    answer = probe(evidence, "augmentation")
    if not answer["augments"]:
        return None
    if (answer.get("outweighed") or 0.0) >= MISPAIRED:
        title = f"{answer['outweighed']:.0%} of the augmented inputs are mostly another example, without its label"
        remedy = "Mix the labels as well: in train.step, share * loss(outputs, targets) + (1 - share) * loss(outputs, "
        remedy += "targets[partner]); or keep the share of the input's own above one half."
        return found("DA121", "error", title, evidence=dict(answer), remedy=remedy)
    if answer["mispaired"] is None or answer["moved"] < 5:
        return None
    if answer["relabelled"] > 0.9:
        raise Missing("augmentation gives nearly all examples other labels")
    if answer["mispaired"] < MISPAIRED:
        return None
    title = f"{answer['mispaired']:.0%} of the {answer['moved']} inputs that augmentation moved have another's label"
    return found("DA121", "error", title, evidence=dict(answer))
