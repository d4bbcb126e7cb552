"""Rules of step 6 over what the curves cannot show by tuning alone: their shapes betray a mistake. Codes CU63x."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from tuner.checks.cards import Missing, found, need, rule, series
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.core.result import Finding
from tuner.core.statistics import difference_interval, robust_sigma, wilson

LATE = Limit("rising late", 0.5, "of the epochs", "derived: warm-ups of published recipes end within the first half")
GONE = Limit("gone", 0.01, "of the highest lr", "derived: next to nothing is learnt below")
FLAT = Limit("flat", 0.1, "of the epochs", "zoo: sound starts fall within the first tenth")
STILL = Limit("still", 0.02, "of the first loss", "derived: less is no progress of an epoch")
FALLS = Limit("falls", 0.2, "of the first loss", "zoo: a plateau that is left is left by more")
FROM_THE_START = Limit("from the start", 0.05, "accuracy", "zoo: sound splits have no gap in the first epoch")
FULL = Limit("full", 0.95, "train accuracy", "derived: what is learnt by heart within an epoch has a gap at once")
CONTRADICTS = Limit("contradicts", 0.01, "accuracy", "derived: the bound is a theorem; sums in fp32 are off by less")
SEEN = Limit("seen", 0.1, "accuracy", "zoo: dropout and augmentation lower the running accuracy, never raise it")


@rule(
    "CU630",
    "schedule-mistake",
    "diagnose",
    meaning="The learning rate over the run is hardly what was meant.",
    detected=f"the rate at the end of each epoch: still at its highest, and rising for more than {LATE:.0%} of the "
    f"epochs; or below {GONE:.0%} of its highest for more than {LATE:.0%} of them",
    why="A warm-up that never ends or a decay that ends the training early wastes the run, whatever else is tuned.",
    fix='Look at [schedule]: durations in epochs against steps, and every = "epoch" for schedules of epochs.',
    confused_with="a constant rate by choice; restarts, whose rate comes back; a short warm-up",
    source="Karpathy, a recipe: do not trust learning rate decay defaults; Google tuning playbook: warm-up",
)
def schedule_mistake(curves: Curves) -> Finding | None:
    rates = series(curves.lrs, "lrs", 4)
    highest = max(rates)
    rising = sum(b > a * (1 + 1e-6) for a, b in itertools.pairwise(rates))
    gone = sum(rate < GONE * highest for rate in rates)
    seen = {"first": rates[0], "highest": highest, "last": rates[-1], "epochs": len(rates)}
    if rates[-1] >= highest and rising > LATE * len(rates):
        title = f"the rate still rises at the end: {rates[0]:.3g} in epoch 1, {rates[-1]:.3g} in the last"
        return found("CU630", "warn", title, evidence=seen)
    if gone > LATE * len(rates):
        title = f"the rate is below 1 % of its highest for {gone} of {len(rates)} epochs"
        return found("CU630", "warn", title, evidence=seen | {"epochs_gone": gone})
    return None


@rule(
    "CU631",
    "bad-init-vanishing",
    "diagnose",
    meaning="The loss stays where it began for a while, and then falls: a hockey stick.",
    detected=f"for at least {FLAT:.0%} of the epochs (two at least) the train loss is within twice its noise and "
    f"{STILL:.0%} of that of the first, then it falls by {FALLS:.0%}; the rate was not warming up",
    why="The first epochs only undo the initialisation.",
    fix="Another init (model.init), normalisation layers, or biases of the last layer at the class shares.",
    confused_with="a warm-up, whose first epochs have next to no rate; a rate that is too low, which falls slowly",
    source="CS231n notes; Karpathy, a recipe: no hockey stick loss curves",
)
def flat_then_falls(curves: Curves) -> Finding | None:
    losses, rates = series(curves.running_losses, "running losses", 8), series(curves.lrs, "lrs", 8)
    band = max(2 * robust_sigma(losses[: max(4, len(losses) // 4)]), STILL * abs(losses[0]))
    flat = next((i for i, loss in enumerate(losses) if abs(loss - losses[0]) > band), len(losses))
    if flat < 3 or (flat - 1) / len(losses) < FLAT or rates[0] < 0.5 * max(rates):
        return None
    if losses[0] - min(losses[flat:], default=losses[0]) < FALLS * abs(losses[0]):
        return None
    title = f"the train loss stays at {losses[0]:.3g} for {flat} epochs before it falls to {min(losses):.3g}"
    seen = {"first": losses[0], "flat_epochs": flat, "lowest": min(losses)}
    return found("CU631", "note", title, evidence=seen)


@rule(
    "CU632",
    "train-val-shift",
    "diagnose",
    meaning="Val is worse than train from the first epoch on, by as much as at the end.",
    detected=f"the 95 % interval of the gap (train subset, eval mode) lies above {FROM_THE_START:.0%} in the first "
    "epoch and at the end, and the gap is as large there as at the end, within the noise of its size; train accuracy "
    f"starts at {FULL:.0%} or less. A note where val ends clearly above what new train batches scored in the first "
    "epoch: what is learnt carries over, and train may be learnt by heart within an epoch",
    why="Overfitting takes time. A gap that is there at once comes from the data or the pipeline of val.",
    fix="Pass val through the same normalisation and class map as train; compare where the splits come from.",
    confused_with="overfitting, whose gap grows; a gap that closes, as where rare classes are learnt late; a few "
    "examples, which are learnt by heart within an epoch",
    source="project's collection of diagnoses, D14 and D27",
)
def gap_from_the_start(curves: Curves) -> Finding | None:
    train, val = (
        series(curves.train_accuracies, "train accuracies", 4),
        series(curves.val_accuracies, "val accuracies", 4),
    )
    n = need(curves.val_n, "the size of val is not known")
    low, high = difference_interval(train[0], n, val[0], n)
    gaps = [a - b for a, b in zip(train, val, strict=True)]
    half = (high - low) / 2
    last = max(2, len(gaps) // 4)
    settled, own, others = (statistics.median(values[-last:]) for values in (gaps, train, val))
    stays, _ = difference_interval(own, n, others, n)
    if min(low, stays) <= FROM_THE_START or settled > gaps[0] + half or train[0] > FULL:
        return None
    title = f"train is {100 * gaps[0]:.1f} points above val in the first epoch already, {100 * settled:.1f} at the end"
    seen = {"gap_at_first": gaps[0], "interval": [low, high], "gap_at_end": settled}
    running = curves.running_accuracies
    catches_up = running is not None and wilson(min(1.0, max(val)), n)[0] > running[0]
    return found("CU632", "note" if catches_up else "warn", title, evidence=seen)


@rule(
    "CU633",
    "train-val-overlap",
    "diagnose",
    meaning="Val and the train subset give exactly the same loss at every epoch: they are the same examples.",
    detected="the two losses agree to six digits in every epoch (at least three), while they change between epochs",
    why="Val then measures memory, and nothing can be concluded about new data.",
    fix="Look at the loader: it returns the train split, or its examples, as val.",
    confused_with="an easy task, whose losses are close and never equal",
    source="project's collection of diagnoses, E06",
)
def val_is_train(curves: Curves) -> Finding | None:
    train, val = series(curves.train_losses, "train losses", 3), series(curves.val_losses, "val losses", 3)
    if len(set(val)) < 3 or any(abs(a - b) > 1e-6 * max(abs(a), abs(b)) for a, b in zip(train, val, strict=True)):
        return None
    title = f"val loss and train loss are the same number in all {len(val)} epochs"
    return found("CU633", "error", title, evidence={"train_losses": train[-3:], "val_losses": val[-3:]})


@rule(
    "CU634",
    "unshuffled-data",
    "diagnose",
    meaning="The batches of an epoch are answered far better than a fixed sample of the same examples afterwards.",
    detected=f"accuracy while training, averaged over the epoch, lies more than {SEEN:.0%} above that of the train "
    "subset in eval mode after it, in most epochs, and beyond sampling",
    why="A model that has just seen one class answers with it: sorted or unshuffled batches look easy one by one.",
    fix="Shuffle train. If it is shuffled, look at normalisation layers: their statistics may be wrong in eval.",
    confused_with="batch norm that differs between modes (steps 1 and 2 look for it), which shows the same gap",
    source="37 reasons why your network is not working: shuffle; project's collection of diagnoses, D20",
)
def epoch_above_subset(curves: Curves) -> Finding | None:
    running, subset = (
        series(curves.running_accuracies, "running accuracies", 3),
        series(curves.train_accuracies, "train accuracies", 3),
    )
    n = need(curves.val_n, "the size of the train subset is not known")
    above = [
        difference_interval(a, n, b, n)[0] > SEEN for a, b in zip(running[1:], subset[1:], strict=True)
    ]  # the first epoch's mean is over a model that was hardly trained
    if sum(above) <= len(above) / 2:
        return None
    title = f"accuracy is {running[-1]:.3f} on the batches of the last epoch and {subset[-1]:.3f} on a sample of them"
    seen = {"running": running[-1], "subset": subset[-1], "epochs_above": sum(above), "epochs": len(above)}
    return found("CU634", "warn", title, evidence=seen)


@rule(
    "CU635",
    "metric-wrong",
    "diagnose",
    meaning="Loss and accuracy on val contradict each other: they cannot be of the same answers.",
    detected="with plain cross-entropy a wrong answer costs at least log 2, so the share of wrong answers is at most "
    f"loss / log 2; the reported accuracy is lower than that by more than {CONTRADICTS:.0%}",
    why="The number that is maximised is not the accuracy of the model.",
    fix="Look at train.evaluate: the axis of argmax, averaging over batches, a state that is not reset.",
    confused_with="nothing: the bound is a theorem (the answer is the likeliest class)",
    source="derived: a wrong argmax leaves the true class at most 1/2",
)
def accuracy_below_bound(curves: Curves) -> Finding | None:
    if not need(curves.plain_cross_entropy, "the loss is not plain cross-entropy"):
        raise Missing("the loss is not plain cross-entropy")
    return _contradiction(
        series(curves.val_losses, "val losses", 1), series(curves.val_accuracies, "val accuracies", 1)
    )


def _contradiction(losses: Sequence[float], accuracies: Sequence[float]) -> Finding | None:
    least = [1 - loss / math.log(2) for loss in losses]
    epoch = max(range(len(losses)), key=lambda i: least[i] - accuracies[i])
    if least[epoch] - accuracies[epoch] <= CONTRADICTS:
        return None
    title = (
        f"a val loss of {losses[epoch]:.3g} means an accuracy of at least {least[epoch]:.3f}; "
        f"reported is {accuracies[epoch]:.3f} (epoch {epoch + 1})"
    )
    seen = {"loss": losses[epoch], "least_accuracy": least[epoch], "accuracy": accuracies[epoch], "epoch": epoch + 1}
    return found("CU635", "error", title, evidence=seen)
