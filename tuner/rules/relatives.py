"""Rules over near-relatives across the split (check-init): codes DA123 and DA124."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, rule
from tuner.rules.init import probe

RARE = 0.01  # of val, ten times what chance gives; on the zoo sound splits give 0.003 at most
FEWEST = 5
AGREEING = 0.9
SHIFTED = 0.05
FLAT = 4.0  # in fewer dimensions the nearest is near by nature


@rule(
    "DA123",
    "train-val-overlap",
    "check-init",
    meaning="Examples of val have near-relatives in train: they were made from the same rows, scenes or patients.",
    detected=(
        "The nearest train neighbour of up to 400 val examples, against the tenth and the thirtieth: in as many "
        "dimensions as the examples fill further out, so near a one has a chance of 1 in 1000. More than "
        f"{RARE:.0%} of val have one, {AGREEING:.0%} of these with its label."
    ),
    why="Val then measures memory: rows interpolated or copied with noise before the split, or pictures of one patient "
    "on both sides, are no new examples.",
    fix="Split first, by the source (row, recording, patient), then oversample or augment train alone.",
    confused_with="Clusters, which lower the dimension that is measured and so make near neighbours likelier; copies "
    "within train alone, which val has no part in.",
    source="Levina and Bickel 2004 (distances to neighbours in d dimensions); Kapoor and Narayanan 2023, Leakage",
)
def relatives_in_train(evidence: Mapping[str, Any]) -> Finding | None:
    """Relatives across the split."""
    answer = probe(evidence, "relatives")
    if answer["dimension"] < FLAT:
        raise Missing(f"the examples fill {answer['dimension']:.1f} dimensions only, where near ones are common")
    if answer["hits"] < FEWEST or answer["rare"] <= RARE or (answer["agreeing"] or 0.0) < AGREEING:
        return None
    first, second = answer["first"]
    title = (
        f"{answer['rare']:.1%} of val lie nearer to a train example than 1 in 1000 would by chance, such as {second} "
        f"to {first}"
    )
    return found("DA123", "warn", title, evidence=dict(answer), confidence=0.9)


@rule(
    "DA124",
    "train-val-overlap",
    "check-init",
    meaning="Sequences of val overlap with sequences of train: they are windows of the same recordings.",
    detected=(
        "Three blocks of each val sequence, a quarter of its length, are looked for in the train sequences at every "
        f"other place: {SHIFTED:.0%} of val or more have one there, up to a factor and an offset."
    ),
    why="A window that shares most of its steps with one of train is no new example: val measures memory.",
    fix="Split by recording, or by time with a gap as long as a window, before cutting windows.",
    confused_with="Sequences that repeat exactly by nature, such as whole numbers, which are left out.",
    source="github.com/ermongroup/Wifi_Activity_Recognition issue 47; Hammerla and Ploetz 2015, neighbourhood bias",
)
def windows_overlap(evidence: Mapping[str, Any]) -> Finding | None:
    """Overlapping windows across the split."""
    answer = probe(evidence, "shifted_windows")
    if answer["shifted"] < SHIFTED:
        return None
    first, second = answer["first"]
    title = (
        f"{answer['shifted']:.0%} of the val sequences hold a part of a train sequence, shifted: {second} of {first}"
    )
    return found("DA124", "warn", title, evidence=dict(answer), confidence=0.95)
