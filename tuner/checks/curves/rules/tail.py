"""Rules of step 6: what the winner's curves say. Evidence: `search.curve_facts`."""

from __future__ import annotations

import statistics
from typing import Any

from tuner.checks.cards import Missing, found, need, rule, series
from tuner.checks.confirming.evidence import Confirming
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.core.confirming_arms import CONTROL, FROM_SCRATCH, SLOWER
from tuner.core.result import Finding, Proposal
from tuner.core.statistics import binomial_noise, drift, moving, robust_sigma, theil_sen, wilson, wilson_half

ENOUGH = Limit("enough", 5, "evaluations", "derived: fewer have no tail")
GAP = Limit("gap", 0.05, "accuracy", "CS231n notes: a gap leaves room to regularise; 5 points are beyond sampling here")
NO_GAP = Limit("no gap", 0.03, "accuracy", "CS231n notes: val tracks train")
RATE_GONE = Limit("rate gone", 0.02, "of the highest lr", "derived: an end of the schedule, not a phase of it")
LATE = Limit("late", 0.75, "of the epochs", "Google tuning playbook: best step in the last 25 % of training")
UNSTABLE = Limit(
    "unstable",
    1.5,
    "times the sampling noise of val",
    "zoo: successive models see the same examples and differ by less",
)
UPSET = Limit("upset", 5, "times the first running loss", "zoo: sound runs with batch norm stay below")
STILL_FALLS = Limit("still falls", 0.1, "of its own level", "zoo: a plateau falls by less over the tail")
EARLY = Limit("early", 0.1, "of the epochs", "Google tuning playbook: best step in the first 10 % of training")
ENOUGH_TO_CUT = Limit("enough to cut", 10, "epochs", "derived: a tenth of fewer is no epoch")
EPOCHS = "stages.fine.epochs"
CEILING = Limit("ceiling", 0.995, "train accuracy", "derived: there is nothing left to fit above")


def _helped(confirming: Confirming) -> list[str]:
    """Return the confirming runs that helped: with one of them the cause has a finding of its own."""
    return [name for name, answer in (confirming.runs or {}).items() if answer.helps]


def _answer(confirming: Confirming, arm: str) -> bool | None:
    """Return whether a confirming run helped; None where it was not made."""
    answers = confirming.runs or {}
    return answers[arm].helps if arm in answers else None


def _best_is_late(curves: Curves) -> bool:
    """Return whether the best epoch lies in the last quarter of the run."""
    return (curves.best_epoch or 0) > LATE * curves.epochs


def _rate_gone(curves: Curves) -> bool:
    rates = curves.lrs or []
    return bool(rates) and rates[-1] < RATE_GONE * max(rates)


@rule(
    "CU601",
    "train-longer",
    "diagnose",
    meaning="Val accuracy was still rising when the training ended.",
    detected=f"the best epoch lies beyond {LATE:.0%} of the epochs, val accuracy drifts upwards over the tail by more "
    "than twice its noise and by more than half its sampling interval, the rate has not decayed to nothing, and val "
    "loss has not risen since the first half of the run",
    why="A run cut short says little about its configuration; schedules and regularisation are then tuned for haste.",
    fix="Train half as long again, keeping the shape of the schedule.",
    confused_with="a schedule that has ended the training by itself; accuracy that rises while val loss does as well",
    source="Google tuning playbook: best step in the last 25 % of training",
)
def train_longer(curves: Curves) -> Finding | None:
    accuracy = series(curves.val_accuracies, "val accuracies", ENOUGH)
    best, epochs = curves.best_epoch, curves.epochs
    rise = drift(accuracy)
    n = curves.val_n
    half = wilson_half(min(1.0, accuracy[-1]), n) if n else 0.0
    if not _best_is_late(curves) or rise <= max(2 * robust_sigma(accuracy), half) or _rate_gone(curves):
        return None
    if _at_baseline(curves) or _loss_has_turned(curves):
        return None
    title = (
        f"val accuracy still rises at the end, by {100 * rise:.1f} points over the last {max(4, epochs // 4)} epochs"
    )
    reason = f"best epoch {best} of {epochs}, val accuracy still rising"
    seen = {"best_epoch": best, "epochs": epochs, "rise": rise, "half_width": half or None}
    return found("CU601", "note", title, evidence=seen, proposals=[Proposal(EPOCHS, "lengthen", reason)])


