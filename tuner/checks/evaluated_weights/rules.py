"""Rules over weights that are evaluated in place of the trained ones (check-init): IN194, IN195."""

from __future__ import annotations

from tuner.checks.cards import found, number, rule
from tuner.checks.evaluated_weights.evidence import EvaluatedWeights
from tuner.checks.limits import Limit
from tuner.core.result import Finding

HANGS = Limit("hangs", 0.5, "of the weights that are evaluated", "derived: from there on most of them is the init")


@rule(
    "IN194",
    "underfitting",
    "check-init",
    meaning="An average of the weights hangs on to the first ones longer than the run lasts.",
    detected="The part that gives weights for evaluation hears of every update of each planned run of a tiny net, "
    f"whose weight moves once, at the beginning: at the end {HANGS:.0%} or more of what is evaluated "
    "is the first weight.",
    why="An average with decay d remembers 1 / (1 - d) updates; where the run has fewer, an untrained net is "
    "evaluated, and every configuration looks like chance.",
    fix='Set a decay whose memory is a tenth of the run at most, or begin with a lower one: train.ema does ("warmup").',
    confused_with="An average that lags a little: val rises later, and as high.",
    source="arithmetic: d^n of the first weights are left after n updates; TensorFlow's "
    "ExponentialMovingAverage(num_updates)",
)
def the_average_hangs_on_to_the_first_weights(seen: EvaluatedWeights) -> Finding | None:
    shares = {stage: number(share) or 0.0 for stage, share in seen.first.items()}
    stage = max(shares, key=lambda name: shares[name])
    if shares[stage] < HANGS:
        return None
    title = (
        f"{shares[stage]:.0%} of the weights that {stage} evaluates after {seen.updates[stage]} updates are the first "
    )
    return found("IN194", "warn", title + "ones", evidence=seen.to_json())


@rule(
    "IN195",
    "normalisation-misuse",
    "check-init",
    meaning="Averaged weights are evaluated with the batch-norm statistics of the beginning.",
    detected="The part that gives weights for evaluation is tried on a tiny net with a batch norm: the weights that it "
    "gives moved, the running statistics beside them are those from before any update.",
    why="Statistics of an untrained net do not fit: what is evaluated and kept is worse than what was trained.",
    fix="Average the statistics as the weights (train.ema), take them again over the train split (train.swa, "
    "torch.optim.swa_utils.update_bn), or leave the model's own.",
    confused_with="A model without batch norm, which has no statistics.",
    source="torch.optim documentation, SWA and EMA: taking care of batch normalization; Izmailov et al. 2018",
)
def averaged_weights_with_first_statistics(seen: EvaluatedWeights) -> Finding | None:
    if not seen.still or not seen.norms:
        return None
    title = f"weights for evaluation move with training, the statistics of {seen.norms} batch norms beside them do not"
    return found("IN195", "error", title, evidence=seen.only("still", "norms", "first"))
