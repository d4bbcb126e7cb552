"""Rules over the frozen part of a model (check-init): IN190, IN191."""

from __future__ import annotations

from tuner.checks.cards import found, need, rule
from tuner.checks.fine_tuning.evidence import FineTuning
from tuner.checks.limits import Limit
from tuner.core.result import Finding

FOREIGN = Limit("foreign", 8.0, "times", "derived: beyond unlike data of one scale, short of bytes for standardised")


@rule(
    "IN190",
    "normalisation-misuse",
    "check-init",
    meaning="The weights of batch norms are frozen, their statistics are not.",
    detected="Batch norms without a trainable parameter, in a model with frozen layers, that are in train mode.",
    why="The frozen layers behind them were trained on what the old statistics gave: each batch now changes it, and "
    "what is evaluated in the end is another body than the one that was loaded.",
    fix="Put the batch norms of the frozen part into eval mode after every model.train(); under [finetune] leave "
    "freeze_norm as it is.",
    confused_with="Statistics that are taken again on purpose, before training, because the data are unlike.",
    source="the notes on competitions, fine-tuning; Keras' guide to transfer learning: BatchNormalization",
    explained_by=("IN118",),
)
def statistics_of_the_frozen_move(seen: FineTuning) -> Finding | None:
    if not seen.moving:
        return None
    names = ", ".join(seen.moving[:3]) + (", ..." if len(seen.moving) > 3 else "")
    title = f"{len(seen.moving)} frozen batch norms are in train mode, their statistics follow each batch: {names}"
    return found("IN190", "warn", title, evidence=seen.only("moving", "kept"))


@rule(
    "IN191",
    "unnormalised-input",
    "check-init",
    meaning="The data do not have the scale that the frozen part was trained on.",
    detected="What the frozen batch norms are given is held against the statistics that they keep: the median channel "
    f"is {FOREIGN:g} times wider or narrower, or lies that many standard deviations beside them.",
    why="A frozen layer cannot adapt: its units are cut off or saturated, and the head learns from next to nothing.",
    fix="Normalise the data as for the training that the weights are from: data.normalize = { mean = [...], std = "
    '[...] }, or "imagenet".',
    confused_with="Data that are unlike and on the same scale, which are off by a few times at most.",
    source="torchvision's documentation of its weights: the transforms that each was trained with",
    explained_by=("DA109",),
)
def foreign_to_the_frozen(seen: FineTuning) -> Finding | None:
    off = need(seen.off, "no frozen batch norm keeps statistics")
    if off < FOREIGN:
        return None
    title = f"the inputs are {off:.3g} times off the statistics that the frozen part keeps (at {seen.layer})"
    return found("IN191", "warn", title, evidence=seen.only("off", "layer", "kept"))
