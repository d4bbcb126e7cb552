"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

from dataclasses import asdict

from tuner.checks.cards import found, number, rule
from tuner.checks.limits import SURE, Limit
from tuner.checks.splits_compared.evidence import Shift, SplitsCompared
from tuner.core.result import Finding
from tuner.core.statistics import auroc_error

SHIFTED = Limit("shifted", 0.5, "of the spread over examples", "zoo: random splits and other groups shift by less")
SHIFTED_AUGMENTED = Limit(
    "shifted augmented", 1.0, "of the spread over examples", "zoo: Datasets that augment train themselves shift by less"
)
COLUMNS = Limit("columns", 0.3, "of the columns", "zoo: single columns move in time without harm")
TOLD_APART = Limit(
    "told apart", 0.7, "area under the ROC curve", "zoo: random splits stay near one half, other groups below"
)


@rule(
    "DA110",
    "train-val-shift",
    "check-init",
    meaning="Train and val images, or rows, look different once both have been through the val pipeline.",
    detected="Up to 1000 examples of each split: means and spreads per channel or column, a difference of "
    f"{SHIFTED:g} of the spread over examples at {SURE:g} standard errors; or a linear classifier on small pictures "
    f"that tells the splits apart (area under its ROC curve above {TOLD_APART:g}).",
    why="Val then measures something else than what was learned: it is bad from the first epoch on, whatever is tuned.",
    fix="Share one pipeline (decoding, channel order, mean and std) between the splits, and draw them at random.",
    confused_with="Augmentation of train, which is left out, or given twice the room where the Dataset does it "
    "itself; small splits, which the standard errors allow for; a split by time or by group that is meant. A column "
    "that rises with the place in the file, as a row's number does, is left out.",
    source="deepchecks ImagePropertyDrift and ImageDatasetDrift; 37 reasons",
    explained_by=("DA101", "DA108", "DA118", "DA119", "unnormalised-input"),
)
def splits_differ(answer: SplitsCompared) -> Finding | None:
    room = SHIFTED_AUGMENTED if answer.augmented_by_itself else SHIFTED
    shifted = [index for index, entry in enumerate(answer.shifts) if _is_shifted(entry, room)]
    apart = number(answer.separability)
    facts = answer.only("train", "val", "separability")
    if shifted:
        worst = max((answer.shifts[index] for index in shifted), key=lambda entry: abs(entry.mean))
        facts |= {"shifted": shifted[:20], "worst": asdict(worst)}
        what = "channels" if answer.is_image else "columns"
        title = (
            f"{len(shifted)} of {len(answer.shifts)} {what} differ between train and val, the worst by "
            f"{abs(worst.mean):.2g} of its spread"
        )
        few = not answer.is_image and len(shifted) < COLUMNS * len(answer.shifts)
        return found("DA110", "note" if few else "warn", title, evidence=facts)
    least = max(TOLD_APART, 0.5 + SURE * auroc_error(answer.train, answer.val))
    if answer.is_image and apart is not None and apart > least:
        title = f"a linear classifier tells train from val images (area under its ROC curve {apart:.2f}, chance 0.5)"
        return found("DA110", "warn", title, evidence=facts)
    return None


def _is_shifted(entry: Shift, room: float) -> bool:
    if entry.ordered:
        return False  # a row's number, or a time: in a split by place it lies apart by nature
    pairs = ((entry.mean, entry.z), (entry.within, entry.within_z))
    return any(abs(size) > room and abs(z) > SURE for size, z in pairs)
