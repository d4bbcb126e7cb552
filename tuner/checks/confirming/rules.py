"""Rules over the confirming runs of step 6: the cause is the change that helps. Evidence: `search.confirm.answers`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tuner.checks.cards import Missing, found, need, rule
from tuner.checks.confirming.evidence import Confirming
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.core.confirming_arms import (
    CONTROL,
    FASTER,
    FREE,
    FREE_FASTER,
    FROM_SCRATCH,
    FULL_PRECISION,
    OFF,
    SLOWER,
    UNCLIPPED,
    WIDER,
)
from tuner.core.metrics import ConfirmingRun
from tuner.core.result import Finding, Proposal, Severity

COSTS = Limit("costs", 0.05, "accuracy", "derived: less is within what a search finds by itself")
COSTS_OF_WIDTH = Limit(
    "costs of width", 0.1, "accuracy", "derived: any wider model is a little ahead in a short run; twice COSTS"
)
REACHED = Limit(
    "reached", 0.7, "of the winner's accuracy", "derived: before that a run tells who learns faster, not who can"
)
DROPOUT = "model.dropout"
SMOOTHING, AUGMENTATION = "loss.label_smoothing", "data.augment"


def _helps(confirming: Confirming, name: str) -> ConfirmingRun | None:
    """Return the answer of a confirming run if it was made, because something asked for it, and helps."""
    answers = need(confirming.runs, confirming.why or "there were no confirming runs")
    answer = answers.get(name)
    if answer is None:
        return None
    if answer.accuracy is None:
        raise Missing(f"the confirming runs with {name} gave no accuracy")
    return answer if answer.helps else None


def _proved(code: str, confirming: Confirming, answer: ConfirmingRun, what: str, **more: Any) -> Finding:
    """Return the finding of a cause that a run proved; the largest gain is the likeliest cause."""
    gain, runs = answer.gain or 0.0, confirming.runs or {}
    best = max(runs.values(), key=lambda other: other.gain or 0.0)
    lifts = answer.fresh and CONTROL not in runs
    least = COSTS_OF_WIDTH if code == "CU619" else COSTS
    severity: Severity = "error" if lifts else "warn" if gain >= least else "note"
    against = "the majority class" if lifts else "the same run without it"
    title = f"{what}: accuracy {answer.accuracy:.3f} against {answer.control or 0.0:.3f} of {against}"
    seen = {key: getattr(answer, key) for key in ("arm", "accuracy", "control", "gain", "noise", "runs")}
    explained_by = CODE_OF.get(best.arm) if (best.gain or 0.0) > gain else None
    return replace(found(code, severity, title, evidence=seen, **more), explained_by=explained_by)


# the code of the arms that each have one: the largest gain is the likeliest cause, and explains the others
CODE_OF = {FASTER: "CU614", SLOWER: "CU615", SLOWER + FROM_SCRATCH: "CU615", FREE: "CU616", FREE_FASTER: "CU616"}
CODE_OF |= {WIDER + FROM_SCRATCH: "CU619", UNCLIPPED: "CU620", FULL_PRECISION: "CU621"}
CODE_OF |= {"loss.label_smoothing" + OFF: "CU617", "data.augment" + OFF: "CU618"}
CODE_OF |= {"model.dropout" + OFF: "CU616", "optimizer.weight_decay" + OFF: "CU616"}


@rule(
    "CU614",
    "lr-too-low",
    "diagnose",
    meaning="The same model learns clearly more at ten times the rate.",
    detected="a confirming run with the rate x 10, from the winner's weights, beside one that goes on as it was: "
    "accuracy higher by more than twice the noise of seeds and sampling, and by more than a point",
    why="What looks like a model that is too small is one that has hardly moved.",
    fix="Raise optimizer.lr, or the range that is searched: tuner lr-sweep says where the loss falls.",
    confused_with="underfitting for lack of capacity, which no rate fixes; a decayed schedule",
    source="CS231n notes: a nearly linear loss; section on confirming runs of the project's collection of diagnoses",
)
def rate_too_low(confirming: Confirming) -> Finding | None:
    answer = _helps(confirming, FASTER)
    if answer is None:
        return None
    proposals = [Proposal("optimizer.lr", "multiply", "a run with ten times the rate learns clearly more", 10.0)]
    return _proved("CU614", confirming, answer, "ten times the rate learns more", proposals=proposals)


@rule(
    "CU615",
    "lr-too-high",
    "diagnose",
    meaning="The same model learns clearly more at a tenth of the rate, from the start.",
    detected="a confirming run from new weights at a tenth of the rate, beside one at the recipe's, both short: "
    "accuracy higher by more than twice the noise",
    why="A rate that is only too high at the end (a plateau) would be ahead in a short run from the start.",
    fix="Divide optimizer.lr by three to ten, or warm up.",
    confused_with="a plateau, where a lower rate helps trained weights and not new ones",
    source="CS231n notes: a loss that stays high; Google tuning playbook, instability",
)
def rate_too_high(confirming: Confirming) -> Finding | None:
    beside_control = CONTROL in (confirming.runs or {})
    answer = _helps(confirming, SLOWER + FROM_SCRATCH if beside_control else SLOWER)
    if answer is None:
        return None
    proposals = [Proposal("optimizer.lr", "multiply", "a run with a tenth of the rate learns clearly more", 0.1)]
    return _proved("CU615", confirming, answer, "a tenth of the rate learns more", proposals=proposals)


@rule(
    "CU616",
    "over-regularised",
    "diagnose",
    meaning="With weight decay or dropout off, train and val accuracy rise together.",
    detected="a confirming run with all regularisation off (then one per regulariser; and where that alone does not "
    "help, at ten times the rate, which the decay may have forbidden): accuracy higher by more than "
    "twice the noise of seeds and sampling, and by more than a point",
    why="What looks like a model that is too small is one that is held back.",
    fix="Lower the weight decay or the dropout that is named, tenfold or to zero.",
    confused_with="underfitting for lack of capacity; a gap that regularisation keeps small, where val would not gain",
    source="TheDeepChecker: over-regularisation; CS231n notes",
)
def over_regularised(confirming: Confirming) -> Finding | None:
    answer, keys = _culprits(confirming)
    keys = [key for key in keys if key not in (SMOOTHING, AUGMENTATION)]
    if answer is None or not keys:
        return None
    reason = "a run without it learns clearly more"
    proposals = [Proposal(key, "lower", reason) for key in keys]
    own = not confirming.dropout_in_recipe
    named = ["the dropout of the model's code" if key == DROPOUT and own else key for key in keys]
    return _proved("CU616", confirming, answer, f"without {' and '.join(named)} it learns more", proposals=proposals)


@rule(
    "CU617",
    "smoothing-too-strong",
    "diagnose",
    meaning="With label smoothing off, train and val accuracy rise together.",
    detected="as CU616, with label smoothing as the regulariser that is off",
    why="The targets say little about the class, so little is learnt of it.",
    fix="Set loss.label_smoothing to 0.1 or less.",
    confused_with="the higher loss that any smoothing shows, which costs no accuracy",
    source="Szegedy et al. 2016, label smoothing (0.1)",
)
def smoothing_too_strong(confirming: Confirming) -> Finding | None:
    return _one_culprit("CU617", SMOOTHING, confirming)


@rule(
    "CU618",
    "augmentation-harms",
    "diagnose",
    meaning="With augmentation off, train and val accuracy rise together.",
    detected=f"as CU616, with augmentation as the regulariser that is off; and a gain of {COSTS:.0%}",
    why="An augmentation that changes what the label depends on teaches the wrong thing.",
    fix="Take out the augmentation that changes the meaning (a mirrored digit is no digit), or weaken it.",
    confused_with="valid augmentation, which slows the fit of train but not of val; a point or two are gained by "
    "ending any training without it",
    source="TheDeepChecker: augmentation; 37 reasons why your network is not working",
)
def augmentation_harms(confirming: Confirming) -> Finding | None:
    finding = _one_culprit("CU618", AUGMENTATION, confirming)
    return finding if finding is not None and finding.evidence["gain"] >= COSTS else None


def _one_culprit(code: str, key: str, confirming: Confirming) -> Finding | None:
    answer, keys = _culprits(confirming)
    if answer is None or key not in keys:
        return None
    answer = (confirming.runs or {}).get(key + OFF, answer)
    proposals = [Proposal(key, "lower", "a run without it learns clearly more")]
    return _proved(code, confirming, answer, f"without {key} it learns more", proposals=proposals)


def _culprits(confirming: Confirming) -> tuple[ConfirmingRun | None, list[str]]:
    """Return the answer with regularisation off if that helps, and the keys that are to blame, the heaviest first.

    Where no single one helps, all of them together are to blame.
    """
    answer = _helps(confirming, FREE) or _helps(confirming, FREE_FASTER)
    if answer is None:
        return None, []
    keys = [key for key in answer.changes if key != "optimizer.lr"]
    runs = confirming.runs or {}
    single = {key: runs[key + OFF] for key in keys if key + OFF in runs}
    blamed = [key for key, other in single.items() if other.helps]
    return answer, sorted(blamed, key=lambda key: -(single[key].gain or 0.0)) or keys


@rule(
    "CU619",
    "capacity-too-small",
    "diagnose",
    meaning="A model of twice the width learns clearly more in the same short run.",
    detected="accuracy stays low and nothing else helped; confirming runs from new weights with twice the width, "
    f"beside ones of the recipe's that come near the winner's accuracy; a warning from {COSTS_OF_WIDTH:.0%} on",
    why="Rate and regularisation were tried and are not to blame: the model cannot represent more.",
    fix="Widen or deepen the model.",
    confused_with="a rate that is too low, over-regularisation: tried first",
    source="CS231n notes: val tracks train when capacity is too low",
)
def capacity_too_small(curves: Curves, confirming: Confirming) -> Finding | None:
    answer = _helps(confirming, WIDER + FROM_SCRATCH)
    if answer is None or _culprits(confirming)[0] is not None:
        return None
    if (answer.control or 0.0) < REACHED * need(curves.val_accuracy, "the winner has no val accuracy"):
        raise Missing("the short runs are far from what the winner reached: they tell who learns faster, not who can")
    proposals = [Proposal("model.width", "double", "a run of twice the width learns clearly more")]
    return _proved("CU619", confirming, answer, "twice the width learns more", proposals=proposals)


@rule(
    "CU620",
    "gradient-clipped-away",
    "diagnose",
    meaning="Without clipping, the same model learns clearly more.",
    detected="a confirming run with train.clip_norm off: accuracy higher by more than twice the noise",
    why="A limit far below the usual norm of the gradients makes every step tiny, whatever the rate.",
    fix="Raise train.clip_norm to about the 90th percentile of the norms, or leave it out.",
    confused_with="a rate that is too low, which shows the same curve; clipping that only cuts rare spikes",
    source="Google tuning playbook: clipping more than half of the steps is extremely aggressive",
)
def gradients_clipped_away(confirming: Confirming) -> Finding | None:
    answer = _helps(confirming, UNCLIPPED)
    if answer is None:
        return None
    proposals = [Proposal("train.clip_norm", "lift", "a run without clipping learns clearly more")]
    return _proved("CU620", confirming, answer, "without clipping it learns more", proposals=proposals)


@rule(
    "CU621",
    "precision-problem",
    "diagnose",
    meaning="In fp32, the same model learns clearly more.",
    detected="a confirming run in fp32 where the winner was trained in 16 bits: accuracy higher by more than twice the "
    "noise",
    why="Sums, tiny updates or large outputs are lost in 16 bits.",
    fix="Set train.precision = 'fp32'.",
    confused_with="instability of the rate, which fp32 does not cure",
    source="Micikevicius et al. 2018, Mixed precision training",
)
def precision_too_short(confirming: Confirming) -> Finding | None:
    answer = _helps(confirming, FULL_PRECISION)
    if answer is None:
        return None
    proposals = [Proposal("train.precision", "set", "a run in fp32 learns clearly more", "fp32")]
    return _proved("CU621", confirming, answer, "fp32 learns more", proposals=proposals)
