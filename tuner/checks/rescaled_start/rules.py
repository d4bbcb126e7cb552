"""Rules over the activations and weights of the fresh model, layer by layer (check-init): codes IN119, IN13x."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.rescaled_start.evidence import RescaledStart
from tuner.core.result import Finding


@rule(
    "IN136",
    "bad-init-vanishing",
    "check-init",
    meaning="The sizes of the initial weights keep the model from learning: with them fixed, it learns at once.",
    detected="Asked where the signal after the last hidden layer is less than a twentieth of that after the first: "
    "in 200 steps at the recipe's rate, at ten times that and at a tenth, the loss stays within 3 % of that of a "
    "constant output; with each layer rescaled to outputs of unit spread it falls by a quarter in half as many.",
    why="Next to nothing of the input reaches the outputs, or of the error the first layers: nothing starts to move.",
    fix="Kaiming (ReLU) or Xavier (tanh) initialisation (model.init); normalisation layers; ReLU in place of sigmoids.",
    confused_with="A rate that is too low, at which the fixed model does not learn either; a slow start.",
    source="Glorot and Bengio 2010; Mishkin and Matas 2016, All you need is a good init",
)
def learns_only_rescaled(start: RescaledStart) -> Finding | None:
    as_is, rescaled = start.as_is, start.rescaled
    if as_is is None or rescaled is None or as_is.learns or not rescaled.learns:
        return None
    rates = ", ".join(f"{rate:g}" for rate in sorted(start.rates))
    title = (
        f"as initialised nothing is learnt at any rate of {rates}; with every layer rescaled it is, in "
        f"{rescaled.steps} steps"
    )
    return found("IN136", "warn", title, evidence=start.to_json())
