"""Can the model drive a tiny fixed subset to the loss floor? If not, it is a bug, not a hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.overfit.evidence import Overfit
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.beginnings import floors
from tuner.checks.tools.frame import (
    NORMALISATION,
    Batch,
    accuracy,
    entropy,
    forward,
    fresh_model,
    fresh_optimizer,
    gathered,
    judged,
    keys_of,
    random_in_train_mode,
    random_state,
    shaken_model,
    train_once,
)
from tuner.checks.tools.whole import whole
from tuner.core.streams import derive_seed
from tuner.train.nested import blanked, first, leaves, mapped
from tuner.train.setup import Setup

LOOK_EVERY = 10


# a loss that has not fallen by one percent of its range in this many steps is stuck
PATIENCE = 150
RECALIBRATE = 50


@dataclass
class _Run:
    """The state of one attempt. `has_classes`: an output per class, so that answers are right or wrong."""

    model: nn.Module
    batch: Batch
    loss: Callable[..., Tensor]
    target: float | None
    span: float
    has_classes: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    right: float | None = None

    def look(self, *, training: bool) -> tuple[float, float | None, Tensor]:
        """Return loss, accuracy and outputs on the subset, in train or eval mode, without moving any statistics."""
        kept = {name: b.clone() for name, b in self.model.named_buffers()}
        self.model.train(training)
        with random_state(0):
            outputs, value = judged(self.model, self.batch, self.loss)
        self.model.train()
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(kept[name])
            right = accuracy(outputs, self.batch[1]) if self.has_classes else None
            return value, right, outputs

    def at_floor(self, value: float, right: float | None) -> bool:
        return self.target is not None and value <= self.target and right in (None, 1.0)


def overfit(
    setup: Setup,
    examples: int = 32,
    max_steps: int = 400,
    tolerance: float = 0.02,
    give_up_early: bool = True,
    reference: bool = False,
) -> Overfit:
    """Train full-batch on a fixed class-balanced subset until the loss is at its floor and every example is right.

    Augmentation, dropout and weight decay are off, the rate is the recipe's and constant. The floor is the least that
    the loss gives over free outputs for these labels; `tolerance` is the share of the way from there to the loss at
    uniform outputs.
    """
    setup = whole(setup)
    strata = torch.from_numpy(setup.data.task.strata(setup.data.targets("train").numpy()))
    indices = balanced(strata, examples, derive_seed(setup.spec.seed, "overfit"))
    batch = gathered(setup, "train", indices)
    model, loss = fresh_model(setup), setup.loss()
    facts = _levels(model, shaken_model(setup), loss, batch, tolerance)
    facts |= {"random_in_train_mode": random_in_train_mode(model, batch[0])}
    rate = float(setup.spec.tables["optimizer"]["lr"])
    if reference:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    else:
        optimizer = fresh_optimizer(setup, model, decay=False)
    has_classes = "accuracy" in setup.data.task.scores
    run = _Run(model, batch, loss, facts["target"], facts["span"], has_classes)
    facts |= {"first_loss": run.look(training=True)[0]}
    status = _train(setup, run, optimizer, max_steps, give_up_early)
    facts |= {
        "status": status,
        "lr": rate,
        "reference": reference,
        "examples": len(indices),
        "classes": int(batch[1].unique().numel()),
        "distinct_inputs": len(set(zip(*map(keys_of, leaves(batch[0])), strict=True))),
        "steps": len(run.losses),
        "initial_loss": run.losses[0] if run.losses else None,
        "last_objective": run.losses[-1] if run.losses else None,
        "lowest_loss": min((v for v in run.losses if math.isfinite(v)), default=None),
        "moved": any(value != run.losses[0] for value in run.losses[1:]),
        "curve": run.rows,
    }
    if status != "diverged":
        facts |= _verdict(run)
    else:
        facts |= {"final_loss": None, "final_accuracy": None, "train_mode_loss": None}
    return Overfit.from_json(facts)


def balanced(targets: Tensor, examples: int, seed: int) -> Tensor:
    """Return indices of a fixed subset: as many of each class as fit, at least two of each where that stays small."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    by_class: dict[int, list[int]] = {}
    for index in order.tolist():
        by_class.setdefault(int(targets[index]), []).append(index)
    total = max(examples, 2 * len(by_class)) if 2 * len(by_class) <= 2 * examples else examples
    picked: list[int] = []
    for rank in range(max(map(len, by_class.values()))):
        picked += [members[rank] for _, members in sorted(by_class.items()) if rank < len(members)]
    if len(by_class) > total:
        picked = [members[0] for members in by_class.values()]
    return torch.tensor(sorted(picked[:total]))


