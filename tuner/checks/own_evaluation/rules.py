"""Rules over the recipe's own evaluate, asked about examples that have just been learnt (check-init): IN18x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.limits import Limit
from tuner.checks.own_evaluation.evidence import OwnEvaluation
from tuner.core.result import Finding

FITTED = Limit("fitted", 0.2, "of the loss at the start", "zoo: averages that lag behind stay above")
RIGHT = Limit("right", 0.9, "accuracy", "derived: examples learnt by heart are answered right, but for a few")


@rule(
    "IN180",
    "metric-wrong",
    "check-init",
    meaning="The recipe's evaluate reports a low loss and a low accuracy for the same examples.",
    detected="A few examples are learnt until the objective is a twentieth of what it was, and evaluate judges them: "
    f"its loss is below {FITTED:.0%} of the loss at the start, and its accuracy below {RIGHT:.0%}.",
    why="Loss and accuracy contradict each other, so one of them is not what it says: the search would choose by a "
    "number that does not rise when the model learns.",
    fix="Look at how evaluate makes an answer of the outputs: argmax over one column is always 0 (a single score says "
    "class 1 above 0); another head, another axis, labels that start from 1.",
    confused_with="An average of the weights that lags behind: there, evaluate's loss is high as well.",
    source="Karpathy, A Recipe for Training Neural Networks: verify the metric on what is known",
)
def accuracy_against_loss(answer: OwnEvaluation) -> Finding | None:
    if not answer.own:
        return None
    if not answer.learnt:
        raise Missing("the few examples were not learnt in the steps that there were")
    loss, accuracy = (number(answer.hook.get(key)) for key in ("loss", "accuracy"))
    if accuracy is None or loss is None:
        raise Missing("evaluate returns no accuracy")
    if loss > FITTED * (answer.first_loss or 0.0) or accuracy >= RIGHT:
        return None
    title = (
        f"evaluate reports a loss of {loss:.3g}, from {answer.first_loss:.3g} at the start, beside an accuracy of "
        f"{accuracy:.2f}, on examples that are learnt by heart"
    )
    return found("IN180", "error", title, evidence=answer.to_json())


@rule(
    "IN181",
    "normalisation-misuse",
    "check-init",
    meaning="What the recipe evaluates has batch-norm statistics of its own, and they stand still.",
    detected="Evaluate is watched after a few updates and after a few more: it runs normalisation layers that are "
    "none of the model's, and their running statistics are the same both times, while the model's moved.",
    why="Averaged weights with the statistics of an early model, or of none, answer far worse than the model itself.",
    fix="Copy the buffers with the weights (AveragedModel(..., use_buffers=True)), or call "
    "torch.optim.swa_utils.update_bn on train batches before evaluating.",
    confused_with="A net of its own that evaluate asks on purpose: a teacher, features for a distance between images.",
    source="Izmailov et al. 2018, averaging weights (batch-norm statistics are computed again); PyTorch, update_bn",
)
def foreign_statistics(answer: OwnEvaluation) -> Finding | None:
    if not answer.still:
        return None
    title = (
        f"evaluate runs {answer.foreign_norms} normalisation layers that are not the model's; the statistics of "
        f"{answer.still} of them do not move while the model is trained"
    )
    return found("IN181", "error", title, evidence=answer.to_json())