@rule(
    "CU602",
    "trained-too-long",
    "diagnose",
    meaning="The best epoch is among the first tenth, with every seed.",
    detected=f"at least {ENOUGH_TO_CUT:g} epochs, best epoch <= {EARLY:.0%} of them for all seeds, train loss still "
    "falling afterwards",
    why="Nine tenths of the time were spent after the best model had been seen.",
    fix="Train for fewer epochs, or regularise so that later epochs help.",
    confused_with="a run that collapses after the best epoch (rate too high)",
    source="Google tuning playbook: best step in the first 10 % of training",
)
def trained_too_long(curves: Curves) -> Finding | None:
    best, epochs = need(curves.best_epochs, "no best epoch"), curves.epochs
    if epochs < ENOUGH_TO_CUT:
        raise Missing(f"fewer than {ENOUGH_TO_CUT:g} epochs")
    losses = series(curves.running_losses, "running losses", ENOUGH)
    if not best or max(best) > EARLY * epochs or losses[-1] >= losses[max(best) - 1]:
        return None
    reason = f"best epoch {max(best)} of {epochs} with every seed"
    proposals = [Proposal(EPOCHS, "shorten", reason, max(best))]
    title = f"the best epoch is {max(best)} of {epochs}, with every seed"
    seen = {"best_epochs": best, "epochs": epochs}
    return found("CU602", "note", title, evidence=seen, proposals=proposals)


def _rises_after_best(curves: Curves) -> dict[str, Any] | None:
    """Return the numbers of a val loss that has risen above its minimum to stay, while the train loss falls."""
    val = series(curves.val_losses, "val losses", ENOUGH)
    train = series(curves.train_losses or curves.running_losses, "train losses", ENOUGH)
    low = min(range(len(val)), key=val.__getitem__)
    sigma = robust_sigma(val)
    above = [value > val[low] + 2 * sigma for value in val[low + 1 :]]
    if sum(above) < 3 or not all(above[-3:]) or train[-1] >= train[low]:
        return None
    return {"lowest_at": low + 1, "lowest": val[low], "last": val[-1], "sigma": sigma, "epochs_above": sum(above)}


@rule(
    "CU603",
    "overfitting",
    "diagnose",
    meaning="Val loss rises and val accuracy falls while the train loss goes on falling.",
    detected="val loss above its minimum by more than twice its noise for at least three evaluations, to the end; "
    "train loss lower than at that minimum; val accuracy not rising since",
    why="What is learnt after the minimum is particular to the train split.",
    fix="More data or augmentation, dropout, weight decay, a smaller model; the checkpoint kept is the best epoch's.",
    confused_with="another distribution in val, where the gap is there from the first epoch",
    source="CS231n notes; Google tuning playbook: validation error starts increasing",
)
def overfitting(curves: Curves) -> Finding | None:
    seen = _rises_after_best(curves)
    if seen is None or _accuracy_since(curves, seen["lowest_at"]) >= 0 or _at_baseline(curves):
        return None
    title = (
        f"val loss rises from {seen['lowest']:.3g} (epoch {seen['lowest_at']}) to {seen['last']:.3g}, accuracy falls"
    )
    proposals = [Proposal("regularisation", "strengthen", "val loss rises while train loss falls")]
    return found("CU603", "note", title, evidence=seen, proposals=proposals)


def _falls_after_best(curves: Curves) -> bool:
    """Return whether val accuracy falls while val loss rises, which CU603 reports."""
    seen = _rises_after_best(curves)
    return seen is not None and _accuracy_since(curves, seen["lowest_at"]) < 0


def _loss_has_turned(curves: Curves) -> bool:
    """Return whether val loss was lowest in the first half of the run and has risen to stay: longer makes it worse."""
    if len(curves.val_losses or []) < ENOUGH:
        return False
    seen = _rises_after_best(curves)
    return seen is not None and bool(seen["lowest_at"] <= curves.epochs / 2)


def _accuracy_since(curves: Curves, epoch: int) -> float:
    return theil_sen(series(curves.val_accuracies, "val accuracies", ENOUGH)[epoch - 1 :])


