"""Rules of steps 4 and 5: the search. Evidence: the metrics of coarse and of fine."""

from __future__ import annotations

from tuner.checks.baseline import CONTRADICTS, EVEN, HIDES, SURE_HALF_WIDTH, AtBaseline, baseline
from tuner.checks.cards import found, need, rule
from tuner.checks.coarse.evidence import Coarse
from tuner.checks.limits import Limit
from tuner.checks.search_results import edge, first_line, none_left, scored
from tuner.core.result import Finding

LEARNT = Limit("learnt", 0.9, "of the loss at constant outputs", "zoo: models that ignore their input stay above")
MANY = Limit("many", 0.5, "of the configurations", "derived: more than half says something of the space")


@rule(
    "CO401",
    "all-trials-failed",
    "coarse",
    meaning="Not one configuration could be trained to its end.",
    detected="no trial has a score, and not all of them diverged",
    why="When everything fails the cause is shared: the code, the data, the memory, or the space itself.",
    fix="Read the message of each kind; run one configuration alone (--trials 1 --workers 0) to see it again.",
    source="Google tuning playbook: a high share of infeasible trials can indicate a bug",
)
def all_trials_failed(search: Coarse) -> Finding | None:
    if search.trials is not None and search.diverged == search.trials:
        return None
    return none_left("CO401", search)


@rule(
    "CO402",
    "lr-too-high",
    "coarse",
    meaning="Every configuration diverged.",
    detected="all trials have the status diverged",
    why="The space holds nothing that trains; its rates are the first suspect.",
    fix='Search lower rates: "optimizer.lr" = "auto" takes the band of lr-sweep.',
    confused_with="non-finite inputs, which diverge at any rate",
    source="CS231n notes",
)
def all_trials_diverged(search: Coarse) -> Finding | None:
    trials = need(search.trials, "no trial was run")
    if not trials or search.diverged < trials:
        return None
    return found("CO402", "error", f"all {trials} configurations diverged", evidence={"diverged": trials})


@rule(
    "CO403",
    "at-baseline",
    "coarse",
    meaning="The best configuration is no better than always answering the majority class.",
    detected="the 95 % interval (Wilson) of the best val accuracy reaches down to the share of the majority class in "
    f"val; an error where the interval is narrower than {SURE_HALF_WIDTH:.0%} either way, else a warning. Where one "
    "class has more than half and the val loss is below nine tenths of that at uniform outputs and at the class "
    "shares, the input is used: the cause named is the imbalance, a note where something else than accuracy is "
    "monitored",
    why="A search among configurations that all ignore the input finds noise.",
    fix="Stop tuning: look at labels, loader and normalisation (steps 1 and 2), or give coarse more --epochs.",
    confused_with="a task that takes longer than coarse's epochs to get going; a val set too small to tell",
    source="CS231n notes; Karpathy, a recipe for training neural networks: the input-independent baseline",
)
def best_at_baseline(search: Coarse) -> Finding | None:
    return baseline("CO403", "ignores", _seen(search), _learnt(search))


@rule(
    "CO412",
    "metric-wrong",
    "coarse",
    detected=f"accuracy as in CO403, no class has more than {EVEN:.0%} of val, and the val loss is below that of any "
    "constant answer",
    **CONTRADICTS,
)
def metric_contradicts(search: Coarse) -> Finding | None:
    return baseline("CO412", "contradicts", _seen(search), _learnt(search))


@rule(
    "CO411",
    "class-imbalance",
    "coarse",
    detected=f"accuracy as in CO403, one class has more than {EVEN:.0%} of val, and the val loss is below that of any "
    "constant answer",
    **HIDES,
)
def majority_hides_it(search: Coarse) -> Finding | None:
    return baseline("CO411", "hides", _seen(search), _learnt(search), search.monitor == "val_accuracy")


def _learnt(search: Coarse) -> str | None:
    """Say that the val loss is clearly below that of answers without the input, if it is and both are known."""
    loss, constant = search.best_val_loss, search.constant_loss
    if loss is None or constant is None or not loss < LEARNT * constant:
        return None
    return f"the val loss, {loss:.3g}, is below that of any answer without the input, {constant:.3g}"


@rule(
    "CO404",
    "best-at-edge",
    "coarse",
    meaning="The best configuration has a value at an end of its range, so a better one may lie beyond.",
    detected="the value lies within 5 % of the range from an end, in the sampled scale, and the end could be moved",
    why="An optimum at the border of a search is no optimum.",
    fix="Nothing by hand: the space of fine reaches beyond that border.",
    confused_with="a flat optimum, where the end is as good as the middle",
    source="CS231n notes: careful with best values on border; Google tuning playbook: bad search space boundaries",
)
def coarse_best_at_edge(search: Coarse) -> Finding | None:
    return edge("CO404", search, "")


@rule(
    "CO405",
    "trials-failed",
    "coarse",
    meaning="Some configurations failed: memory, data, a crash, or the recipe's own code.",
    detected="at least one trial failed, and at least one did not",
    why="What fails is no longer searched: the region may be good, and is not seen.",
    fix="Fix the cause in the message; for memory, search smaller batches or models.",
    source="Optuna #6085",
)
def some_failed(search: Coarse) -> Finding | None:
    need(search.trials, "no trial was run")
    if not search.failed or not scored(search):
        return None
    kinds = search.failures
    parts = [f"{entry['count']} {kind}: {first_line(entry['message'])}" for kind, entry in sorted(kinds.items())]
    title = f"{search.failed} of {search.trials} trials failed ({'; '.join(parts)})"
    return found("CO405", "warn", title, evidence={"failed": search.failed, "failures": kinds})


@rule(
    "CO406",
    "lr-too-high",
    "coarse",
    meaning="More than half of the configurations diverged.",
    detected=f"diverged trials > {MANY:.0%} of all, but not all",
    why="Most of the search was spent where nothing trains; the range of rates is too wide or too high.",
    fix='Search lower rates: "optimizer.lr" = "auto" takes the band of lr-sweep.',
    confused_with="another key that makes training explode (momentum near 1, no normalisation at depth)",
    source="Google tuning playbook: infeasible trials",
)
def many_diverged(search: Coarse) -> Finding | None:
    trials = need(search.trials, "no trial was run")
    if not MANY * trials < search.diverged < trials:
        return None
    title = f"{search.diverged} of {trials} configurations diverged"
    return found("CO406", "note", title, evidence={"diverged": search.diverged, "trials": trials})


def _seen(search: Coarse) -> AtBaseline:
    accuracy = need(search.best_val_accuracy, "no trial has a val accuracy")
    share = need(search.majority_share, "the share of the majority class is not known")
    return AtBaseline(accuracy, need(search.val_n, "the size of val is not known"), share)
