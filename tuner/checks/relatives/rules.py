"""Rules over near-relatives across the split (check-init): codes DA123 and DA124."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, rule
from tuner.checks.limits import Limit
from tuner.checks.relatives.evidence import Relatives
from tuner.core.result import Finding

RARE = Limit("rare", 0.01, "of val", "derived: ten times what chance gives, RARE in relatives/measure.py")
FEWEST = Limit("fewest", 5, "examples", "derived: fewer may be chance")
AGREEING = Limit("agreeing", 0.9, "of the relatives", "derived: relatives share their label")
FLAT = Limit("flat", 4.0, "dimensions", "derived: in fewer the nearest is near by nature")


@rule(
    "DA123",
    "train-val-overlap",
    "check-init",
    meaning="Examples of val have near-relatives in train: they were made from the same rows, scenes or patients.",
    detected="The nearest train neighbour of up to 400 val examples, against the tenth and the thirtieth: in as many "
    f"dimensions as the examples fill further out, so near a one has a chance of 1 in 1000. More than {RARE:.0%} of "
    f"val have one, {AGREEING:.0%} of these with its label.",
    why="Val then measures memory: rows interpolated or copied with noise before the split, or pictures of one patient "
    "on both sides, are no new examples.",
    fix="Split first, by the source (row, recording, patient), then oversample or augment train alone.",
    confused_with="Clusters, which lower the dimension that is measured and so make near neighbours likelier; copies "
    "within train alone, which val has no part in.",
    source="Levina and Bickel 2004 (distances to neighbours in d dimensions); Kapoor and Narayanan 2023, Leakage",
)
def relatives_in_train(answer: Relatives) -> Finding | None:
    if answer.dimension < FLAT:
        raise Missing(f"the examples fill {answer.dimension:.1f} dimensions only, where near ones are common")
    if answer.hits < FEWEST or answer.rare <= RARE or (answer.agreeing or 0.0) < AGREEING:
        return None
    first, second = answer.first or ("?", "?")
    title = (
        f"{answer.rare:.1%} of val lie nearer to a train example than 1 in 1000 would by chance, such as {second} "
        f"to {first}"
    )
    return found("DA123", "warn", title, evidence=answer.to_json())
