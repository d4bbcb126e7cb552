"""What coarse, fine and diagnose read off finished trials: accuracies, failures, the size of val, the baseline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuner.core.formatting import value_text
from tuner.core.metrics import CheckInitMetrics
from tuner.core.result import Record
from tuner.core.trial import canonical_json
from tuner.recipe.model import Recipe
from tuner.recipe.space import RATE, Auto, Space, space_of
from tuner.search.narrow import Scored

PREDICTIONS = "val_predictions"
EVEN = 0.01  # nats below log C


def scored(records: Iterable[Record]) -> list[Record]:
    """Return the records that have a finite score, best first; ties: the lower val loss, then the earlier trial."""
    finite = [record for record in records if record.result.score is not None and math.isfinite(record.result.score)]
    usable = [record for record in finite if record.result.status in ("completed", "stopped")]
    return sorted(usable, key=lambda record: (-(record.result.score or 0.0), val_loss(record), record.number))


def as_scored(records: Iterable[Record]) -> list[Scored]:
    return [Scored(record.params, float(record.result.score or 0.0)) for record in records]


def val_accuracy(record: Record) -> float | None:
    """Return the val accuracy at the best epoch."""
    return _number((record.best_row("val") or {}).get("accuracy"))


def monitor_of(recipe: Recipe, initial: CheckInitMetrics) -> str:
    """Return what is monitored: the recipe's, or the task's own score where the recipe names none (of check-init)."""
    name = initial.score_name
    return f"val_{name}" if name else recipe.train.monitor


def best_score(record: Record | None, monitor: str) -> float | None:
    """Return the monitored value of a trial's best epoch as it was measured, whichever way is better."""
    return None if record is None else _number((record.best_row("val") or {}).get(monitor.removeprefix("val_")))


def val_loss(record: Record) -> float:
    """Return the val loss at the best epoch, infinite where there is none."""
    return loss_of(record.best_row("val") or {})


def constant_loss(initial: CheckInitMetrics) -> float | None:
    """Return the lower of the loss function's values at uniform outputs and at the class shares (of check-init).

    Where the class shares have no outputs of the model's form, and are even to a hundredth of a nat, the first alone.
    """
    uniform, prior, log_c, entropy = (
        _number(value)
        for value in (initial.loss_at_uniform, initial.loss_at_prior, initial.log_c, initial.prior_entropy)
    )
    even = log_c is not None and entropy is not None and log_c - entropy < EVEN
    if uniform is None or prior is None:
        return uniform if even else None
    return min(uniform, prior)


def loss_of(row: Mapping[str, Any]) -> float:
    """Return the loss of a curve's row, infinite where there is none."""
    found = _number(row.get("loss"))
    return math.inf if found is None else found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def counts(records: Sequence[Record]) -> dict[str, Any]:
    """Return how many trials there are, how they ended, and the failures by kind with one message each."""
    statuses = Counter(record.result.status for record in records)
    failures: dict[str, dict[str, Any]] = {}
    for record in records:
        if (error := record.result.error) is not None:
            entry = failures.setdefault(error.kind, {"count": 0, "message": error.message})
            entry["count"] += 1
    return {
        "trials": len(records),
        "completed": statuses["completed"],
        "stopped": statuses["stopped"],
        "diverged": statuses["diverged"],
        "failed": statuses["failed"],
        "failures": failures,
    }


def val_facts(initial: CheckInitMetrics, records: Sequence[Record]) -> dict[str, Any]:
    """Return `val_n` and `majority_share` as far as known: from the trials' predictions, or check-init's scan."""
    facts: dict[str, Any] = {"val_n": None, "majority_share": None}
    for record in records:
        evidence = record.result.evidence.get(PREDICTIONS, {})
        for name, key in (("val_n", "n"), ("majority_share", "majority_share")):
            if facts[name] is None and _number(evidence.get(key)) is not None:
                facts[name] = evidence[key]
    numbers = list(initial.data["val"].class_counts) if "val" in initial.data else []
    if numbers and sum(numbers) > 0:
        facts["val_n"] = facts["val_n"] or sum(numbers)
        if facts["majority_share"] is None:
            facts["majority_share"] = max(numbers) / sum(numbers)
    return facts


def same_params(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return canonical_json(dict(a)) == canonical_json(dict(b))


def words(params: Mapping[str, Any]) -> str:
    """Return parameters as a person would write them: `lr 0.02, weight_decay 5e-4`."""
    texts = (f"{key.rpartition('.')[2]} {value_text(value)}" for key, value in params.items())
    return ", ".join(texts) or "the recipe as it is"


def searched_space(recipe: Recipe, choice: Mapping[str, Any]) -> Space:
    """Return the recipe's space with the band of lr-sweep (its `choice`) put in.

    Without a band, which happens by force alone, `auto` is the recipe's rate / 10 to x 10.
    """
    space = space_of(recipe.search)
    if choice.get("lr_low") is not None and choice.get("lr_high") is not None:
        return space.with_rate(choice["lr_low"], choice["lr_high"], "the band of lr-sweep")
    rate = recipe.optimizer.lr
    return space.with_rate(
        rate / 10, rate * 10, f"no band from lr-sweep: the recipe's rate {value_text(rate)} / 10 to x 10"
    )


def rate_is_auto(recipe: Recipe) -> bool:
    """Return whether the rate is taken from lr-sweep."""
    space = space_of(recipe.search)
    return RATE in space and isinstance(space[RATE].domain, Auto)


def base_values(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Return the recipe's own values of the keys that vary and of those that conditions ask about."""
    return {key: recipe.value(key) for key in dict.fromkeys([*space.keys, *space.conditions()])}


def own_params(recipe: Recipe, space: Space, choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's own configuration in terms of the space, with the rate of lr-sweep where that one varies."""
    base = base_values(recipe, space)
    params = {key: base[key] for key in space.keys if base[key] is not None}
    if RATE in space and choice.get("lr") is not None:
        params[RATE] = choice["lr"]
    return space.active(params, base)
