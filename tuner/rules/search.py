"""Rules of steps 4 and 5: the search. Evidence: the metrics of coarse and of fine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.formatting import value_text
from tuner.core.result import Finding
from tuner.core.statistics import cannot_be_told
from tuner.rules import Missing, found, need, rule
from tuner.rules.evaluation import ACCURACY, baseline, small_split

LEARNT = 0.9  # times the loss at constant outputs, below which a val loss has used the input
MANY = 0.5  # share of infeasible configurations that speaks about the space


def _none_left(code: str, evidence: Mapping[str, Any]) -> Finding | None:
    """Report that no configuration ended with a score, grouped by how they ended."""
    trials = need(evidence, "trials", "no trial was run")
    if _scored(evidence) or not trials:
        return None
    failures = evidence.get("failures", {})
    parts = [f"{entry['count']} {kind}: {_line(entry['message'])}" for kind, entry in sorted(failures.items())]
    if evidence["diverged"]:
        parts.append(f"{evidence['diverged']} diverged")
    seen = {"trials": trials, "diverged": evidence["diverged"], "failures": failures}
    return found(code, "error", f"all {trials} trials failed ({'; '.join(parts)})", evidence=seen)


def _scored(evidence: Mapping[str, Any]) -> int:
    """Return how many trials were trained, to the end or to a rung."""
    return int(evidence["completed"] + evidence.get("stopped", 0))


def _line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "no message"


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
def all_trials_failed(evidence: Mapping[str, Any]) -> Finding | None:
    if evidence.get("trials") is not None and evidence["diverged"] == evidence["trials"]:
        return None
    return _none_left("CO401", evidence)


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
def all_trials_diverged(evidence: Mapping[str, Any]) -> Finding | None:
    trials = need(evidence, "trials", "no trial was run")
    if not trials or evidence["diverged"] < trials:
        return None
    return found("CO402", "error", f"all {trials} configurations diverged", evidence={"diverged": trials})


@rule(
    "CO403",
    "at-baseline",
    "coarse",
    meaning="The best configuration is no better than always answering the commonest class.",
    detected="the 95 % interval (Wilson) of the best val accuracy reaches down to the share of the commonest class in "
    "val; an error where the interval is narrower than 5 points either way, else a warning. Where one class has more "
    "than half and the val loss is below nine tenths of that at uniform outputs and at the class shares, the input is "
    "used: the cause named is the imbalance, a note where something else than accuracy is monitored",
    why="A search among configurations that all ignore the input finds noise.",
    fix="Stop tuning: look at labels, loader and normalisation (steps 1 and 2), or give coarse more --epochs.",
    confused_with="a task that takes longer than coarse's epochs to get going; a val set too small to tell",
    source="CS231n notes; Karpathy, a recipe for training neural networks: the input-independent baseline",
)
def best_at_baseline(evidence: Mapping[str, Any]) -> Finding | None:
    accuracy = need(evidence, "best_val_accuracy", "no trial has a val accuracy")
    share = need(evidence, "majority_share", "the share of the commonest class is not known")
    n = need(evidence, "val_n", "the size of val is not known")
    return baseline("CO403", accuracy, n, share, _learnt(evidence), evidence.get("monitor", ACCURACY) == ACCURACY)


def _learnt(evidence: Mapping[str, Any]) -> str | None:
    """Say that the val loss is clearly below that of answers without the input, if it is and both are known."""
    loss, constant = evidence.get("best_val_loss"), evidence.get("constant_loss")
    if loss is None or constant is None or not loss < LEARNT * constant:
        return None
    return f"the val loss, {loss:.3g}, is below that of any answer without the input, {constant:.3g}"


def _edge(code: str, evidence: Mapping[str, Any], remedy: str) -> Finding | None:
    if evidence.get("best_params") is None:
        raise Missing("no trial has a score")
    at = evidence.get("at_border") or {}
    if not at:
        return None
    where = ", ".join(f"{key} = {value_text(evidence['best_params'][key])} ({end} end)" for key, end in at.items())
    seen = {"at_border": at, "params": evidence["best_params"]}
    return found(code, "note", f"the best lies at the border of the space: {where}", evidence=seen, remedy=remedy)


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
def coarse_best_at_edge(evidence: Mapping[str, Any]) -> Finding | None:
    return _edge("CO404", evidence, "")


@rule(
    "CO405",
    "trials-failed",
    "coarse",
    meaning="Some configurations failed: memory, data, a crash, or the recipe's own code.",
    detected="at least one trial failed, and at least one did not",
    why="What fails is no longer searched: the region may be good, and is not seen.",
    fix="Mend the cause in the message; for memory, search smaller batches or models.",
    source="Optuna #6085",
)
def some_failed(evidence: Mapping[str, Any]) -> Finding | None:
    need(evidence, "trials", "no trial was run")
    if not evidence["failed"] or not _scored(evidence):
        return None
    kinds = evidence.get("failures", {})
    parts = [f"{entry['count']} {kind}: {_line(entry['message'])}" for kind, entry in sorted(kinds.items())]
    title = f"{evidence['failed']} of {evidence['trials']} trials failed ({'; '.join(parts)})"
    return found("CO405", "warn", title, evidence={"failed": evidence["failed"], "failures": kinds})


@rule(
    "CO406",
    "lr-too-high",
    "coarse",
    meaning="More than half of the configurations diverged.",
    detected="diverged trials > 50 % of all, but not all",
    why="Most of the search was spent where nothing trains; the range of rates is too wide or too high.",
    fix='Search lower rates: "optimizer.lr" = "auto" takes the band of lr-sweep.',
    confused_with="another key that makes training explode (momentum near 1, no normalisation at depth)",
    source="Google tuning playbook: infeasible trials",
)
def many_diverged(evidence: Mapping[str, Any]) -> Finding | None:
    trials = need(evidence, "trials", "no trial was run")
    if not MANY * trials < evidence["diverged"] < trials:
        return None
    title = f"{evidence['diverged']} of {trials} configurations diverged"
    return found("CO406", "note", title, evidence={"diverged": evidence["diverged"], "trials": trials}, confidence=0.8)


@rule(
    "FI501",
    "winner-within-noise",
    "fine",
    meaning="The winner cannot be told from the runner-up.",
    detected="paired test on the same val examples (McNemar, each example one vote over the seeds) gives p >= 0.05, or "
    "the means over the seeds differ by less than twice the standard error of the difference",
    why="Chosen again with other seeds, or another val split, the runner-up might win.",
    fix="Take either; where one has clearly fewer parameters, it was taken. More --seeds or a larger val split would "
    "tell them apart.",
    confused_with="two configurations that are truly equal",
    source="McNemar 1947; Google tuning playbook: retrain the best trial to estimate its variance",
)
def winner_within_noise(evidence: Mapping[str, Any]) -> Finding | None:
    if evidence.get("runner_up") is None:
        raise Missing("there is no runner-up")
    p, gap, error = (evidence.get(key) for key in ("runner_up_p", "runner_up_gap", "runner_up_error"))
    if p is None and error is None:
        raise Missing("neither paired predictions nor several seeds per finalist")
    if not cannot_be_told(p, gap, error):
        return None
    said = [f"p = {p:.2g}"] if p is not None else []
    said += [f"difference {gap:.4f} +- {error:.4f} over the seeds"] if error is not None and gap is not None else []
    seen = {"runner_up_p": p, "difference": gap, "standard_error": error}
    title = f"the winner cannot be told from #2 ({', '.join(said)})"
    if reason := evidence.get("preferred"):
        title += f"; it was taken because {reason}"
    return found("FI501", "note", title, evidence=seen, confidence=0.95)


@rule(
    "FI502",
    "all-trials-failed",
    "fine",
    meaning="Not one configuration could be trained to its end.",
    detected="no trial has a score",
    why="There is no winner, and nothing to diagnose.",
    fix="Read the message of each kind; with diverging trials, search lower rates or add warm-up.",
    confused_with="a rate that holds for coarse's few epochs and breaks later",
    source="Google tuning playbook",
)
def fine_all_failed(evidence: Mapping[str, Any]) -> Finding | None:
    return _none_left("FI502", evidence)


@rule(
    "FI503",
    "best-at-edge",
    "fine",
    meaning="The winner has a value at an end of the narrowed range.",
    detected="the value lies within 5 % of the range from an end, in the sampled scale, and the end could be moved",
    why="The narrowing may have cut the optimum off.",
    fix="Widen the range in [search] and run coarse again.",
    confused_with="a flat optimum, where the end is as good as the middle",
    source="CS231n notes: careful with best values on border",
)
def fine_best_at_edge(evidence: Mapping[str, Any]) -> Finding | None:
    return _edge("FI503", evidence, "")


@rule(
    "FI504",
    "val-too-small",
    "fine",
    meaning="The val split is too small for the differences that this step is about.",
    detected="half the width of the 95 % interval (Wilson) of the winner's val accuracy > 2.5 points",
    why="Differences between good configurations are a point or less.",
    fix="Set a larger data.val_fraction, or read the winner as one of several equals.",
    confused_with="noise of the training itself, which more seeds show",
    source="Karpathy, a recipe: add significant digits to your eval; Google tuning playbook",
)
def fine_val_too_small(evidence: Mapping[str, Any]) -> Finding | None:
    accuracy = need(evidence, "best_val_accuracy", "no trial has a val accuracy")
    n = need(evidence, "val_n", "the size of val is not known")
    return small_split("FI504", "val", accuracy, n)


@rule(
    "FI505",
    "unstable",
    "fine",
    meaning="A finalist diverged or failed when it was trained again with another seed.",
    detected="a finalist has fewer scores than seeds",
    why="A configuration that trains only with some seeds is at the edge of stability.",
    fix="Prefer a finalist without failures (the winner is chosen so); lower its rate or add warm-up.",
    confused_with="a failure of the machine (memory, a crash), which the error says",
    source="Google tuning playbook: training instability",
)
def finalist_unstable(evidence: Mapping[str, Any]) -> Finding | None:
    finalists = need(evidence, "finalists", "there are no finalists")
    short = [entry for entry in finalists if entry.get("lost")]
    if not short:
        return None
    lost = sum(entry["lost"] for entry in short)
    title = f"{len(short)} of {len(finalists)} finalists lost {lost} of their repeats to divergence or failure"
    return found("FI505", "note", title, evidence={"finalists": [entry["trial"] for entry in short], "lost": lost})
