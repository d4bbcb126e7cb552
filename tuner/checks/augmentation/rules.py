"""Rules over pixels in the wrong place and what augmentation makes of the examples (check-init): DA119 to DA121."""

from __future__ import annotations

from tuner.checks.augmentation.evidence import Augmentation
from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.limits import Limit
from tuner.core.result import Finding

BLANKED = Limit("blanked", 0.2, "of the augmented inputs", "zoo: usual cropping and erasing leave single ones at most")
LEFT = Limit("left", 0.25, "of what is read from clean inputs", "zoo: usual augmentation leaves more than half")
SIGNAL = Limit("signal", 0.2, "accuracy above chance", "derived: with less in clean inputs nothing can be lost")
SHIFT = Limit("shift", 1.0, "of the clean inputs' spread", "zoo: colour jitter moves means by less than half")
RATIOS = (
    Limit("low ratio", 0.4, "of the clean inputs' spread", "zoo: usual augmentation stays within"),
    Limit("high ratio", 2.5, "of the clean inputs' spread", "zoo: usual augmentation stays within"),
)
LEFT_OF_MIRRORED = Limit(
    "left of mirrored",
    0.5,
    "of what is read from clean inputs",
    "zoo: mirrored photographs, symmetric marks",
)
ENOUGH_MIRRORED = Limit("enough mirrored", 50, "examples", "derived: one in fifty is 2 %")
MISPAIRED = Limit(
    "mispaired",
    0.2,
    "of the moved inputs",
    "derived: with its labels none is; equal pictures of two classes are few",
)


@rule(
    "DA120",
    "augmentation-harms",
    "check-init",
    meaning="Augmentation destroys what the label depends on.",
    detected="The same examples with and without augmentation: many become a single value, or their scale leaves "
    "that of val; or a kernel classifier reads less than a quarter as much from augmented examples as from clean "
    "ones, above chance, even when it is made on augmented ones.",
    why="The model trains on inputs without an answer, or unlike those that it will be asked about.",
    fix="Look at some augmented examples; choose padding and holes for the size of these images, and pixel ranges.",
    confused_with="Strong augmentation that keeps the label: train accuracy falls below val, and val gains.",
    source="TheDeepChecker (augmentation check); 37 reasons: too much augmentation",
    explained_by=("DA121",),
)
def augmentation_destroys(answer: Augmentation) -> Finding | None:
    if not answer.augments:
        return None
    facts = answer.to_json()
    if not answer.finite:
        return found("DA120", "error", "augmented inputs are not finite", evidence=facts)
    if answer.blanked > BLANKED:
        title = f"{answer.blanked:.0%} of the augmented inputs hold one single value"
        return found("DA120", "warn", title, evidence=facts)
    if abs(answer.shift or 0.0) > SHIFT or not RATIOS[0] < (answer.ratio or 0.0) < RATIOS[1]:
        title = (
            f"augmented inputs are on another scale than val's: shifted by {answer.shift:.2g} of the spread, "
            f"{answer.ratio:.2g} times as spread"
        )
        return found("DA120", "warn", title, evidence=facts)
    clean = number(answer.clean)
    if clean is None or clean - answer.chance < SIGNAL or (answer.mispaired or 0.0) >= MISPAIRED:
        return None  # what can be read says nothing about augmentation where the labels are others'
    left = (max(answer.augmented, answer.relearned) - answer.chance) / (clean - answer.chance)
    if left >= LEFT:
        return None
    best = max(answer.augmented, answer.relearned)
    title = f"a classifier that reads {clean:.0%} of clean examples right reads {best:.0%} of augmented ones"
    return found("DA120", "warn", title, evidence={**facts, "left": left})


@rule(
    "DA121",
    "misaligned-labels",
    "check-init",
    meaning="Augmentation moves or mixes the inputs of a batch and leaves the labels where they were.",
    detected="Hashes of the inputs of a batch before and after augmentation: where an input is another example of "
    "the batch, its label must be that example's. And where an input is a weighted mean with another example that "
    "outweighs it, so must its label.",
    why="The model is taught wrong labels for all examples that moved.",
    fix="Apply the same permutation or selection to the targets, and give them back.",
    confused_with="Means of two examples that keep the larger part's label, which regularise (sample pairing).",
    source="derived",
)
def augmentation_mispairs(answer: Augmentation) -> Finding | None:
    if not answer.augments:
        return None
    if (answer.outweighed or 0.0) >= MISPAIRED:
        title = f"{answer.outweighed:.0%} of the augmented inputs are mostly another example, without its label"
        remedy = "Mix the labels as well: in train.step, share * loss(outputs, targets) + (1 - share) * loss(outputs, "
        remedy += "targets[partner]); or keep the share of the input's own above one half."
        return found("DA121", "error", title, evidence=answer.to_json(), remedy=remedy)
    if answer.mispaired is None or answer.moved < 5:
        return None
    if answer.relabelled > 0.9:
        raise Missing("augmentation gives nearly all examples other labels")
    if answer.mispaired < MISPAIRED:
        return None
    title = f"{answer.mispaired:.0%} of the {answer.moved} inputs that augmentation moved have another's label"
    return found("DA121", "error", title, evidence=answer.to_json())


@rule(
    "DA127",
    "augmentation-harms",
    "check-init",
    meaning="Mirrored or turned, the examples are no longer what their labels say.",
    detected="A kernel classifier that was made on clean examples is asked about others that augmentation mirrored "
    f"or turned: above chance, it reads less than {LEFT_OF_MIRRORED:.0%} of what it reads of clean ones; of "
    f"{ENOUGH_MIRRORED} or more.",
    why="A mirrored 5 is no digit, and val has none: the model spends itself on pictures that nobody will ask about, "
    "and some of them look like another class.",
    fix="Leave the flip or the turn out, unless the pictures that you will ask about come so as well.",
    confused_with="Photographs, which mirrored left and right are still read as before; symmetric marks.",
    source="Shorten and Khoshgoftaar 2019, A survey on image data augmentation: safety of a transform (6 and 9)",
    explained_by=("DA120", "DA121", "DA122"),
)
def mirrored_is_another_thing(answer: Augmentation) -> Finding | None:
    clean, read = number(answer.clean), number(answer.of_mirrored)
    if clean is None or read is None or answer.mirrored < ENOUGH_MIRRORED or clean - answer.chance < SIGNAL:
        return None
    left = (read - answer.chance) / (clean - answer.chance)
    if left >= LEFT_OF_MIRRORED:
        return None
    title = f"a classifier that reads {clean:.0%} of clean examples right reads {read:.0%} of mirrored or turned ones"
    facts = answer.only("clean", "of_mirrored", "mirrored", "chance")
    return found("DA127", "warn", title, evidence={**facts, "left": left})
