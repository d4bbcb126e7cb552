"""What a little more training under other settings makes of trained weights: the confirming runs of the diagnosis."""

from __future__ import annotations

from tuner.checks.continued.evidence import Continued
from tuner.checks.evidence import NotMeasured
from tuner.checks.tools.frame import dropout_off
from tuner.core.errors import InputError
from tuner.train.checkpoint import load
from tuner.train.loop import evaluate_epoch, train_epoch
from tuner.train.setup import Setup
from tuner.train.state import start


def continued(setup: Setup, checkpoint: str, epochs: int, dropout: bool = True) -> Continued | NotMeasured:
    """Load a checkpoint (path relative to the run's folder) and train on from it with this trial's recipe.

    All arms of a question start from the same weights, and see the same batches where they have the same seed, so that
    what differs between them is the setting alone. `dropout`: False sets every dropout module's rate to 0.
    """
    if setup.env.stage_dir is None:
        raise ValueError("continuing needs the run's folder")
    training = start(setup)
    try:
        training.model.load_state_dict(load(setup.env.stage_dir.parent / checkpoint, setup.env.device)["model"])
    except (InputError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        return NotMeasured(f"the winner's weights cannot be loaded: {str(error).strip().splitlines()[0]}")
    if not dropout:
        dropout_off(training.model)
    for epoch in range(1, epochs + 1):
        train_epoch(setup, training, epoch, epochs)
        if training.diverged is None:
            evaluate_epoch(setup, training, epoch)
        if training.diverged is not None:
            break
    return Continued(curve=training.curve, epochs=epochs, diverged=training.diverged is not None)
