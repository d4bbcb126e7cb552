"""Rules over the user's evaluate and metric, held against planned outputs (check-init): codes IN12x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.checks.cards import found, number, rule
from tuner.checks.limits import Limit
from tuner.checks.metric_check.evidence import MetricCheck
from tuner.core.result import Finding, Severity

SAME = Limit("same", 1e-4, "relative", "derived: rounding of means over 400 examples")
UNPAIRED = Limit("unpaired", 1e-6, "relative", "derived: sums of the same numbers in another order")


# what an "accuracy" is taken for, and how grave that is; "mean over ..." hangs on the data
MISREAD: dict[str, tuple[Severity, str]] = {
    "state": ("error", "is not the same when one model is evaluated twice: it carries state from call to call"),
    "percent": ("warn", "is in percent, not a share"),
    "error rate": ("error", "is the share of wrong answers"),
    "count": ("error", "is the number of right answers, not their share"),
    "last batch": ("error", "is that of the last batch alone"),
    "mean over classes": ("note", "is the mean over classes (balanced accuracy)"),
}


@rule(
    "IN120",
    "metric-wrong",
    "check-init",
    meaning="The accuracy that the recipe's evaluate reports is not the share of right answers.",
    detected="The model's outputs are replaced by planned ones, of which 80 %, 30 % and again 80 % are right, over "
    "batches of which the last is not full; what is reported must be that. The usual mistakes are known by their "
    "numbers: the mean over batches, top-k, percent, a count, values that remember the last call.",
    why="Every decision of the search rests on this number.",
    fix="Sum the right answers, (outputs.argmax(1) == targets).sum(), over all batches and divide by their number.",
    confused_with="A balanced accuracy, which is told apart; averaging of views of one example, which stays right.",
    source="Karpathy, A Recipe for Training Neural Networks; TheDeepChecker",
)
def accuracy_wrong(metric_check: MetricCheck) -> Finding | None:
    answer = metric_check.evaluate
    if answer is None:
        return None
    if answer["seen"] < 0.999:
        title = f"the recipe's evaluate looks at {answer['seen']:.0%} of the examples that it is given"
        return found("IN120", "warn", title, evidence=dict(answer))
    if "accuracy" not in answer or answer["reads"] == "accuracy":
        return None
    severity, text = _misread(answer)
    reported = ", ".join(f"{value:.3g}" for value in answer["accuracy"])
    planned = ", ".join(f"{value:.3g}" for value in answer["planned"])
    title = f"the accuracy that evaluate reports {text} (reported {reported}; right {planned})"
    return found("IN120", severity, title, evidence=dict(answer))


def _misread(answer: Mapping[str, Any]) -> tuple[Severity, str]:
    reads = answer["reads"]
    if reads is None:
        return "error", "is not the share of right answers: look at the axis of its argmax and what it divides by"
    if reads.startswith("top"):
        return "warn", f"counts an answer as right where its class is among the {reads.removeprefix('top ')} largest"
    if reads in ("mean over batches", "full batch size"):
        how = "is the mean over batches" if reads == "mean over batches" else "divides by full batches"
        if answer["partial_batch"]:
            return "warn", f"{how}, though the last one has fewer examples"
        return "note", f"{how}: right only while no batch has fewer examples"
    return MISREAD[reads]


@rule(
    "IN121",
    "metric-wrong",
    "check-init",
    meaning="The recipe's metric, or the value that is maximised, does not follow how good the outputs are.",
    detected="The metric is given planned outputs: of better and worse models, the same ones twice, in another "
    "order, and with the targets of other examples. Better ones must score better, equal ones equal, and others' "
    "targets otherwise; one that is named an accuracy must be it.",
    why="The search would choose models by something else than their answers.",
    fix="Compute it from all outputs and targets of the call, per example (dimension 1), and set train.monitor_mode.",
    confused_with="A loss-like metric, which falls as outputs get better: that is monitor_mode = min.",
    source="TheDeepChecker: a metric that is not representative; deep-learning folklore",
)
def metric_wrong(answer: MetricCheck) -> Finding | None:
    for name in ("metric", "evaluate"):
        facts = getattr(answer, name)
        if facts is not None and (problem := _problem(name, facts)) is not None:
            severity, title = problem
            return found("IN121", severity, title, evidence=dict(facts))
    return None


def _problem(name: str, facts: Mapping[str, Any]) -> tuple[Severity, str] | None:
    if _unpaired(facts):
        return "error", "the metric stays the same when the targets change places: it pairs every output with them all"
    if facts.get("improves") is not None and facts["improves"] <= 0 and facts.get("seen", 1.0) > 0:
        how = "gets worse" if facts["improves"] < 0 else "stays as it is"
        good, poor = facts["monitored"]
        return "error", f"{facts['monitor']} {how} as more answers are right ({poor:.4g} to {good:.4g})"
    if name != "metric":
        return None
    values = [number(value) for value in facts["values"]]
    if None in values:
        return "warn", "the metric of ordinary outputs is not finite"
    first, poor, again = (value or 0.0 for value in values)
    room = SAME * max(1.0, abs(first))
    if abs(first - again) > room:
        return "error", f"the metric of the same outputs is {first:.4g}, then {again:.4g}: it carries state"
    if abs(first - (number(facts["turned_round"]) or 0.0)) > room:
        return "error", "the metric changes when the examples are put into another order: it mixes them"
    if abs(first - poor) <= room:
        return "warn", "the metric does not change as more answers are right"
    if facts["named_accuracy"] and facts["reads"] not in ("accuracy", "mean over classes"):
        what = f": it is the {facts['reads']}" if facts["reads"] else ""
        return "warn", f"the metric {facts['name']} is not the share of right answers{what}"
    return None


def _unpaired(facts: Mapping[str, Any]) -> bool:
    """Return whether a metric that looks at the outputs is the same with other examples' targets.

    That is what a broadcast of (N, 1) with (N) gives.
    """
    values, apart = [number(value) for value in facts.get("values") or [None]], number(facts.get("torn_apart"))
    first = values[0]
    if first is None or apart is None or values[0] == values[1]:
        return False
    return abs(first - apart) <= UNPAIRED * max(1.0, abs(first))
