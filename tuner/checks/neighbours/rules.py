"""Rules over one instrumented step and the evaluation (check-init): codes IN11x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.limits import SAME
from tuner.checks.neighbours.evidence import Neighbours
from tuner.checks.repeatable_evaluation.evidence import RepeatableEvaluation
from tuner.checks.repeatable_evaluation.rules import remembers
from tuner.checks.state_between_calls.evidence import StateBetweenCalls
from tuner.core.result import Finding


@rule(
    "IN117",
    "batch-dependence",
    "check-init",
    meaning="In eval mode, an example's output depends on the other examples of the batch, or on its place among them.",
    detected="The examples before and after a part of a batch are swapped for others, and the part is put first; its "
    "outputs must not change.",
    why="Information flows between examples: a view or reshape that mixes the batch dimension with another, or a "
    "recurrent or attention layer that takes the batch for time. Or positions are added along the batch.",
    fix="Use permute or transpose instead of view, batch_first=True for nn.LSTM, nn.GRU and nn.MultiheadAttention on "
    "(batch, time, features), where positions are pe[:, :x.size(1)]; and look for reductions over dimension 0.",
    confused_with="Batch norm in train mode; attention or contrast across the batch on purpose.",
    source="Karpathy, A Recipe for Training Neural Networks; PyTorch Lightning BatchGradientVerification; "
    "github.com/AkiRusProd/numpy-transformer issue 1",
)
def batch_dependence(
    answer: Neighbours, again: RepeatableEvaluation | None, state: StateBetweenCalls | None
) -> Finding | None:
    if answer.outputs != answer.inputs:
        title = f"the model gives {answer.outputs} outputs for {answer.inputs} inputs"
        return found("IN117", "error", title, evidence=answer.to_json())
    repeated = number(again.outputs_differ) if again is not None else None
    differ, moved = number(answer.differ), number(answer.moved) or 0.0
    if differ is None or max(differ, moved) <= SAME:
        return None
    if remembers(state):
        raise Missing("the model keeps something between calls, which the effect of the neighbours is not told from")
    if repeated is not None and repeated > SAME:
        raise Missing("evaluation is random, so the effect of the neighbours cannot be distinguished from it")
    title = f"swapping the other examples of a batch changes an output by {differ:.2g} of the outputs' spread"
    if differ <= SAME:
        title = f"an output changes by {moved:.2g} of the outputs' spread with the place of its example in the batch"
    return found("IN117", "error", title, evidence=answer.to_json())
