"""Activations: functions that give a new module, and every activation of torch.nn by its lower-case name.

`model.activation` takes one for every built-in model; in any other model it replaces the activations by class.
Adding one is adding a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tuner.core.errors import UsageError, did_you_mean
from tuner.recipe.registry import arguments, bind, resolve

LEFT_OUT = ("MultiheadAttention", "Softmax2d", "Softmax", "LogSoftmax", "Softmin", "Threshold", "GLU")


def sigmoid() -> nn.Module:
    """Squash to 0..1: 1 / (1 + exp(-x)).

    When: gates and outputs; in hidden layers gradients vanish where it is flat, and its outputs are not centred.
    Source: the lecture, activation functions.
    """
    return nn.Sigmoid()


def tanh() -> nn.Module:
    """Squash to -1..1, centred.

    When: recurrent nets, small nets; gradients vanish where it is flat.
    Source: the lecture, activation functions.
    """
    return nn.Tanh()


def relu() -> nn.Module:
    """Keep what is positive: max(0, x).

    When: the place to begin. Units whose inputs are all negative are dead.
    Source: the lecture, activation functions: use ReLU.
    """
    return nn.ReLU()


def leaky_relu(negative_slope: float = 0.01) -> nn.Module:
    """Keep what is positive, and a little of what is negative: max(slope x, x).

    When: units die under ReLU. The lecture has both 0.01 and 0.1.
    negative_slope: 0.01 to 0.3, log.
    Source: the lecture, activation functions; A. Maas et al. 2013.
    """
    return nn.LeakyReLU(negative_slope)


def prelu(init: float = 0.25) -> nn.Module:
    """Learn the slope of the negative side, one for all channels of the layer.

    When: as leaky_relu, with data enough to learn it.
    init: 0.01 to 0.5, log.
    Source: the lecture, activation functions; K. He et al. 2015.
    """
    return nn.PReLU(init=init)


def gelu(approximate: str = "none") -> nn.Module:
    """Weigh x by the share of a normal distribution below it: x Phi(x).

    When: transformers, and a try in place of ReLU.
    Source: the lecture, activation functions; D. Hendrycks, K. Gimpel 2016.
    """
    return nn.GELU(approximate)


def elu(alpha: float = 1.0) -> nn.Module:
    """Bend the negative side to -alpha: alpha (exp(x) - 1).

    When: nets without normalisation; centred more than ReLU, dearer to compute.
    alpha: 0.5 to 2.
    Source: the lecture, activation functions; D. Clevert et al. 2015.
    """
    return nn.ELU(alpha)


def selu() -> nn.Module:
    """Scale ELU so that activations keep mean 0 and variance 1 through layers.

    When: deep MLPs without normalisation, with normal weights of variance 1 / fan-in.
    Source: the lecture, activation functions; G. Klambauer et al. 2017.
    """
    return nn.SELU()


def maxout(pieces: int = 2) -> nn.Module:
    """Take the largest of `pieces` linear functions of the layer's input, which has that many times the weights.

    In the built-in models, whose layers are widened for it: max(w1 x + b1, w2 x + b2).

    When: dropout with weights to spare.
    pieces: 2 to 4.
    Source: the lecture, activation functions; I. Goodfellow et al. 2013.
    """
    if not isinstance(pieces, int) or pieces < 2:
        raise UsageError(f"model.activation.pieces: must be an integer of at least 2 (got {pieces!r})")
    return Maxout(pieces)


class Maxout(nn.Module):
    """Take the maximum over `pieces` groups of channels: (N, pieces C, ...) gives (N, C, ...)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.pieces, -1)).amax(1)


Maxout.__module__ = "tuner.parts"  # made by maxout(); no activation by this name


def _more() -> dict[str, type[nn.Module]]:
    """Return the other activations of torch.nn by lower-case name, with underscores as torch.nn.functional has them."""
    spelled = {"LogSigmoid": "log_sigmoid", "RReLU": "rrelu"}
    names = [name for name in nn.modules.activation.__all__ if name not in LEFT_OUT]
    own = ("sigmoid", "tanh", "relu", "leakyrelu", "prelu", "gelu", "elu", "selu")
    return {spelled.get(name, name.lower()): getattr(nn, name) for name in names if name.lower() not in own}


@dataclass(frozen=True)
class Activation:
    """An activation of the recipe, built for each layer. `pieces`: how many times wider the layer before it is."""

    name: str
    fn: Any
    args: Mapping[str, Any] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()

    def __call__(self) -> nn.Module:
        return self.fn(**self.args)

    @property
    def pieces(self) -> int:
        return self.args.get("pieces", 2) if self.fn is maxout else 1


def activation_of(value: Any, base_dir: Path = Path()) -> Activation:
    """Read `model.activation`: a name, or a table with a name, arguments and `replaces` (names of classes).

    Raises:
        UsageError: "unknown activation", "takes no such argument", "a table needs a name".
    """
    if isinstance(value, Activation):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise UsageError(f"model.activation: a table needs a name (got {value!r})", 'Write { name = "elu", ... }.')
    name = table["name"]
    fn = resolve("activation", name.lower() if "." not in name else name, base_dir)
    args = arguments(table, ("name", "replaces"))
    bind(fn, {}, args, "model.activation")
    replaces = table.get("replaces", ())
    return Activation(name, fn, args, (replaces,) if isinstance(replaces, str) else tuple(replaces))


def replace_activations(model: nn.Module, activation: Activation) -> nn.Module:
    """Put a new activation in the place of each that is of the classes it `replaces`, else of torch.nn's activations.

    Raises:
        UsageError: "no ... to replace", maxout.
    """
    if activation.pieces > 1:
        text = "model.activation: maxout widens the layer before it, which only the built-in models can do"
        raise UsageError(text, "Take another activation, or mlp, convnet or a built-in residual net.")
    known = tuple(getattr(nn, name) for name in nn.modules.activation.__all__ if name not in LEFT_OUT)
    there = {name: module for name, module in model.named_modules() if isinstance(module, known)}
    if activation.replaces:
        there = {n: m for n, m in model.named_modules() if n and type(m).__name__ in activation.replaces}
    if not there:
        has = sorted({type(module).__name__ for module in model.modules() if not list(module.children())})
        wanted = activation.replaces[0] if activation.replaces else "activation module"
        close = did_you_mean(wanted, has)
        raise UsageError(
            f"model.activation: the model has no {wanted} to replace{close} (it has: {', '.join(has)})",
            "Name the class with replaces = [...]; functions such as F.relu inside forward cannot be replaced.",
        )
    for name in there:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, activation())
    return model
