"""Does the user's code run where nothing unusual is asked of it: a few updates, and an evaluation of val?"""

from __future__ import annotations

import torch

from tuner.checks.tools.frame import CannotProbe, forward, one_batch
from tuner.checks.tools.updates import step_size, updates_of
from tuner.train.setup import Setup

UPDATES = 4


def runs_in_training(setup: Setup) -> bool:
    """Return whether a few updates with the recipe's step, and an evaluation of a batch of val, raise nothing.

    What a measurement gives a model (zeros, other orders, mixed examples) may be more than the user ever promised.
    """
    try:
        model = updates_of(setup, UPDATES, at_rest=False, keep=len)[0].eval()
        inputs, targets = one_batch(setup, step_size(setup), "step", "val" if setup.data.size("val") else "train")
        if setup.evaluate_hook is not None:
            setup.evaluate_hook(model=model, batches=[(inputs, targets)], loss=setup.loss())
        else:
            forward(model, inputs)
    except CannotProbe:
        return True
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception:
        return False
    return True
