"""Rules over the activations and weights of the fresh model, layer by layer (check-init): codes IN119, IN13x."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.layers.evidence import Layers
from tuner.checks.limits import Limit
from tuner.core.metrics import LayerSignal
from tuner.core.result import Finding

DEAD = Limit("dead", 0.5, "of the units of a layer", "SageMaker Debugger, DeadRelu: threshold_layer 50 %")
SATURATED = Limit(
    "saturated", 0.5, "of the activations", "SageMaker Debugger, SaturatedActivation: threshold_layer 50 %"
)
VANISHED = Limit(
    "vanished",
    1e-4,
    "of the signal after the first layer",
    "zoo: twelve plain layers in PyTorch's default init still train and keep more",
)
EXPLODED = Limit(
    "exploded", 1e4, "times the signal after the first layer", "zoo: sound nets without normalisation grow by less"
)
ENOUGH = Limit("enough", 64, "examples", "derived: fewer do not say what a unit never does")


def _layers(answer: Layers) -> Sequence[LayerSignal]:
    if answer.examples < ENOUGH:
        raise Missing(f"only {answer.examples} examples: too few to say what a unit never does")
    return answer.layers


def _worst(layers: Sequence[LayerSignal], key: str) -> tuple[float, str] | None:
    known = [(value, layer.name) for layer in layers if (value := number(getattr(layer, key))) is not None]
    return max(known, default=None, key=lambda pair: pair[0])


@rule(
    "IN130",
    "dead-units",
    "check-init",
    meaning="Most units of a rectified layer are zero for every example.",
    detected=f"Units that are 0 for every example of the probe batch; more than {DEAD:.0%} of a layer.",
    why="They pass no gradient and so never come back: the layer is narrower than it looks, or shut.",
    fix="Kaiming initialisation, no large negative biases, normalised inputs; or leaky ReLU or GELU.",
    confused_with="Half of all activations being zero for one example, which is normal.",
    source="CS231n notes, ReLU; SageMaker Debugger DeadRelu",
    explained_by=("IN152", "IN155", "unnormalised-input", "bad-init-exploding"),
)
def dead_units(found_layers: Layers) -> Finding | None:
    layers = _layers(found_layers)
    worst = [w for key in ("dead_fraction", "dead_input_fraction") if (w := _worst(layers, key)) is not None]
    if not worst:
        return None
    share, name = max(worst)
    if share <= DEAD:
        return None
    own = any(layer.name == name and layer.dead_fraction == share for layer in layers)
    where = name if own else f"the input of {name}"
    dead = {layer.name: layer.dead_fraction for layer in layers if (number(layer.dead_fraction) or 0) > DEAD}
    title = f"{share:.0%} of the units at {where} are zero for every example"
    return found("IN130", "warn", title, evidence={"layer": name, "share": share, "layers": dead})


@rule(
    "IN131",
    "saturated-units",
    "check-init",
    meaning="Most sigmoid or tanh units are at the end of their range.",
    detected=f"|tanh| above 0.99, or sigmoid outside 0.01..0.99, for more than {SATURATED:.0%} of a layer's "
    "activations.",
    why="There the slope is nearly 0, so almost no gradient passes.",
    fix="Normalise the inputs; Xavier initialisation; or another activation.",
    confused_with="Confident gates of a trained model: this one is fresh.",
    source="CS231n notes, activation functions; Glorot and Bengio 2010",
    explained_by=("IN133", "unnormalised-input"),
)
def saturated_units(found_layers: Layers) -> Finding | None:
    worst = _worst(_layers(found_layers), "saturated_fraction")
    if worst is None:
        return None
    share, name = worst
    if share <= SATURATED:
        return None
    title = f"{share:.0%} of the activations of {name} are at the end of their range"
    return found("IN131", "warn", title, evidence={"layer": name, "share": share})


def _signal(found_layers: Layers) -> tuple[float, str, float] | None:
    """Return the last hidden signal over the first layer's, its layer, and the first; None where there is no depth."""
    linear = [
        (value, layer.name)
        for layer in _layers(found_layers)
        if layer.linear and (layer.weight_norm or 0) > 0 and (value := number(layer.signal_std)) is not None
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
    detected=f"The spread over examples before the last layer is less than {VANISHED} of that after the first.",
    why="Outputs and gradients hardly depend on the input: the loss stays flat before it falls, or never does.",
    fix="Kaiming (ReLU) or Xavier (tanh) initialisation, normalisation layers, or residual connections.",
    confused_with="A zero-initialised head or residual branch; networks with normalisation, which restores the scale.",
    source="CS231n notes, weight initialisation; Glorot and Bengio 2010; He et al. 2015",
    explained_by=("IN131", "IN134", "IN136", "unnormalised-input"),
)
def signal_vanishes(found_layers: Layers) -> Finding | None:
    signal = _signal(found_layers)
    if signal is None or signal[0] >= VANISHED:
        return None
    ratio, name, first = signal
    title = f"the signal at {name} is {ratio:.1g} of that after the first layer"
    return found("IN132", "warn", title, evidence={"layer": name, "ratio": ratio, "first": first})


@rule(
    "IN133",
    "bad-init-exploding",
    "check-init",
    meaning="Activations grow without measure through the fresh model.",
    detected=f"The spread over examples before the last layer is more than {EXPLODED} times that after the first.",
    why="The outputs are confidently wrong and gradients overflow; no rate fits all layers.",
    fix="Kaiming (ReLU) or Xavier (tanh) initialisation, or normalisation layers.",
    confused_with="Unscaled inputs, which are as large at the first layer.",
    source="CS231n notes, weight initialisation; He et al. 2015",
)
def signal_explodes(found_layers: Layers) -> Finding | None:
    signal = _signal(found_layers)
    if signal is None or signal[0] <= EXPLODED:
        return None
    ratio, name, first = signal
    title = f"the signal at {name} is {ratio:.1g} times that after the first layer"
    return found("IN133", "warn", title, evidence={"layer": name, "ratio": ratio, "first": first})


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
def symmetric_units(found_layers: Layers) -> Finding | None:
    layers = found_layers.layers
    known = [layer for layer in layers if layer.symmetric is not None]
    if not known:
        return None
    same = [layer.name for layer in known if layer.symmetric]
    if len(same) < 2:
        return None
    title = f"all units are equal in {len(same)} of {len(known)} layers: {', '.join(same[:4])}"
    return found("IN134", "warn", title, evidence={"layers": same})