@rule(
    "CU604",
    "overfitting",
    "diagnose",
    meaning="Train accuracy is clearly above val accuracy, though val accuracy does not get worse.",
    detected=f"the 95 % interval of the gap (Newcombe, eval mode) lies above {GAP:.0%}; val accuracy is not falling "
    "while val loss rises, which CU603 says",
    why="Not an error: the model has capacity to spare, which regularisation can turn into val accuracy.",
    fix="Augment, or raise dropout or weight decay, and see whether val gains.",
    confused_with="train measured with augmentation or dropout; another distribution in val",
    source="CS231n notes: the gap between train and val accuracy",
    explained_by=("CU603", "CU632", "CU640", "CU642", "CU643"),
)
def gap_only(curves: Curves) -> Finding | None:
    low, high = need(curves.gap_interval, "no train subset, or the size of val is not known")
    if low <= GAP or _falls_after_best(curves) or _at_baseline(curves):
        return None
    gap = curves.gap or 0.0
    title = f"room to regularise: train is {100 * gap:.1f} points above val ({100 * low:.1f} to {100 * high:.1f})"
    proposals = [Proposal("regularisation", "strengthen", f"gap of {100 * gap:.1f} points between train and val")]
    return found("CU604", "note", title, evidence={"gap": gap, "interval": [low, high]}, proposals=proposals)


@rule(
    "CU605",
    "underfitting",
    "diagnose",
    meaning="Train and val accuracy are equally low, and train no longer moves.",
    detected=f"the 95 % interval of the gap reaches down to {NO_GAP:.0%} or less, train accuracy below the target "
    f"(--target), train loss not moving, or by less than {STILL_FALLS:.0%} of its level while val is no better beyond "
    f"{LATE:.0%} of the epochs; and no confirming run (rate, regularisation, width) has named the cause",
    why="A tiny subset could be fitted (step 2), so something limits what is learnt of the whole.",
    fix="Less regularisation, a larger model, or another rate: whichever helps in a longer run is the cause.",
    confused_with="label noise or overlapping classes, which no model can fit; a rate that is too low",
    source="CS231n notes: val tracks train when capacity is too low",
    explained_by=("CU601", "CU607", "CU632", "CU640"),
)
def underfitting(curves: Curves, confirming: Confirming) -> Finding | None:
    gap = need(curves.gap, "no train subset was measured")
    train = series(curves.train_losses, "train losses", ENOUGH)
    if not _low_without_gap(curves) or _helped(confirming):
        return None
    falls = -drift(train) if moving(train) else 0.0
    if falls > 0 and (falls > STILL_FALLS * train[-1] or _best_is_late(curves) or _rate_gone(curves)):
        return None  # more of the same training may do: CU601, CU613
    title = f"train accuracy stays at {curves.train_accuracy:.3f}, val at {curves.val_accuracy:.3f}"
    if tried := [name for name in confirming.runs or {} if not name.startswith(CONTROL)]:
        title += f"; short runs with {', '.join(tried)} do not lift it"
    proposals = [Proposal("regularisation", "relax", "train accuracy is low without a gap")]
    seen = {"train_accuracy": curves.train_accuracy, "gap": gap, "target": curves.target}
    return found("CU605", "note", title, evidence=seen, proposals=proposals)


def _low_without_gap(curves: Curves) -> bool:
    """Return whether train accuracy misses the target and the gap to val may be nothing."""
    low = curves.gap_interval[0] if curves.gap_interval else (curves.gap or 0.0)
    return low <= NO_GAP and (curves.train_accuracy or 0.0) < curves.target and not _at_baseline(curves)


@rule(
    "CU613",
    "train-longer",
    "diagnose",
    meaning="The schedule ended a training that still gained: train and val accuracy are close, and far from full.",
    detected="gap and train accuracy as in CU605, no confirming run that helped, train loss falling over the tail by "
    f"more than twice its noise, and the rate decayed to less than {RATE_GONE:.0%} of its highest",
    why="Without a gap, more can be learnt of the train split before val suffers; the rate left no time for it.",
    fix="Train half as long again with the same shape of schedule, or take a larger model (model.width, model.depth).",
    confused_with="a plateau at a constant rate; a model at its capacity, whose train loss no longer moves",
    source="lecture on training neural networks, step 6: a small gap between train and val means underfitting",
    explained_by=("CU640",),
)
def schedule_ended(curves: Curves, confirming: Confirming) -> Finding | None:
    gap = need(curves.gap, "no train subset was measured")
    train = series(curves.train_losses, "train losses", ENOUGH)
    if not _low_without_gap(curves) or _helped(confirming):
        return None
    if not _rate_gone(curves) or not moving(train) or drift(train) >= 0 or _loss_has_turned(curves):
        return None
    accuracy = curves.train_accuracy
    title = f"train accuracy is only {accuracy:.3f}, {100 * gap:.1f} points above val, when the schedule ends"
    proposals = [Proposal(EPOCHS, "lengthen", "the schedule ended while the loss was still falling, without a gap")]
    seen = {"train_accuracy": accuracy, "gap": gap, "target": curves.target, "loss_drift": drift(train)}
    return found("CU613", "note", title, evidence=seen, proposals=proposals)


