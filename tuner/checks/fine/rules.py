"""Rules of steps 4 and 5: the search. Evidence: the metrics of coarse and of fine."""

from __future__ import annotations

from tuner.checks.baseline import SMALL_HALF_WIDTH, small_split
from tuner.checks.cards import Missing, found, need, rule
from tuner.checks.fine.evidence import Fine
from tuner.checks.search_results import edge, none_left
from tuner.core.result import Finding
from tuner.core.statistics import is_indistinguishable


@rule(
    "FI501",
    "winner-within-noise",
    "fine",
    meaning="The winner cannot be distinguished from the runner-up.",
    detected="paired test on the same val examples (McNemar, each example one vote over the seeds) gives p >= 0.05, or "
    "the means over the seeds differ by less than twice the standard error of the difference",
    why="Chosen again with other seeds, or another val split, the runner-up might win.",
    fix="Take either; where one has clearly fewer parameters, it was taken. More --seeds or a larger val split would "
    "tell them apart.",
    confused_with="two configurations that are truly equal",
    source="McNemar 1947; Google tuning playbook: retrain the best trial to estimate its variance",
)
def winner_within_noise(search: Fine) -> Finding | None:
    if search.runner_up is None:
        raise Missing("there is no runner-up")
    p, gap, error = search.runner_up_p, search.runner_up_gap, search.runner_up_error
    if p is None and error is None:
        raise Missing("neither paired predictions nor several seeds per finalist")
    if not is_indistinguishable(p, gap, error):
        return None
    said = [f"p = {p:.2g}"] if p is not None else []
    said += [f"difference {gap:.4f} +- {error:.4f} over the seeds"] if error is not None and gap is not None else []
    seen = {"runner_up_p": p, "difference": gap, "standard_error": error}
    title = f"the winner cannot be distinguished from #2 ({', '.join(said)})"
    if reason := search.preferred:
        title += f"; it was taken because {reason}"
    return found("FI501", "note", title, evidence=seen)


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
def fine_all_failed(search: Fine) -> Finding | None:
    return none_left("FI502", search)


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
def fine_best_at_edge(search: Fine) -> Finding | None:
    return edge("FI503", search, "")


@rule(
    "FI504",
    "val-too-small",
    "fine",
    meaning="The val split is too small for the differences that this step is about.",
    detected=f"half the width of the 95 % interval (Wilson) of the winner's val accuracy > {SMALL_HALF_WIDTH:.1%}",
    why="Differences between good configurations are a point or less.",
    fix="Set a larger data.val_fraction, or read the winner as one of several equals.",
    confused_with="noise of the training itself, which more seeds show",
    source="Karpathy, a recipe: add significant digits to your eval; Google tuning playbook",
)
def fine_val_too_small(search: Fine) -> Finding | None:
    accuracy = need(search.best_val_accuracy, "no trial has a val accuracy")
    n = need(search.val_n, "the size of val is not known")
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
def finalist_unstable(search: Fine) -> Finding | None:
    if not search.finalists:
        raise Missing("there are no finalists")
    short = [entry for entry in search.finalists if entry.lost]
    if not short:
        return None
    lost = sum(entry.lost for entry in short)
    title = f"{len(short)} of {len(search.finalists)} finalists lost {lost} of their repeats to divergence or failure"
    return found("FI505", "note", title, evidence={"finalists": [entry.trial for entry in short], "lost": lost})
