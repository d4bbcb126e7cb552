"""Whether the batch norms of a frozen part stay as they were, and fit what they are given."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tuner.checks.fine_tuning.evidence import FineTuning
from tuner.checks.tools.frame import NORMALISATION, DoesNotApply, before_training, fresh_model, one_batch
from tuner.train.setup import Setup

EXAMPLES = 128
SMALL = 1e-6  # a standard deviation of nothing


@before_training
def fine_tuning(setup: Setup) -> FineTuning:
    """Show the model of the first epoch a batch in eval mode, and hold what its frozen batch norms are given against
    the statistics that they keep.
    """
    model = fresh_model(setup)
    frozen = {name: module for name, module in model.named_modules() if _is_frozen_norm(module)}
    layers = [item for item in model.parameters() if item.ndim > 1 and not item.requires_grad]
    if not frozen or not layers:
        raise DoesNotApply("no batch norm of the model is frozen")
    moving = [name for name, module in frozen.items() if module.training]
    kept = {name: module for name, module in frozen.items() if not module.training and _is_trained(module)}
    found: dict[str, float] = {}
    names = {module: name for name, module in kept.items()}

    def hear(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found[names[module]] = _off(module, given[0])

    hooks = [module.register_forward_pre_hook(hear) for module in names]
    with torch.no_grad():
        model.eval()(one_batch(setup, EXAMPLES, "fine_tuning")[0])
    for hook in hooks:
        hook.remove()
    worst = max(found, key=lambda name: found[name], default=None)
    return FineTuning(moving, len(kept), None if worst is None else found[worst], worst)


def _is_frozen_norm(module: nn.Module) -> bool:
    if not isinstance(module, NORMALISATION) or module.running_mean is None or not module.affine:
        return False
    return not any(item.requires_grad for item in module.parameters())


def _is_trained(module: nn.Module) -> bool:
    """Return whether the statistics are not those of a layer that has seen nothing."""
    mean, var = module.running_mean, module.running_var
    assert isinstance(mean, Tensor) and isinstance(var, Tensor)
    return not (bool((mean == 0).all()) and bool((var == 1).all()))


def _off(module: nn.Module, given: Tensor) -> float:
    """Return how far the inputs of the median channel are from the statistics: 1 where they fit, in standard deviations
    beside them or times wider or narrower.
    """
    mean, var = module.running_mean, module.running_var
    assert isinstance(mean, Tensor) and isinstance(var, Tensor)
    values = given.float().transpose(0, 1).flatten(1)
    spread = var.sqrt().clamp_min(SMALL)
    wider = values.std(1).clamp_min(SMALL) / spread
    beside = (values.mean(1) - mean).abs() / spread
    return float(torch.maximum(torch.maximum(wider, 1 / wider), beside).median())
