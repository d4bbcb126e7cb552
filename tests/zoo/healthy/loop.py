"""Training loops that look unusual and are sound."""

from tests.zoo.case import healthy


@healthy("digits-mlp", "train.step")
def gradients_are_cleared_after_the_step(model, batch, loss, optimizer):
    """zero_grad stands at the end of the step, not at its beginning."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value
