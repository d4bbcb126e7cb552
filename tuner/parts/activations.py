"""Activations: functions that give a new module, and every activation of torch.nn by its lower-case name.

`model.activation` takes one for every built-in model; in any other model it replaces the activations by class.
Adding one is adding a function.
"""

from __future__ import annotations

from torch import nn

from tuner.core.errors import UsageError
from tuner.parts.layers import Maxout

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


CARDS = {  # those of torch.nn that no function here gives
    "celu": """Bend the negative side to -alpha with a slope of 1 at 0 for every alpha.

    When: as elu.
    alpha: 0.5 to 2.
    Source: J. Barron 2017.""",
    "hardshrink": """Set what is nearer to 0 than `lambd` to 0, and keep the rest.

    lambd: 0.1 to 1.
    Source: torch.nn.Hardshrink.""",
    "hardsigmoid": """Squash to 0..1 with straight pieces: min(1, max(0, x / 6 + 1/2)).

    When: a sigmoid is too dear.
    Source: M. Courbariaux et al. 2015; torch.nn.Hardsigmoid.""",
    "hardswish": """Weigh x by its hard sigmoid: silu without an exponential.

    When: small nets for phones.
    Source: A. Howard et al. 2019, MobileNetV3.""",
    "hardtanh": """Clip to -1..1, or to `min_val`..`max_val`.

    Source: torch.nn.Hardtanh.""",
    "log_sigmoid": """Take the logarithm of the sigmoid: always below 0.

    Source: torch.nn.LogSigmoid.""",
    "mish": """Weigh x by the tanh of its softplus: smooth, a little below 0 on the negative side.

    When: a try in place of ReLU.
    Source: D. Misra 2019.""",
    "relu6": """Clip to 0..6.

    When: MobileNets, numbers of low precision.
    Source: A. Krizhevsky 2010; torch.nn.ReLU6.""",
    "rrelu": """Draw a slope of the negative side for each value in training; in evaluation take the mean of the slopes.

    When: as leaky_relu, on little data.
    Source: B. Xu et al. 2015.""",
    "silu": """Weigh x by its sigmoid: x / (1 + exp(-x)), also called swish.

    When: EfficientNets, and a try in place of ReLU.
    Source: S. Elfwing et al. 2017; P. Ramachandran et al. 2017.""",
    "softplus": """Smooth ReLU: log(1 + exp(beta x)) / beta.

    When: outputs that must be above 0.
    Source: C. Dugas et al. 2001.""",
    "softshrink": """Move every value `lambd` towards 0, and to 0 what is nearer to it than that.

    lambd: 0.1 to 1.
    Source: torch.nn.Softshrink.""",
    "softsign": """Squash to -1..1 more slowly than tanh: x / (1 + |x|).

    Source: X. Glorot, Y. Bengio 2010.""",
    "tanhshrink": """Take x - tanh(x).

    Source: torch.nn.Tanhshrink.""",
}


def _more() -> dict[str, type[nn.Module]]:
    """Return the other activations of torch.nn by lower-case name, with underscores as torch.nn.functional has them."""
    spelled = {"LogSigmoid": "log_sigmoid", "RReLU": "rrelu"}
    names = [name for name in nn.modules.activation.__all__ if name not in LEFT_OUT]
    own = ("sigmoid", "tanh", "relu", "leakyrelu", "prelu", "gelu", "elu", "selu")
    return {spelled.get(name, name.lower()): getattr(nn, name) for name in names if name.lower() not in own}
