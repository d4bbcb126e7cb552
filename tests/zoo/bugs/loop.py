"""Bugs of the training loop."""

from tests.zoo.case import bug


@bug("digits-mlp", "train.step", causes=["gradients-accumulate"], step="check-init")
def gradients_are_never_cleared(model, batch, loss, optimizer):
    """The gradients are never set to zero, so every step adds to those before it."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value
