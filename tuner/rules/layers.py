"""Rules over the activations and weights of the fresh model, layer by layer (check-init): codes IN119, IN13x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, rule
from tuner.rules.init import number, probe
from tuner.rules.wiring import some

DEAD = 0.5
SATURATED = 0.5
# twelve plain layers in PyTorch's default initialisation, which still train, keep more than this of the signal
VANISHED = 1e-4
EXPLODED = 1e4
ENOUGH = 64
AFFINE = 1e-3  # of the outputs' spread: rounding in single precision


def _layers(evidence: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    answer = probe(evidence, "layers")
    if answer["examples"] < ENOUGH:
        raise Missing(f"only {answer['examples']} examples: too few to say what a unit never does")
    return answer["layers"]


def _worst(layers: Sequence[Mapping[str, Any]], key: str) -> tuple[float, str] | None:
    known = [(value, layer["name"]) for layer in layers if (value := number(layer.get(key))) is not None]
    return max(known, default=None, key=lambda pair: pair[0])


@rule(
    "IN130",
    "dead-units",
    "check-init",
    meaning="Most units of a rectified layer are zero for every example.",
    detected="Units that are 0 for every example of the probe batch; more than half of a layer.",
    why="They pass no gradient and so never come back: the layer is narrower than it looks, or shut.",
    fix="Kaiming initialisation, no large negative biases, normalised inputs; or leaky ReLU or GELU.",
    confused_with="Half of all activations being zero for one example, which is normal.",
    source="CS231n notes, ReLU; SageMaker Debugger DeadRelu",
)
def dead_units(evidence: Mapping[str, Any]) -> Finding | None:
    """Rectified units that never fire."""
    layers = _layers(evidence)
    worst = [w for key in ("dead_fraction", "dead_input_fraction") if (w := _worst(layers, key)) is not None]
    if not worst:
        return None
    share, name = max(worst)
    if share <= DEAD:
        return None
    dead = {layer["name"]: layer["dead_fraction"] for layer in layers if (number(layer["dead_fraction"]) or 0) > DEAD}
    title = f"{share:.0%} of the units at {name} are zero for every example"
    return found("IN130", "warn", title, evidence={"layer": name, "share": share, "layers": dead}, confidence=0.9)


@rule(
    "IN131",
    "saturated-units",
    "check-init",
    meaning="Most sigmoid or tanh units are at the end of their range.",
    detected="|tanh| above 0.99, or sigmoid outside 0.01..0.99, for more than half of a layer's activations.",
    why="There the slope is nearly 0, so almost no gradient passes.",
    fix="Normalise the inputs; Xavier initialisation; or another activation.",
    confused_with="Confident gates of a trained model: this one is fresh.",
    source="CS231n notes, activation functions; Glorot and Bengio 2010",
)
def saturated_units(evidence: Mapping[str, Any]) -> Finding | None:
    """Squashing units at their limits."""
    worst = _worst(_layers(evidence), "saturated_fraction")
    if worst is None:
        return None
    share, name = worst
    if share <= SATURATED:
        return None
    title = f"{share:.0%} of the activations of {name} are at the end of their range"
    return found("IN131", "warn", title, evidence={"layer": name, "share": share}, confidence=0.9)


def _signal(evidence: Mapping[str, Any]) -> tuple[float, str, float] | None:
    """Return the last hidden signal over the first layer's, its layer, and the first; None where there is no depth."""
    linear = [
        (value, layer["name"])
        for layer in _layers(evidence)
        if layer["linear"] and (layer["weight_norm"] or 0) > 0 and (value := number(layer["signal_std"])) is not None
    ]
    if len(linear) < 3 or linear[0][0] == 0:
        return None
    hidden = linear[:-1]
    return hidden[-1][0] / hidden[0][0], hidden[-1][1], hidden[0][0]


@rule(
    "IN132",
    "bad-init-vanishing",
    "check-init",
    meaning="What differs between examples is lost on the way through the fresh model.",
    detected="The spread over examples before the last layer is less than 1e-4 of that after the first.",
    why="Outputs and gradients hardly depend on the input: the loss stays flat before it falls, or never does.",
    fix="Kaiming (ReLU) or Xavier (tanh) initialisation, normalisation layers, or residual connections.",
    confused_with="A zero-initialised head or residual branch; networks with normalisation, which restores the scale.",
    source="CS231n notes, weight initialisation; Glorot and Bengio 2010; He et al. 2015",
)
def signal_vanishes(evidence: Mapping[str, Any]) -> Finding | None:
    """A signal that dies with depth."""
    signal = _signal(evidence)
    if signal is None or signal[0] >= VANISHED:
        return None
    ratio, name, first = signal
    title = f"the signal at {name} is {ratio:.1g} of that after the first layer"
    return found("IN132", "warn", title, evidence={"layer": name, "ratio": ratio, "first": first}, confidence=0.8)


