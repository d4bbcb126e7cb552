"""Rules over the activations and weights of the fresh model, layer by layer (check-init): codes IN119, IN13x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, number, rule, some
from tuner.checks.input_use.evidence import InputUse
from tuner.checks.layers.evidence import Layers
from tuner.core.result import Finding


@rule(
    "IN119",
    "input-ignored",
    "check-init",
    meaning="The outputs are the same whatever the input.",
    detected="A model with a little noise on every weight, on different examples and on zeroed inputs. Where a layer "
    "of the fresh model is off throughout, that is the cause named.",
    why="Only the class shares can be learned.",
    fix="Look for a layer that multiplies by 0, dead units throughout, or an input that is overwritten.",
    confused_with="A zero-initialised head, which the noise on the weights opens.",
    source="Karpathy, A Recipe for Training Neural Networks: input-independent baseline",
)
def input_ignored(answer: InputUse, layers: Layers | None) -> Finding | None:
    if not _ignored(answer):
        return None
    if _shut(layers):
        return None  # and that has a finding of its own
    return found("IN119", "error", SAME_OUTPUTS, evidence=answer.to_json())


@rule(
    "IN155",
    "dead-units",
    "check-init",
    meaning="The outputs do not depend on the input, because the rectifiers of a layer are off for every example.",
    detected="As IN119, where a layer of the fresh model, or what comes into it, is 0 throughout.",
    why="No gradient passes a rectifier that is off: nothing below it can be learnt.",
    fix="Look at the biases and the scale of the weights of the layers before it: the rectifier is always off.",
    confused_with="An input that is cut off for another reason: there the units of every layer are on.",
    source="CS231n notes, activation functions: a ReLU that is off passes no gradient",
)
def layer_shut(answer: InputUse, layers: Layers | None) -> Finding | None:
    shut = _shut(layers)
    if not shut or not _ignored(answer):
        return None
    title = f"{SAME_OUTPUTS}: every unit at {some(shut)} is zero for every example"
    return found("IN155", "error", title, evidence={**answer.to_json(), "shut": shut})


SAME_OUTPUTS = "the outputs are exactly the same for every example and for zeroed inputs"


def _ignored(answer: InputUse) -> bool:
    varies, zeroed = number(answer.varies), number(answer.changes_when_zeroed)
    if varies is None or zeroed is None:
        raise Missing("the outputs are not finite")
    return varies == 0 and zeroed == 0


def _shut(layers: Layers | None) -> list[str]:
    """Return the layers of which, or of whose inputs, no unit is ever on."""
    measured = layers.layers if layers is not None else ()
    return [layer.name for layer in measured if 1.0 in (layer.dead_fraction, layer.dead_input_fraction)]
