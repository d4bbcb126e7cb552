"""Rules over a value of the recipe that the search left far behind (coarse): codes CO407 to CO410."""

from __future__ import annotations

from collections.abc import Callable

from tuner.checks.cards import found, need, rule
from tuner.checks.coarse.evidence import Coarse
from tuner.checks.limits import Limit
from tuner.core.formatting import value_text
from tuner.core.result import Finding
from tuner.core.statistics import difference_interval

FAR = Limit("far", 0.1, "accuracy", "derived: more than the best of a few configurations gains by chance")
DETECTED = (
    "The recipe's own configuration, trained to the end as every search does, is behind the best by more than "
    f"{FAR:.0%} at the lower end of the 95 % interval (Newcombe); and of all searched keys this is the one whose value "
    "in the recipe lies outside the values of every configuration that came near the best."
)
CONFUSED = "A key that happens to go with another: only keys that no good configuration shares with the recipe count."
SOURCE = "Google tuning playbook: look at the best trials against the hyperparameters before trusting the search"


def _behind(code: str, search: Coarse, is_one: Callable[[str], bool], what: str) -> Finding | None:
    keys = [key for key in search.left_behind if is_one(key)]
    if not keys:
        return None
    own = need(search.own_accuracy, "the recipe's own configuration has no val accuracy")
    best = need(search.best_val_accuracy, "no trial has a val accuracy")
    n = need(search.val_n, "the size of val is not known")
    low, high = difference_interval(best, n, own, n)
    if low <= FAR:
        return None
    key = keys[0]
    values = search.left_behind[key]
    title = (
        f"the recipe's {key} = {value_text(values['own'])} is the fault: accuracy {own:.3f}, and {best:.3f} with "
        f"{value_text(values['best'])} ({what})"
    )
    seen = {"key": key, **values, "own_accuracy": own, "best_accuracy": best, "interval": [low, high]}
    remedy = f"Set {key} to what the search found, or near it, and take the old value out of what is searched."
    return found(code, "warn", title, evidence=seen, remedy=remedy)


def _holds_back(key: str) -> bool:
    return key.rsplit(".", 1)[-1] in ("weight_decay", "dropout", "augment", "l1", "max_norm", "drop_path")


def _smooths(key: str) -> bool:
    return key.startswith("loss.") and "smooth" in key


def _is_of_loss(key: str) -> bool:
    return key.startswith("loss.") and not _smooths(key)


def _is_size(key: str) -> bool:
    return key.rsplit(".", 1)[-1] in ("width", "depth", "hidden", "channels", "heads", "layers")


@rule(
    "CO407",
    "over-regularised",
    "coarse",
    meaning="The recipe's own weight decay, dropout or augmentation kept the model from learning; the search cured it.",
    detected=DETECTED,
    why="The winner hides the fault: whoever takes the recipe as it is trains a model that hardly learns.",
    fix="Set the key to what the search found.",
    confused_with=CONFUSED,
    source=SOURCE,
)
def regularised_away(search: Coarse) -> Finding | None:
    return _behind("CO407", search, _holds_back, "a regulariser that was too strong")


@rule(
    "CO408",
    "smoothing-too-strong",
    "coarse",
    meaning="The recipe's own label smoothing kept the model from learning; the search cured it.",
    detected=DETECTED,
    why="The winner hides the fault: the targets of the recipe say little about the class.",
    fix="Set the key to what the search found, 0.1 or less.",
    confused_with=CONFUSED,
    source=SOURCE,
)
def smoothed_away(search: Coarse) -> Finding | None:
    return _behind("CO408", search, _smooths, "a smoothing that was too strong")


@rule(
    "CO409",
    "loss-mismatch",
    "coarse",
    meaning="An argument of the recipe's loss (a margin, a weight, a temperature) was the fault; the search cured it.",
    detected=DETECTED,
    why="The winner hides the fault: with the recipe's value the loss asks for something else than right answers.",
    fix="Set the key to what the search found.",
    confused_with=CONFUSED,
    source=SOURCE,
)
def loss_argument_left_behind(search: Coarse) -> Finding | None:
    return _behind("CO409", search, _is_of_loss, "an argument of the loss")


@rule(
    "CO410",
    "capacity-too-small",
    "coarse",
    meaning="The recipe's own model was too small; the search cured it.",
    detected=DETECTED + " The better value is the larger one.",
    why="The winner hides the fault: what the recipe says cannot represent the data.",
    fix="Set the key to what the search found.",
    confused_with=CONFUSED,
    source=SOURCE,
)
def too_small_left_behind(search: Coarse) -> Finding | None:
    left = search.left_behind.items()
    larger = {key for key, item in left if _is_size(key) and item["best"] > item["own"]}
    return _behind("CO410", search, lambda key: key in larger, "a model that was too small")
