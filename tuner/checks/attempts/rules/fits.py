"""Rules over the attempts to fit a tiny subset (overfit): codes OV2xx. Those over a stuck one stand in `stuck`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tuner.checks.attempts.evidence import Attempts
from tuner.checks.cards import Missing, found, loud, number, rule
from tuner.checks.earlier.evidence import Earlier
from tuner.checks.overfit.evidence import Overfit
from tuner.checks.trials.evidence import Failure, Trials
from tuner.core.result import Finding, Severity


def best_attempt(fit: Attempts) -> Overfit:
    """Return the best attempt; without one a rule cannot be applied."""
    best = fit.best
    if best is None:
        raise Missing("no attempt finished")
    return best


def failed_attempt(fit: Attempts) -> Overfit | None:
    """Return the best attempt when none reached the floor and its loss is known, else None."""
    best = best_attempt(fit)
    return None if best.status == "floor" or number(best.final_loss) is None else best


def facts_of(best: Overfit, *more: str) -> dict[str, Any]:
    """Return what a finding shows of an attempt."""
    keys = ("final_loss", "loss_floor", "target", "final_accuracy", "lr", "steps", "examples", "status", *more)
    return best.only(*keys)


@rule(
    "OV200",
    "not-measured",
    "overfit",
    meaning="No attempt could be made.",
    detected="Every trial failed.",
    why="Without it nothing later can be concluded.",
    fix="Read the message: it names the call that failed.",
)
def nothing_measured(fit: Attempts, trials: Trials) -> Finding | None:
    if fit.best is not None:
        return None
    failure = trials.failures[0] if trials.failures else Failure("crash", "no attempt finished")
    first = failure.message.splitlines()[0] if failure.message else failure.kind
    return found("OV200", "error", f"no attempt finished ({failure.kind}): {first}", evidence=asdict(failure))


@rule(
    "OV203",
    "no-update",
    "overfit",
    meaning="The loss is exactly the same at every step.",
    detected="No attempt, at any rate, ever changed the training loss.",
    why="The weights do not move.",
    fix="Check that the step calls loss.backward() and optimizer.step() on this model's parameters.",
    confused_with="A loss that is stuck at a level, which moves a little.",
    source="torchtest",
)
def loss_never_moves(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if best.status == "floor" or any(attempt.moved for attempt in fit.attempts):
        return None
    title = f"the loss is {best.initial_loss} at every step, at every rate"
    if not best.examples:  # of a loop that was watched, whose batches differ
        title = f"no weight has moved in {best.steps} updates at lr {best.lr:g}"
    return found("OV203", "error", title, evidence=facts_of(best))


@rule(
    "OV204",
    "unstable",
    "overfit",
    meaning="Training diverges at every rate that was tried.",
    detected="The loss turned NaN or infinite in every attempt.",
    why="That is no matter of the rate any more: a numerical fault in the model, the loss or the data.",
    fix="Look at the layer table of check-init; for log, division or exp without a guard; and for NaN inputs.",
    confused_with="A rate that is too high, which a lower one fixes.",
    source="Full Stack Deep Learning, troubleshooting",
)
def diverges_everywhere(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if any(attempt.status != "diverged" for attempt in fit.attempts):
        return None
    lowest = min(attempt.lr for attempt in fit.attempts)
    title = f"the loss is not finite at any of {len(fit.attempts)} rates, down to {lowest:g}"
    return found("OV204", "error", title, evidence=facts_of(best) | {"rates": rates_of(fit)})


@rule(
    "OV207",
    "normalisation-misuse",
    "overfit",
    meaning="Fitted in train mode, the model is wrong on the same examples in eval mode.",
    detected="The subset in eval mode: after training, after fifty more forwards in train mode, and with the running "
    "statistics set to those of the subset, which tells batch norm from anything else.",
    why="What is learned is not what is evaluated: val would be wrong while training looks fine.",
    fix="Check batch norm's momentum and track_running_stats, and code that depends on self.training.",
    confused_with="Running statistics that have not caught up after few steps, which the extra forwards fix.",
    source="PyTorch documentation of BatchNorm; checklist, step 2",
)
def modes_disagree(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if best.status != "floor":
        raise Missing("the subset was not fitted")
    loss, target, span = (number(value) for value in (best.recalibrated_loss, best.target, best.span))
    if target is None or span is None:
        raise Missing("the loss has no known floor")
    after = best.recalibrated_accuracy
    fits = loss is not None and loss <= target + 0.1 * span and (after is None or after >= 0.95)
    if fits:
        return None
    exact = best.own_statistics_accuracy
    norm = bool(best.norm_layers) and exact is not None and exact > (after or 0)
    where = "the running statistics of its normalisation layers" if norm else "something that depends on the mode"
    right = "" if after is None else f" and accuracy {after:.0%}"
    title = f"the fitted subset has a loss of {loss if loss is None else round(loss, 3)}{right} in eval mode: {where}"
    facts = facts_of(
        best, "train_mode_loss", "eval_loss", "recalibrated_loss", "own_statistics_loss", "smallest_momentum"
    )
    return found("OV207", "warn", title, evidence=facts)


@rule(
    "OV208",
    "loss-mismatch",
    "overfit",
    meaning="The loss is at its floor while the answers are wrong.",
    detected="The final loss is at its target and accuracy is below 100 %.",
    why="What is minimised is not what is counted: the loss and the argmax of the outputs disagree.",
    fix="Check the loss's sign and axis, and how outputs are turned into predictions.",
    confused_with="A loss that is low on average with one hard example: accuracy is then nearly full.",
    source="checklist, step 2",
)
def floor_with_wrong_answers(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None:
        return None
    loss, target, right = (number(value) for value in (best.final_loss, best.target, best.final_accuracy))
    if target is None or right is None:
        raise Missing("the loss has no known floor, or the outputs are not one number per class")
    if loss is None or loss > target or right > 0.9:
        return None
    return found(
        "OV208", "error", f"the loss is at its floor ({loss:.3f}) with accuracy {right:.0%}", evidence=facts_of(best)
    )


@rule(
    "OV209",
    "loss-mismatch",
    "overfit",
    meaning="The loss has no floor: it falls without end.",
    detected="The loss function is minimised over free outputs and over outputs of the model's kind.",
    why="Without a floor, fitting means driving the outputs to infinity.",
    fix="Use cross_entropy on raw outputs, or log_softmax before nll_loss; check the sign.",
    confused_with="nll_loss on log_softmax outputs, whose floor is 0.",
    source="derived",
)
def no_floor(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if not best.unbounded:
        return None
    title = f"the loss falls without end over {best.kind}"
    return None if best.final_accuracy == 0 else found("OV209", "error", title, evidence=facts_of(best, "kind"))


@rule(
    "OV216",
    "sign-flipped-loss",
    "overfit",
    meaning="The loss falls without end while every answer becomes wrong.",
    detected="As OV209, and the fitted subset has an accuracy of 0.",
    why="What is minimised rewards wrong answers: the sign of the loss is turned.",
    fix="Give the loss itself to backward, not its negative.",
    confused_with="A loss without a floor whose answers are right, such as the target's probability with a minus.",
    source="derived; CS231n notes, sanity checks",
    explained_by=("sign-flipped-loss",),
)
def falls_while_wrong(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if not best.unbounded or best.final_accuracy != 0:
        return None
    title = f"the loss falls without end over {best.kind}, and no answer is right"
    return found("OV216", "error", title, evidence=facts_of(best, "kind"))


@rule(
    "OV210",
    "optimizer-unsuited",
    "overfit",
    meaning="Adam fits the tiny subset, the recipe's optimizer does not, at any rate that was tried.",
    detected="When no rate reaches the floor, Adam at 1e-3 takes the optimizer's place, all else the same.",
    why="Model, loss and data are sound, but training will be slow or stuck with this optimizer.",
    fix="Use Adam, add normalisation layers or another initialisation, or try other rates (stages.overfit.rates).",
    confused_with="A bug of the model: that stops Adam as well.",
    source="CS231n notes, sanity checks",
)
def only_adam_fits(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if best.status != "floor" or not best.reference:
        return None
    if fit.clip_norm is not None:
        return None  # Adam's steps are the same whatever the gradients are multiplied by: what it fixes is their size
    severity, title = _only_adam(fit, best)
    return found("OV210", severity, title, evidence=facts_of(best) | {"rates": rates_of(fit)})


@rule(
    "OV217",
    "gradient-clipped-away",
    "overfit",
    meaning="Adam fits the tiny subset, the recipe's optimizer does not, and the recipe clips gradients.",
    detected="As OV210, with train.clip_norm set.",
    why="Adam's steps are the same whatever the gradients are multiplied by: what it fixes is their size.",
    fix="Raise train.clip_norm to about the 90th percentile of the gradients' norms, or leave it out.",
    confused_with="An optimizer that does not suit the model, without clipping.",
    source="Google tuning playbook: clipping more than half of the steps is extremely aggressive",
)
def only_adam_fits_clipped(fit: Attempts) -> Finding | None:
    best = best_attempt(fit)
    if best.status != "floor" or not best.reference or fit.clip_norm is None:
        return None
    severity, title = _only_adam(fit, best)
    title += f", with gradients clipped to {fit.clip_norm:g}"
    facts = facts_of(best) | {"rates": rates_of(fit), "clip_norm": fit.clip_norm}
    return found("OV217", severity, title, evidence=facts)


def _only_adam(fit: Attempts, best: Overfit) -> tuple[Severity, str]:
    own = [attempt for attempt in fit.attempts if not attempt.reference]
    losses = [loss for attempt in own if (loss := number(attempt.final_loss)) is not None]
    learned = any(loss < (best.initial_loss or 0.0) - 0.1 * (best.span or 1.0) for loss in losses)
    reached = f"only {min(losses):.3f}" if losses else "no finite loss"
    title = f"Adam reaches the floor in {best.steps} steps, the recipe's optimizer {reached} in {len(own)} attempts"
    return "warn" if learned else "error", title


def rates_of(fit: Attempts) -> list[dict[str, Any]]:
    """Return the attempts in short, by rate."""
    return [attempt.only("lr", "final_loss", "final_accuracy", "steps", "status") for attempt in fit.attempts]


@rule(
    "OV212",
    "known-from-step-1",
    "overfit",
    meaning="The subset is not fitted, and step 1 has found what can be the reason.",
    detected="A warning of check-init whose cause keeps a model from fitting.",
    why="What a probe has measured is likelier than what the level of a loss suggests.",
    fix="Fix what check-init found, then run this step again.",
    confused_with="A warning that is meant and harmless: accept its code in the recipe.",
    source="checklist: one step after the other",
)
def known_from_step_1(fit: Attempts, earlier: Earlier) -> Finding | None:
    if failed_attempt(fit) is None and any(attempt.status != "diverged" for attempt in fit.attempts):
        return None
    known = [item for item in loud(earlier.findings) if item["cause"] in KEEPS_FROM_FITTING]
    if not known:
        return None
    first = known[0]  # ranked by check-init
    title = f"step 1 has a reason why the subset is not fitted ({first['code']}): {first['title']}"
    finding = found("OV212", "error", title, evidence={"code": first["code"]}, remedy=first.get("remedy", ""))
    return replace(finding, explained_by=first["code"])


KEEPS_FROM_FITTING = (
    "untrained-parameters", "dead-units", "saturated-units", "symmetric-init", "bad-init-vanishing",
    "bad-init-exploding", "unnormalised-input", "constant-input", "input-ignored", "double-softmax", "loss-mismatch",
    "sign-flipped-loss", "wrong-axis", "summed-loss", "gradients-accumulate", "no-update", "gradient-clipped-away",
    "batch-dependence", "eval-mode-in-training", "normalisation-misuse", "precision-problem", "wrong-label-range",
    "missing-nonlinearity", "non-finite-input",
)  # fmt: skip
