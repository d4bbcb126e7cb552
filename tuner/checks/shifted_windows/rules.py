"""Rules over near-relatives across the split (check-init): codes DA123 and DA124."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.limits import Limit
from tuner.checks.shifted_windows.evidence import ShiftedWindows
from tuner.core.result import Finding

SHIFTED = Limit("shifted", 0.05, "of val", "zoo: between sound splits of sequences and the planted ones")


@rule(
    "DA124",
    "train-val-overlap",
    "check-init",
    meaning="Sequences of val overlap with sequences of train: they are windows of the same recordings.",
    detected="Three blocks of each val sequence, a quarter of its length, are looked for in the train sequences at "
    f"every other place: {SHIFTED:.0%} of val or more have one there, up to a factor and an offset.",
    why="A window that shares most of its steps with one of train is no new example: val measures memory.",
    fix="Split by recording, or by time with a gap as long as a window, before cutting windows.",
    confused_with="Sequences that repeat exactly by nature, such as whole numbers, which are left out.",
    source="github.com/ermongroup/Wifi_Activity_Recognition issue 47; Hammerla and Ploetz 2015, neighbourhood bias",
)
def windows_overlap(answer: ShiftedWindows) -> Finding | None:
    if answer.shifted < SHIFTED:
        return None
    first, second = answer.first or ("?", "?")
    title = f"{answer.shifted:.0%} of the val sequences hold a part of a train sequence, shifted: {second} of {first}"
    return found("DA124", "warn", title, evidence=answer.to_json())