@rule(
    "IN133",
    "bad-init-exploding",
    "check-init",
    meaning="Activations grow without measure through the fresh model.",
    detected="The spread over examples before the last layer is more than 1e4 times that after the first.",
    why="The outputs are confidently wrong and gradients overflow; no rate fits all layers.",
    fix="Kaiming (ReLU) or Xavier (tanh) initialisation, or normalisation layers.",
    confused_with="Unscaled inputs, which are as large at the first layer.",
    source="CS231n notes, weight initialisation; He et al. 2015",
)
def signal_explodes(evidence: Mapping[str, Any]) -> Finding | None:
    """A signal that grows with depth."""
    signal = _signal(evidence)
    if signal is None or signal[0] <= EXPLODED:
        return None
    ratio, name, first = signal
    title = f"the signal at {name} is {ratio:.1g} times that after the first layer"
    return found("IN133", "warn", title, evidence={"layer": name, "ratio": ratio, "first": first}, confidence=0.9)


@rule(
    "IN134",
    "symmetric-init",
    "check-init",
    meaning="All units of a layer start with the same weights.",
    detected="Every row of a weight tensor equals the first, and is not zero; in two layers or more.",
    why="Units that start equal receive equal gradients and stay equal: the layer is one unit wide.",
    fix="Initialise weights at random; only biases and gains may be constant.",
    confused_with="A zero-initialised head or residual branch; a single constant layer between random ones.",
    source="CS231n notes, weight initialisation; NeuraLint",
)
def symmetric_units(evidence: Mapping[str, Any]) -> Finding | None:
    """Layers of identical units."""
    layers = probe(evidence, "layers")["layers"]
    known = [layer for layer in layers if layer["symmetric"] is not None]
    if not known:
        return None
    same = [layer["name"] for layer in known if layer["symmetric"]]
    if len(same) < 2:
        return None
    title = f"all units are equal in {len(same)} of {len(known)} layers: {', '.join(same[:4])}"
    return found("IN134", "warn", title, evidence={"layers": same}, confidence=0.9)


@rule(
    "IN135",
    "missing-nonlinearity",
    "check-init",
    meaning="The whole model is a linear function of its input, though it has several layers.",
    detected="f(2a - b) = 2 f(a) - f(b) for all of 32 pairs of examples, in eval mode, with noise on every weight.",
    why="Stacked linear layers are one linear layer: depth and width add nothing.",
    fix="Put an activation (ReLU, GELU) between the layers.",
    confused_with="Logistic regression on purpose, which has one layer; linear bottlenecks between activations.",
    source="NeuraLint: linear hidden layers; derived",
)
def all_linear(evidence: Mapping[str, Any]) -> Finding | None:
    """A deep model without activations."""
    answer = probe(evidence, "linearity")
    deviation = number(answer["deviation"])
    if deviation is None or deviation > AFFINE or answer["weights"] < 2:
        return None
    title = f"the model is linear in its input, with {answer['weights']} weight tensors in a row"
    return found("IN135", "warn", title, evidence=dict(answer), confidence=0.95)


@rule(
    "IN136",
    "bad-init-vanishing",
    "check-init",
    meaning="The sizes of the initial weights keep the model from learning: with them mended, it learns at once.",
    detected=(
        "Asked where the signal after the last hidden layer is less than a twentieth of that after the first: in 200 "
        "steps at the recipe's rate, at ten times that and at a tenth, the loss stays within 3 % of that of a "
        "constant output; with each layer rescaled to outputs of unit spread it falls by a quarter in half as many."
    ),
    why="Next to nothing of the input reaches the outputs, or of the error the first layers: nothing starts to move.",
    fix="Kaiming (ReLU) or Xavier (tanh) initialisation (model.init); normalisation layers; ReLU in place of sigmoids.",
    confused_with="A rate that is too low, at which the mended model does not learn either; a slow start.",
    source="Glorot and Bengio 2010; Mishkin and Matas 2016, All you need is a good init",
)
def learns_only_rescaled(evidence: Mapping[str, Any]) -> Finding | None:
    """A model that an initialisation of the right size sets going."""
    start = probe(evidence, "rescaled_start")
    if not start["tried"] or start["as_is"]["learns"] or not start["rescaled"]["learns"]:
        return None
    rates = ", ".join(f"{rate:g}" for rate in sorted(start["rates"]))
    title = (
        f"as initialised nothing is learnt at any rate of {rates}; with every layer rescaled it is, in "
        f"{start['rescaled']['steps']} steps"
    )
    return found("IN136", "warn", title, evidence=dict(start), confidence=0.9)


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
def input_ignored(evidence: Mapping[str, Any]) -> Finding | None:
    """Outputs that do not depend on the input."""
    answer = probe(evidence, "input_use")
    varies, zeroed = number(answer["varies"]), number(answer["changes_when_zeroed"])
    if varies is None or zeroed is None:
        raise Missing("the outputs are not finite")
    if varies > 0 or zeroed > 0:
        return None
    title = "the outputs are exactly the same for every example and for zeroed inputs"
    shut = [layer["name"] for layer in (evidence.get("layers") or {}).get("layers", []) if _is_shut(layer)]
    if not shut:
        return found("IN119", "error", title, evidence=dict(answer))
    title += f": every unit at {some(shut)} is zero for every example"
    remedy = "Look at the biases and the scale of the weights of the layers before it: the rectifier is always off."
    finding = found("IN119", "error", title, evidence={**answer, "shut": shut}, remedy=remedy)
    return replace(finding, cause="dead-units")


def _is_shut(layer: Mapping[str, Any]) -> bool:
    """Say whether no unit of a layer, or of its inputs, is ever on."""
    return 1.0 in (layer.get("dead_fraction"), layer.get("dead_input_fraction"))
