"""What changes while a model trains: built from scratch, kept on the tape of an epoch, saved and restored exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import InputError
from tuner.core.store import StageDir
from tuner.train import checkpoint
from tuner.train.interface import interface_of
from tuner.train.objective import states_of
from tuner.train.points import Points
from tuner.train.scheduling import Schedule
from tuner.train.scoring import Scorer
from tuner.train.setup import Setup
from tuner.train.synced_norms import synced
from tuner.train.together import Together

Place = Callable[[StageDir, str], Path]


@dataclass(frozen=True)
class Best:
    """The best evaluated epoch so far."""

    epoch: int
    score: float
    val_loss: float
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Divergence:
    """The first step whose objective was not finite."""

    step: int
    epoch: int
    loss: float


@dataclass
class Training:
    """What changes while a model trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    schedule_steps: int
    scaler: torch.amp.GradScaler
    loss: Callable[[Any, Tensor], Tensor]
    points: Points = field(default_factory=Points)
    scorer: Scorer | None = None
    together: Together | None = None
    updates: int = 0
    scheduled: int = 0
    epoch: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: Best | None = None
    snapshots: list[dict[str, Tensor]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    diverged: Divergence | None = None
    given_up: bool = False

    def count_update(self, *_: Any) -> None:
        self.updates += 1


def start(setup: Setup) -> Training:
    """Build everything from scratch, and count the optimizer's updates from here."""
    spec = setup.spec
    steps_per_epoch = setup.updates_per_epoch
    total_steps = spec.horizon_steps or (spec.horizon_epochs or 0) * steps_per_epoch
    model = setup.model()
    if setup.env.rank is not None and setup.tables["train"].get("sync_batch_norm"):
        synced(model)
    optimizer = setup.optimizer(model)
    loss, points = setup.loss(), setup.points(model)
    points.states += states_of(loss)
    training = Training(
        model=model,
        optimizer=optimizer,
        schedule=setup.schedule(optimizer, total_steps, steps_per_epoch),
        schedule_steps=total_steps,
        scaler=torch.amp.GradScaler(torch.device(setup.env.device).type, enabled=setup.precision == "fp16"),
        loss=loss,
        points=points,
        scorer=setup.scorer(loss),
        together=None if setup.env.rank is None else Together(model, loss, setup.env.rank),
    )
    optimizer.register_step_post_hook(training.count_update)
    return training


class Tape:
    """What the steps of one epoch gave. Tensors stay on the device until they are looked at."""

    def __init__(self, scorer: Scorer | None = None) -> None:
        self.scorer = scorer
        self.losses: list[Tensor] = []
        self.hits: list[Tensor] = []
        self.sizes: list[int] = []
        self.updates: list[int] = []
        self.lrs: list[float] = []
        self.grad_norm: Tensor | None = None
        self.unseen = 0

    def hit(self, right: Tensor) -> None:
        """Add the number of examples of a batch that were answered right; several batches may make one step."""
        if len(self.hits) > len(self.losses):
            self.hits[-1] = self.hits[-1] + right
        else:
            self.hits.append(right)

    def write(self, loss: Tensor, size: int, updates: int, lr: float) -> None:
        """Add one step: the objective, the number of examples, the updates so far, the rate that it had."""
        self.losses.append(loss)
        self.sizes.append(size)
        self.updates.append(updates)
        self.lrs.append(lr)
        self.unseen += 1

    def judge(self, outputs: Any, targets: Tensor) -> None:
        """Add how many examples of the step's batch were right, where the task has right and wrong answers."""
        right = None if self.scorer is None else self.scorer.right(outputs, targets)
        if right is not None:
            self.hit(right)

    def is_bad(self) -> bool:
        """Return whether an objective that was not looked at before is not finite."""
        new, self.unseen = self.losses[-self.unseen :], 0
        return not bool(torch.stack(new).isfinite().all())

    def divergence(self, epoch: int) -> Divergence | None:
        """Return the first step whose objective was not finite."""
        for step, loss in zip(self.updates, self._values(), strict=True):
            if not math.isfinite(loss):
                return Divergence(step, epoch, loss)
        return None

    def summary(self) -> dict[str, float]:
        """Return the mean objective and the accuracy over the examples, and the last rate."""
        if not self.losses:
            return {"loss": math.nan}
        examples = sum(self.sizes)
        total = math.fsum(loss * size for loss, size in zip(self._values(), self.sizes, strict=True))
        result = {"loss": total / examples, "lr": self.lrs[-1]}
        if len(self.hits) == len(self.losses):
            result["accuracy"] = float(torch.stack(self.hits).sum()) / examples
        return result

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """Return one row of the curve for each step, up to the first whose objective is not finite."""
        hits = torch.stack(self.hits).tolist() if len(self.hits) == len(self.losses) else None
        rows = []
        for index, loss in enumerate(self._values()):
            row = {"step": self.updates[index], "epoch": epoch, "split": "train", "loss": loss, "lr": self.lrs[index]}
            if hits is not None:
                row["accuracy"] = hits[index] / self.sizes[index]
            rows.append(row)
            if not math.isfinite(loss):
                break
        return rows

    def _values(self) -> list[float]:
        return torch.stack(self.losses).tolist() if self.losses else []


def grad_norm(model: nn.Module) -> Tensor | None:
    """Return the norm of the gradients that are there now, or None when there are none."""
    grads = [item.grad for item in model.parameters() if item.grad is not None]
    return nn.utils.get_total_norm(grads) if grads else None


def save_state(setup: Setup, training: Training, path: Path) -> None:
    """Save all that continuing needs. A scheduler whose state is not plain can't be: start over then."""
    best = training.best
    state = {
        "spec_id": setup.spec.id,
        "epoch": training.epoch,
        "updates": training.updates,
        "scheduled": training.scheduled,
        "model": dict(training.model.state_dict()),
        "optimizer": training.optimizer.state_dict(),
        "schedule": training.schedule.state_dict(),
        "scaler": training.scaler.state_dict(),
        "points": training.points.state_dict(),
        "curve": training.curve,
        "skipped": training.skipped,
        "best": None if best is None else vars(best),
        "snapshots": training.snapshots,
    }
    if setup.train_step is not None:  # a step that accumulates may leave gradients for the next epoch
        state["grads"] = {name: item.grad for name, item in training.model.named_parameters() if item.grad is not None}
    if checkpoint.is_plain(state):
        checkpoint.save(path, state)


def save_best(setup: Setup, training: Training, place: Place = StageDir.checkpoint) -> None:
    """Save the weights of the best epoch: what is evaluated on the test split and handed over."""
    best = training.best
    if setup.env.stage_dir is None or best is None:
        return
    interface = interface_of(setup.data).to_plain()
    value = {"model": best.weights, "epoch": best.epoch, "spec_id": setup.spec.id, "interface": interface}
    if setup.tables.get("after", {}).get("ensemble") == "snapshots":
        value["snapshots"] = list(training.snapshots)
    checkpoint.save(place(StageDir(setup.env.stage_dir), setup.spec.id), value)


def drop_unusable_state(setup: Setup) -> str | None:
    """Delete the trial's saved state if it cannot be gone on from, and say why; it only saves time."""
    if setup.env.stage_dir is None:
        return None
    path = StageDir(setup.env.stage_dir).state(setup.spec.id)
    if not path.is_file():
        return None
    fresh = start(setup)
    try:
        if checkpoint.load(path).get("spec_id") != setup.spec.id:
            raise InputError(f"{path}: the state of another trial")
        restore(setup, fresh, path, last=setup.spec.horizon_epochs or 0)
    except (InputError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        path.unlink(missing_ok=True)
        return error.message if isinstance(error, InputError) else f"{path}: not a state of this trial ({error!r})"
    return None


def restore(setup: Setup, training: Training, path: Path | None, last: int) -> None:
    """Bring `training` to where its saved state is, if there is one of this trial that is not past epoch `last`."""
    if path is None or not path.is_file():
        return
    try:
        state = checkpoint.load(path)  # on the CPU: loading a state puts each tensor where its optimizer wants it
    except InputError:
        return  # torn or foreign: it only saves time, so the trial starts over
    if state.get("spec_id") != setup.spec.id or state["epoch"] > last:
        return
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.schedule.load_state_dict(state["schedule"])
    training.scaler.load_state_dict(state["scaler"])
    training.points.load_state_dict(_moved(state["points"], setup.env.device))
    for name, item in training.model.named_parameters():
        grad = state.get("grads", {}).get(name)
        item.grad = None if grad is None else grad.to(item.device)
    training.epoch, training.updates = state["epoch"], state["updates"]
    training.scheduled, training.curve = state["scheduled"], state["curve"]
    training.skipped, training.snapshots = state["skipped"], state["snapshots"]
    training.best = None if state["best"] is None else Best(**state["best"])


def _moved(value: Any, device: str) -> Any:
    """Return the state of parts of the step with its tensors on the device, where the weights are that they meet."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return type(value)(_moved(item, device) for item in value) if isinstance(value, (list, tuple)) else value