def _at_baseline(curves: Curves) -> bool:
    accuracy, share, n = curves.val_accuracy, curves.majority_share, curves.val_n
    return accuracy is not None and share is not None and bool(n) and wilson(accuracy, n or 0)[0] <= share


@rule(
    "CU607",
    "plateau",
    "diagnose",
    meaning="Neither loss nor accuracy moves any more, at a rate that has never been lowered.",
    detected="constant rate, train loss and val accuracy not moving over the tail (at least eight epochs), the loss "
    f"not falling by {STILL_FALLS:.0%} of its level, train accuracy below {CEILING:g}; sure where a confirming run at "
    "a tenth of the rate, from the winner's weights, gains beyond noise, and silent where it does not",
    why="At a constant rate the weights bounce around a minimum, at a height that the rate sets.",
    fix="Let the rate decay: schedule.name = 'cosine', or a step where the plateau begins.",
    confused_with="a model at its capacity, or labels that cannot be fitted",
    source="CS231n notes: annealing the learning rate",
)
def plateau(curves: Curves, confirming: Confirming) -> Finding | None:
    accuracy = series(curves.val_accuracies, "val accuracies", 8)
    running = series(curves.running_losses, "running losses", 8)
    rates = series(curves.lrs, "lrs", 8)
    fitted = curves.train_accuracy
    if rates[-1] < 0.99 * max(rates) or moving(accuracy) or moving(running):
        return None
    if drift(running) < -STILL_FALLS * running[-1]:  # a smooth fall has much "noise" while it levels off
        return None
    if (fitted is not None and fitted >= CEILING) or _at_baseline(curves):
        return None
    if _answer(confirming, SLOWER) is False or _answer(confirming, SLOWER + FROM_SCRATCH):
        return None
    title = f"loss and accuracy have stopped moving at a constant rate of {rates[-1]:.3g}"
    seen = {"rate": rates[-1], "loss_drift": drift(running), "accuracy_drift": drift(accuracy)}
    proposals = [Proposal("schedule.name", "anneal", "a plateau at a constant rate")]
    _note_the_gain(confirming, seen)
    return found("CU607", "note", title, evidence=seen, proposals=proposals)


def _note_the_gain(confirming: Confirming, seen: dict[str, Any]) -> None:
    """Add what trained weights gain at a tenth of the rate, where they do."""
    if _answer(confirming, SLOWER):
        answer = (confirming.runs or {})[SLOWER]
        seen |= {"at_a_tenth": answer.accuracy, "control": answer.control, "noise_of_gain": answer.noise}