def _levels(
    model: nn.Module, shaken: nn.Module, loss: Callable[..., Tensor], batch: Batch, tolerance: float
) -> dict[str, Any]:
    """Return the levels that the loss can be stuck at: floors over outputs of each kind, and without the input."""
    inputs, targets = batch
    shape = forward(model, inputs).shape
    kind = _outputs.kind_of(model, first(inputs, 16))
    floor_of, ambiguous = floors(shaken, loss, inputs, targets, shape)
    free = floor_of("logits")
    own = free if kind == "logits" else floor_of(kind)
    floor = next((f for f in (free, own) if f is not None and math.isfinite(f)), None)
    uniform = _outputs.value(loss, _outputs.uniform(kind, shape, targets.device), targets)
    constant = _outputs.constant_floor(loss, targets, shape, kind)
    if uniform is None or (targets.is_floating_point() and targets.ndim < 2):
        uniform = constant
    span = abs(uniform - floor) if uniform is not None and floor is not None else 1.0
    squashed = {name: floor_of(name) for name in _outputs.SQUASHED}
    return {
        "kind": kind,
        "loss_floor": floor,
        "own_floor": own if own is None or math.isfinite(own) else None,
        "unbounded": floor is None and -math.inf in (free, own),
        "loss_at_uniform": uniform,
        "constant_floor": constant,
        "ambiguous": ambiguous,
        "label_entropy": _label_entropy(targets),
        "squashed_floors": {k: v for k, v in squashed.items() if v is not None and math.isfinite(v)},
        "span": span,
        "target": None if floor is None else floor + tolerance * span,
    }


def _label_entropy(targets: Tensor) -> float | None:
    """Return the entropy of the subset's classes, None where targets are no classes."""
    inside = None if targets.is_floating_point() else targets[targets >= 0]
    return None if inside is None else entropy(torch.bincount(inside))


def _train(setup: Setup, run: _Run, optimizer: torch.optim.Optimizer, max_steps: int, give_up_early: bool) -> str:
    """Train until the floor, a plateau, divergence or the last step; append to the run's rows."""
    lowest: list[float] = []
    for step in range(1, max_steps + 1):
        with random_state(derive_seed(setup.spec.seed, "overfit", step)):
            value = train_once(setup, run.model, run.batch, run.loss, optimizer)
        run.model.train()
        run.losses.append(value)
        run.rows.append({"step": step, "epoch": step, "split": "train", "loss": value})
        if not math.isfinite(value):
            return "diverged"
        lowest.append(min(value, lowest[-1]) if lowest else value)
        close = run.target is not None and value <= run.target
        if not (step % LOOK_EVERY == 0 or step == max_steps or close):
            continue
        eval_loss, eval_right, _ = run.look(training=False)
        if step % LOOK_EVERY == 0 or step == max_steps:
            run.rows.append(
                {"step": step, "epoch": step, "split": "train_eval", "loss": eval_loss, "accuracy": eval_right}
            )
        if run.at_floor(eval_loss, eval_right) or (close and run.at_floor(*run.look(training=True)[:2])):
            return "floor"
        if give_up_early and step > PATIENCE + 50 and lowest[-PATIENCE] - lowest[-1] < 0.01 * run.span:
            return "plateau"
    falling = len(lowest) > PATIENCE and lowest[-PATIENCE] - lowest[-1] >= 0.01 * run.span
    return "steps" if falling or max_steps <= PATIENCE else "plateau"


def _verdict(run: _Run) -> dict[str, Any]:
    """Judge the trained model in both modes, on real, zeroed and permuted inputs."""
    train_loss, train_right, outputs = run.look(training=True)
    eval_loss, eval_right, eval_outputs = run.look(training=False)
    facts: dict[str, Any] = {
        "final_loss": train_loss,
        "final_accuracy": train_right,
        "train_mode_loss": train_loss,
        "eval_loss": eval_loss,
        "eval_accuracy": eval_right,
        "outputs_low": float(outputs.min()),
        "outputs_high": float(outputs.max()),
        "outputs_vary": float((eval_outputs - eval_outputs[:1]).abs().max()),
        "cut_off": _cut_off(outputs, run.batch[1]) if run.has_classes else None,
    }
    if run.at_floor(eval_loss, eval_right) and not run.at_floor(train_loss, train_right):
        facts |= {"final_loss": eval_loss, "final_accuracy": eval_right}
    inputs, targets = run.batch
    kept = run.batch
    rolled = mapped(lambda part: part.roll(1, 0), inputs)
    for name, given in (("zeroed", blanked(inputs)), ("rolled", rolled)):
        run.batch = (given, targets)
        facts[f"loss_{name}"] = run.look(training=True)[0]
    run.batch = kept
    return facts | _recalibrated(run)


def _cut_off(outputs: Tensor, targets: Tensor) -> float | None:
    """Return the share of the wrong answers whose right class has an output of exactly 0; None where there are none."""
    if accuracy(outputs, targets) in (None, 1.0):
        return None
    wrong = outputs.argmax(1) != targets
    return float((outputs[wrong, targets[wrong]] == 0).double().mean())


def _recalibrated(run: _Run) -> dict[str, Any]:
    """Let the normalisation layers see the batch again, without updates, and judge in eval mode once more."""
    layers = [m for m in run.model.modules() if isinstance(m, NORMALISATION) and m.track_running_stats]
    momenta = [m.momentum for m in layers if m.momentum is not None]
    run.model.train()
    with random_state(0):
        for _ in range(RECALIBRATE if layers else 0):
            forward(run.model, run.batch[0])
    loss, right, _ = run.look(training=False)
    for layer in layers:
        layer.momentum = 1.0
    if layers:
        forward(run.model, run.batch[0])
    exact_loss, exact_right, _ = run.look(training=False)
    return {
        "norm_layers": len(layers),
        "smallest_momentum": min(momenta, default=None),
        "recalibrated_loss": loss,
        "recalibrated_accuracy": right,
        "own_statistics_loss": exact_loss,
        "own_statistics_accuracy": exact_right,
    }
