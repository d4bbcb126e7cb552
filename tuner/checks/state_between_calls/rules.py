"""Rules over what a model keeps from one call to the next (check-init): codes IN16x."""

from __future__ import annotations

from tuner.checks.cards import found, need, rule
from tuner.checks.limits import Limit
from tuner.checks.state_between_calls.evidence import StateBetweenCalls
from tuner.core.result import Finding

DIFFERENT = Limit(
    "different", 1e-3, "of the outputs' spread", "derived: sums in another order differ by less than a hundredth of it"
)


@rule(
    "IN160",
    "batch-dependence",
    "check-init",
    meaning="The model keeps something from one call to the next, and its outputs depend on it.",
    detected="One batch is shown in eval mode, then another, then the first again, with the same random state: its "
    f"outputs differ by more than {DIFFERENT:g} of their spread. Attributes that changed on the way are named.",
    why="An example's output depends on what was asked before it: on the order of the batches, and on other examples.",
    fix="Start every call from the same state (h0 = None, caches emptied); carry a state over only where batches "
    "follow each other in time, and reset it at every epoch and before evaluation.",
    confused_with="Dropout that is never switched off, which differs with the random state; attributes that are kept "
    "to look at and never read.",
    source="PyTorch documentation, LSTM: h_0 defaults to zeros; discuss.pytorch.org, stateful LSTM",
)
def remembers_calls(answer: StateBetweenCalls) -> Finding | None:
    differ = need(answer.differ, "the outputs are not finite")
    if differ <= DIFFERENT:
        return None
    kept = f" (changed: {', '.join(answer.changed)})" if answer.changed else ""
    title = (
        f"a batch that is shown again, after another, has other outputs, by {differ:.2g} of their spread: "
        f"the model keeps something between calls{kept}"
    )
    return found("IN160", "warn", title, evidence=answer.to_json())
