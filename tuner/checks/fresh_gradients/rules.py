"""Rules over one instrumented step and the evaluation (check-init): codes IN11x."""

from __future__ import annotations

from tuner.checks.cards import found, number, rule, some
from tuner.checks.fresh_gradients.evidence import FreshGradients
from tuner.core.result import Finding


@rule(
    "IN110",
    "gradients-accumulate",
    "check-init",
    meaning="Gradients of earlier steps are still there at the next update.",
    detected="The same step is repeated with the rate at 0; the gradients that the updates see, or those of some of "
    "the parameters, grow as 1, 2, 3.",
    why="Every update adds all the earlier ones once more: the effective rate grows with each step until training "
    "diverges.",
    fix="Call optimizer.zero_grad() in each step, before loss.backward().",
    confused_with="Accumulation over a few batches on purpose: there every update sees the same sum.",
    source="Full Stack Deep Learning, troubleshooting; torchtest",
)
def gradients_accumulate(answer: FreshGradients) -> Finding | None:
    ratios, cosines = ([number(v) or 0.0 for v in values] for values in (answer.ratios, answer.cosines))
    grows = abs(ratios[1] - 2) < 0.2 and abs(ratios[2] - 3) < 0.3 and min(cosines) > 0.95
    if not grows and answer.growing:
        title = f"the gradients of some parameters add up over three updates: {some(answer.growing)}"
        return found("IN110", "error", title, evidence=answer.to_json())
    if not grows:
        return None
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return found(
        "IN110",
        "error",
        f"three updates on the same batch see gradients of size {listed}: they add up",
        evidence=answer.to_json(),
    )
