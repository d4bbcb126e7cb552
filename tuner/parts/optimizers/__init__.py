"""Optimizers: every class of torch.optim by its lower-case name, and functions `build(params, lr, **args)`.

Adding one is adding a function to a module of this package; it may ask for `model` as well.
"""

from __future__ import annotations

import torch

OWN = ("muon",)  # built here, over torch's class of that name
CARDS = {
    "sgd": """Step against the gradient, with momentum where it is set; steady, and slow without it.

    When: the place to begin for nets of convolutions with normalisation, with a decaying rate.
    momentum: 0.8 to 0.99. weight_decay: 1e-6 to 1e-2, log.
    Source: the notes on hyperparameters: SGD, momentum (0.9).""",
    "adam": """Scale each step by running means of the gradient and of its square.

    When: something must train at once, without much tuning; sparse gradients.
    weight_decay: 1e-6 to 1e-2, log. eps: 1e-8 to 1e-3, log.
    Source: D. Kingma, J. Ba 2014; the notes: lr 3e-4 to 1e-3, betas 0.9 and 0.999.""",
    "adamw": """Adam with the decay of the weights apart from the gradient.

    When: Adam with weight decay; transformers.
    weight_decay: 1e-4 to 0.3, log. eps: 1e-8 to 1e-3, log.
    Source: I. Loshchilov, F. Hutter 2017.""",
    "adagrad": """Divide the rate by the root of the sum of squared gradients: it falls by itself.

    When: sparse features.
    Source: J. Duchi et al. 2011; the notes, AdaGrad.""",
    "adadelta": """Scale steps by running means of squared steps and gradients.

    When: little is known of a rate; use lr 1.
    rho: 0.8 to 0.99.
    Source: M. Zeiler 2012; the notes, AdaDelta.""",
    "rmsprop": """Divide the gradient by the root of a running mean of its square.

    When: recurrent nets, reinforcement learning.
    alpha: 0.8 to 0.999. momentum: 0 to 0.95.
    Source: T. Hinton 2012; the notes, RMSProp (0.9, 1e-6).""",
    "adamax": """Adam with the largest gradient of late in place of the mean square.

    Source: D. Kingma, J. Ba 2014, section 7.""",
    "nadam": """Adam with Nesterov's momentum.

    Source: T. Dozat 2016; the notes, Nesterov momentum.""",
    "radam": """Adam whose first steps are held back until the mean square is known.

    When: Adam without a warm-up.
    Source: L. Liu et al. 2019.""",
    "lbfgs": """Take quasi-Newton steps, several evaluations of the loss in each.

    When: small data in one batch, without dropout; `line_search_fn = "strong_wolfe"`.
    Source: D. Liu, J. Nocedal 1989.""",
    "adafactor": """Keep of the mean square of a matrix's gradient the sums of its rows and columns alone.

    When: the state of Adam does not fit into memory.
    Source: N. Shazeer, M. Stern 2018.""",
    "asgd": """Step as SGD with a rate that falls; its average of the weights stays in its state and is not evaluated.

    When: hardly ever: train.swa and train.ema evaluate averages.
    Source: B. Polyak, A. Juditsky 1992.""",
    "rprop": """Step by the sign of the gradient, each weight by a length of its own that grows while the sign stays.

    When: all of train is one batch.
    Source: M. Riedmiller, H. Braun 1993.""",
    "sparseadam": """Adam of sparse gradients alone: only rows that have one move.

    When: nothing but embeddings with sparse = True is trained.
    Source: torch.optim.SparseAdam, after D. Kingma, J. Ba 2014.""",
}


def _more() -> dict[str, type[torch.optim.Optimizer]]:
    """Return torch's own optimizers by lower-case name, whichever this version of torch has."""
    base = torch.optim.Optimizer
    return {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and name.lower() not in OWN
    }
