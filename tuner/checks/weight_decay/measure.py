"""Weight decay: does it shrink what it should, and nothing else?"""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.tools.frame import CannotProbe, DoesNotApply, before_training, fresh_model, fresh_optimizer
from tuner.checks.weight_decay.evidence import WeightDecay
from tuner.train.setup import Setup


@before_training
def weight_decay(setup: Setup) -> WeightDecay:
    """Make a step with zero gradients: it must shrink exactly the decayed parameters, and none with decay off.

    The step is made at rate 1e-3 and with at least 0.1 of decay where the recipe has any, so that it shows in
    single precision. Parameters that are zero cannot shrink and are left out.
    """
    asked = setup.spec.tables["optimizer"].get("weight_decay")
    optimizer = fresh_optimizer(setup, fresh_model(setup))
    if not all("weight_decay" in group for group in optimizer.param_groups):
        raise DoesNotApply(f"{type(optimizer).__name__} has no weight_decay to ask for")
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise CannotProbe("SparseAdam takes sparse gradients only")
    decays = sorted({float(group["weight_decay"]) for group in optimizer.param_groups})
    del optimizer  # and with it its model, before the next is built
    on, off = _decay_step(setup, on=True), _decay_step(setup, on=False)
    return WeightDecay(
        asked=asked,
        in_groups=decays,
        decayed=[name for name, (decay, _, _) in on.items() if decay > 0],
        exempt=[name for name, (decay, _, _) in on.items() if decay == 0],
        not_shrunk=[name for name, (decay, way, _) in on.items() if decay > 0 and way != "shrunk"],
        moved_though_exempt=[name for name, (decay, way, _) in on.items() if decay == 0 and way != "same"],
        moved_with_decay_off=[name for name, (_, way, _) in off.items() if way != "same"],
        factors=sorted({round(factor, 6) for decay, _, factor in on.values() if decay > 0}),
    )


def _decay_step(setup: Setup, *, on: bool) -> dict[str, tuple[float, str, float]]:
    """Return, per non-zero parameter that the optimizer has: its group's decay, what it did, and by what factor."""
    model = fresh_model(setup)
    optimizer = fresh_optimizer(setup, model)
    decay_of: dict[int, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = torch.full_like(group["lr"], 1e-3) if isinstance(group["lr"], Tensor) else 1e-3
        group["weight_decay"] = max(float(group["weight_decay"]), 0.1) if on and group["weight_decay"] > 0 else 0.0
        decay_of |= {id(p): group["weight_decay"] for p in group["params"] if p.requires_grad}
    named = {name: p for name, p in model.named_parameters() if id(p) in decay_of and bool((p != 0).any())}
    before = {name: p.detach().clone() for name, p in named.items()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    return {name: (decay_of[id(p)], *_what_happened(before[name], p.detach())) for name, p in named.items()}


def _what_happened(before: Tensor, after: Tensor) -> tuple[str, float]:
    factor = float(after.abs().sum().double() / before.abs().sum().double())
    if torch.equal(before, after):
        return "same", factor
    inward = bool(((after - before) * before <= 0).all())
    return ("shrunk" if inward and factor < 1 else "moved"), factor
