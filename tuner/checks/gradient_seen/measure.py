"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tuner.checks.gradient_seen.evidence import GradientSeen
from tuner.checks.tools.cost import is_large
from tuner.checks.tools.frame import Batch, CannotProbe, before_training, fresh_model, one_batch, random_state, takes
from tuner.checks.tools.updates import dot, step_size, updates_of
from tuner.train.own_loss import told
from tuner.train.setup import Setup


@before_training
@takes(5)
def gradient_seen(setup: Setup, batches: int = 2) -> GradientSeen:
    """Compare the gradient that an update sees with the one that the loss has on that batch, computed apart."""
    size, calls = step_size(setup), []
    batches = 1 if is_large(setup) else batches
    norms: list[tuple[float, float]] = []
    inner: list[float] = []
    for index in range(batches):
        batch = one_batch(setup, size, f"gradient {index}")
        model, loss = fresh_model(setup), setup.loss()
        with random_state(setup.spec.seed), told(batch[1]):
            loss(model(batch[0]), batch[1]).backward()
        own = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        del model  # before the next is built
        seen, needed, optimizer = gradient_on(setup, batch)
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        del optimizer
        seen = {name: g for name, g in seen.items() if name in own}
        norms.append((math.sqrt(dot(own, own)), math.sqrt(dot(seen, seen))))
        inner.append(dot(own, seen))
        calls.append(needed)
        del own, seen
    if not all(a > 0 for a, _ in norms):
        raise CannotProbe("the loss has no gradient")
    return GradientSeen(
        ratios=[b / a for a, b in norms],
        norms=[b for _, b in norms],
        cosines=[product / max(a * b, 1e-300) for product, (a, b) in zip(inner, norms, strict=True)],
        maximises=any(bool(group.get("maximize")) for group in groups),
        adaptive=any("betas" in group or "eps" in group for group in groups),
        clip_norm=setup.spec.tables["train"].get("clip_norm"),
        calls=max(calls),
    )


def gradient_on(setup: Setup, batch: Batch) -> tuple[dict[str, Tensor | None], int, torch.optim.Optimizer]:
    """Return the gradient that a whole update on a batch sees, how many calls of the step it took, and the optimizer.

    Every call is given the same batch.
    """
    needed = 1 if setup.train_step is None else 2
    _, optimizer, watch, _ = updates_of(setup, needed, at_rest=True, batch=batch)
    if not watch.gradients:
        raise CannotProbe("the training step makes no update with the recipe's optimizer")
    # a step that counts its calls beyond this model may be in the middle of a round: the second one is whole
    whole = len(watch.called) > 1 and watch.called[1] - watch.called[0] > 1
    return watch.gradients[whole], watch.called[1] - watch.called[0] if whole else watch.called[0], optimizer
