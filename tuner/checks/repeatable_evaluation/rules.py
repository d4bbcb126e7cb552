"""Rules over one instrumented step and the evaluation (check-init): codes IN11x."""

from __future__ import annotations

from tuner.checks.cards import found, number, rule, some
from tuner.checks.limits import SAME
from tuner.checks.repeatable_evaluation.evidence import RepeatableEvaluation
from tuner.checks.state_between_calls.evidence import StateBetweenCalls
from tuner.core.result import Finding


@rule(
    "IN116",
    "train-mode-in-eval",
    "check-init",
    meaning="Evaluating the same examples twice gives different outputs, or changes the model.",
    detected="One batch is evaluated twice in eval mode with different random states; running statistics are "
    "compared; val examples are read twice.",
    why="Val is noisy, depends on the batch, or leaks into the normalisation statistics.",
    fix="Call model.eval() before evaluating; give functional dropout self.training; no random transform on val.",
    confused_with="Monte-Carlo dropout on purpose; differences of 1e-6 between kernels.",
    source="Karpathy, A Recipe for Training Neural Networks",
)
def evaluation_not_repeatable(answer: RepeatableEvaluation, state: StateBetweenCalls | None) -> Finding | None:
    if answer.statistics_moved:
        title = f"evaluation changes running statistics: {some(answer.statistics_moved)}"
        return found("IN116", "error", title, evidence=answer.to_json())
    if (number(answer.val_reads_differ) or 0.0) > 0 and number(answer.val_reads_times) is None:
        return found("IN116", "warn", _read_again(answer), evidence=answer.to_json())
    differ = number(answer.outputs_differ)
    if differ is not None and differ > SAME and not remembers(state):
        title = f"two evaluations of one batch differ by {differ:.2g} of the outputs' spread"
        return found("IN116", "warn", title, evidence=answer.to_json())
    if "train" in answer.modes_in_forward:
        title = "the recipe's evaluate runs dropout or normalisation in train mode"
        return found("IN116", "warn", title, evidence=answer.to_json())
    if answer.left_in_train_mode:
        return found("IN116", "warn", "the recipe's evaluate leaves the model in train mode", evidence=answer.to_json())
    return None


@rule(
    "IN154",
    "unnormalised-input",
    "check-init",
    meaning="Reading an example changes what is stored: the next time it is another input.",
    detected="Val examples are read twice: all are one number times what they were.",
    why="Inputs shrink or grow from epoch to epoch, until nothing is left of them.",
    fix="Copy in __getitem__ before computing, or write x = x / 255 instead of x /= 255.",
    confused_with="Random transforms, which are no one number times the example.",
    source="derived",
)
def reading_changes(answer: RepeatableEvaluation) -> Finding | None:
    times = number(answer.val_reads_times)
    if times is None or not (number(answer.val_reads_differ) or 0.0) > 0:
        return None
    title = f"{_read_again(answer)}, {times:.3g} times what they were: reading an example changes what is stored"
    return found("IN154", "error", title, evidence=answer.to_json())


def remembers(state: StateBetweenCalls | None) -> bool:
    """Return whether outputs depend on earlier calls, which IN160 says."""
    return state is not None and state.differ > SAME


def _read_again(answer: RepeatableEvaluation) -> str:
    return f"{answer.val_reads_differ or 0.0:.0%} of the val examples are other inputs when they are read again"
