"""Rules over the activations and weights of the fresh model, layer by layer (check-init): codes IN119, IN13x."""

from __future__ import annotations

from tuner.checks.cards import found, number, rule
from tuner.checks.limits import Limit
from tuner.checks.linearity.evidence import Linearity
from tuner.core.result import Finding

AFFINE = Limit("affine", 1e-3, "of the outputs' spread", "derived: rounding in single precision")
IN_A_ROW = Limit("in a row", 1.5, "layers", "derived: weights side by side double an output, two in a row quadruple it")


@rule(
    "IN135",
    "missing-nonlinearity",
    "check-init",
    meaning="The whole model is a linear function of its input, though it has several layers.",
    detected="f(2a - b) = 2 f(a) - f(b) for all of 32 pairs of examples, in eval mode, with noise on every weight; "
    f"and with all weights doubled the outputs spread as much more as behind {IN_A_ROW:g} layers in a row or more.",
    why="Stacked linear layers are one linear layer: depth and width add nothing.",
    fix="Put an activation (ReLU, GELU) between the layers.",
    confused_with="Logistic regression on purpose, which has one layer; linear layers side by side, of a trend and "
    "of a season; linear bottlenecks between activations.",
    source="NeuraLint: linear hidden layers; derived",
)
def all_linear(answer: Linearity) -> Finding | None:
    deviation = number(answer.deviation)
    if deviation is None or deviation > AFFINE or answer.weights < 2:
        return None
    if answer.depth is not None and answer.depth < IN_A_ROW:
        return None
    title = f"the model is linear in its input, with {answer.weights} weight tensors in a row"
    return found("IN135", "warn", title, evidence=answer.to_json())