@rule(
    "CU608",
    "unstable",
    "diagnose",
    meaning="Val accuracy jumps from epoch to epoch by more than sampling can explain.",
    detected="noise of the second half (root mean square of its second differences, over sqrt 6, so that a steady "
    f"rise does not count) above {UNSTABLE:g} sqrt(p(1 - p) / n); at least eight epochs",
    why="Successive models see the same val examples, so their differences should be smaller than sampling noise.",
    fix="Let the rate decay, or lower it; a larger batch, gradient clipping, or averaged weights.",
    confused_with="a val split so small that a few examples make the jumps: noise below the limit proves nothing",
    source="Google tuning playbook: high step-to-step variance late in training",
    explained_by=("CU612",),
)
def unstable(curves: Curves, confirming: Confirming) -> Finding | None:
    accuracy = series(curves.val_accuracies, "val accuracies", 8)
    n = need(curves.val_n, "the size of val is not known")
    half = accuracy[len(accuracy) // 2 :]
    bends = [a - 2 * b + c for a, b, c in zip(half, half[1:], half[2:], strict=False)]
    noise = (statistics.fmean(bend**2 for bend in bends) / 6) ** 0.5
    sampling = binomial_noise(min(1.0, statistics.fmean(half)), n)
    if noise <= UNSTABLE * max(sampling, 1 / n) or _at_baseline(curves):
        return None
    title = f"val accuracy jumps by {100 * noise:.1f} points between epochs; sampling explains {100 * sampling:.1f}"
    proposals = [Proposal("schedule.name", "calm", "val accuracy jumps beyond sampling noise")]
    seen = {"noise": noise, "sampling_noise": sampling}
    _note_the_gain(confirming, seen)
    return found("CU608", "note", title, evidence=seen, proposals=proposals)


@rule(
    "CU611",
    "overfitting",
    "diagnose",
    meaning="Val loss rises while val accuracy does not fall: over-confident, but not yet worse at the task.",
    detected="as CU603, but val accuracy since the minimum of the loss is level or rising",
    why="The few wrong answers are given with growing confidence, which costs loss and no accuracy.",
    fix="Keep choosing by accuracy if that is what counts; label smoothing, weight decay or temperature fix the loss.",
    confused_with="overfitting proper, where accuracy falls as well",
    source="Guo et al. 2017, On calibration of modern neural networks",
)
def over_confident(curves: Curves) -> Finding | None:
    seen = _rises_after_best(curves)
    if seen is None or _accuracy_since(curves, seen["lowest_at"]) < 0 or _at_baseline(curves):
        return None
    title = f"over-confident: val loss rises from {seen['lowest']:.3g} to {seen['last']:.3g} while accuracy holds"
    return found("CU611", "note", title, evidence=seen)


@rule(
    "CU612",
    "lr-too-high",
    "diagnose",
    meaning="After the rate had reached its peak, the train loss rose above that of the first epoch.",
    detected="the running loss of an epoch after the second, and after the highest rate, exceeds that of the first",
    why="Training that loses more than it gained in its first epoch is at or beyond the edge of stability.",
    fix="Lower the rate, warm up longer, or clip gradients (train.clip_norm).",
    confused_with="augmentation or dropout that starts late; a data order that changes",
    source="CS231n notes: loss curves; Google tuning playbook: training instability",
    explained_by=("CU652",),
)
def loss_above_start(curves: Curves, confirming: Confirming) -> Finding | None:
    losses = series(curves.running_losses, "running losses", ENOUGH)
    rates = curves.lrs or [0.0]
    after = max(2, max(range(len(rates)), key=rates.__getitem__) + 1)
    late = losses[after:]
    if not late or max(late) <= losses[0]:
        return None
    epoch = losses.index(max(late), after) + 1
    title = f"train loss rose to {max(late):.3g} in epoch {epoch}, above {losses[0]:.3g} of the first"
    proposals = [Proposal("schedule.name", "calm", "train loss rose above its start")]
    seen = {"first": losses[0], "highest": max(late), "epoch": epoch}
    _note_the_gain(confirming, seen)
    return found("CU612", "note", title, evidence=seen, proposals=proposals)


@rule(
    "CU648",
    "unstable",
    "diagnose",
    meaning="In eval mode, the loss on train rose far above where it began, while the batches were answered well.",
    detected=f"After the second epoch, the loss of the train subset in eval mode is more than {UPSET:g} times the "
    "running loss of the first epoch, in an epoch whose own running loss is below that.",
    why="The weights move so fast that the averages of normalisation layers do not follow: what is evaluated is a "
    "mixture of models, and which epoch is best is chance.",
    fix="Lower the rate or the momentum (0.9), warm up, or average the weights.",
    confused_with="batch norm whose averages hardly move at all (momentum near 0), which steps 1 and 2 look for",
    source="Google tuning playbook: training instability; Ioffe and Szegedy 2015 (moving averages)",
    explained_by=("CU612",),
)
def evaluation_lags(curves: Curves, confirming: Confirming) -> Finding | None:
    running = series(curves.running_losses, "running losses", ENOUGH)
    train = series(curves.train_losses, "train losses", ENOUGH)
    late = [i for i in range(2, len(train)) if running[i] < running[0]]
    if not late or running[0] <= 0:
        return None
    worst = max(late, key=train.__getitem__)
    if train[worst] / running[0] <= UPSET:
        return None
    title = (
        f"in epoch {worst + 1} the train loss is {train[worst]:.3g} in eval mode and {running[worst]:.3g} on the "
        f"batches; the first epoch had {running[0]:.3g}"
    )
    proposals = [Proposal("schedule.name", "calm", "the loss in eval mode jumps far above that of the batches")]
    seen = {"epoch": worst + 1, "in_eval_mode": train[worst], "running": running[worst], "first": running[0]}
    _note_the_gain(confirming, seen)
    return found("CU648", "note", title, evidence=seen, proposals=proposals)
