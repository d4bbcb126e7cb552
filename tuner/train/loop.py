"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor, nn

from tuner.core.result import is_less_better
from tuner.core.store import StageDir
from tuner.core.streams import derive_seed
from tuner.tasks.base import monitored_score, unknown
from tuner.train.device import seed_everything
from tuner.train.evaluate import better, evaluate, hook_values, metric_value, predict
from tuner.train.finetune import freeze
from tuner.train.forward import Batch, How
from tuner.train.nested import values_of
from tuner.train.scheduling import watches_val
from tuner.train.setup import Setup, loss_of_step
from tuner.train.state import Best, Divergence, Tape, Training, grad_norm, restore, save_best, save_state, start
from tuner.train.step import default_step
from tuner.train.synced_norms import by_one_process
from tuner.train.together import told

SAVE_SECONDS = 30.0  # a trial that is killed loses about this much
KEEP_SECONDS, KEEP_TIMES = 1.0, 50  # between writings of the best weights so far, and in times of what one takes
CHECK_EVERY = 16  # steps between looks at the loss on a GPU, which waits for each; on a CPU every step is looked at
EVAL_VALUES = 3 << 16  # input values of a batch in evaluation: 64 images of 32x32, which stay in a processor's cache


Kept = tuple[int, float] | None


class OnStep(Protocol):
    """Hear of the share that is done (0..1) in a few words, and of rows that were added to the curve.

    `kept`: the best epoch and its score, where its weights have been written.
    """

    def __call__(self, share: float, words: str, rows: Sequence[Mapping[str, Any]] = (), kept: Kept = None) -> None: ...


def fit(setup: Setup, until_epoch: int | None = None, on_step: OnStep | None = None) -> Training:
    """Train to `until_epoch` (None: the horizon), from the saved state of the trial where there is one.

    Each epoch adds the curve's rows `train`, `train_eval` (where the spec asks for it) and `val`. A horizon in steps
    adds one `train` row per step and evaluates nothing.
    """
    training = start(setup)
    if setup.spec.horizon_steps is not None:
        train_steps(setup, training, setup.spec.horizon_steps, on_step)
    else:
        train_epochs(setup, training, until_epoch, on_step)
    return training


def train_epochs(setup: Setup, training: Training, until_epoch: int | None, on_step: OnStep | None) -> None:
    """Train and evaluate epoch after epoch, from the saved state on where there is one, and save it now and then."""
    course = Course(setup, training, until_epoch, on_step)
    while course.goes_on():
        train_epoch(setup, training, course.epoch, course.last, on_step)
        course.end_epoch()


class Course:
    """A trial's way through its epochs: which one is next, and what each ends with.

    `last`: the epoch that it is to come to. It begins at the saved state of the trial, where there is one.
    """

    def __init__(self, setup: Setup, training: Training, until_epoch: int | None, on_step: OnStep | None) -> None:
        spec = setup.spec
        assert spec.horizon_epochs is not None
        self.setup, self.training, self.on_step = setup, training, on_step
        self.horizon = spec.horizon_epochs
        self.last = min(until_epoch or self.horizon, self.horizon)
        where = None if setup.env.stage_dir is None else StageDir(setup.env.stage_dir).state(spec.id)
        restore(setup, training, where, self.last)
        self._where = where if setup.env.is_first else None
        self._saved_at = time.monotonic()
        self._sent, self._keep = 0, Keeping()

    @property
    def epoch(self) -> int:
        """The epoch that is next, from 1."""
        return self.training.epoch + 1

    def goes_on(self) -> bool:
        training = self.training
        return training.diverged is None and self.epoch <= self.last and not gave_up(self.setup, training)

    def end_epoch(self) -> None:
        """Evaluate after an epoch that was trained, tell of it, and save what is due."""
        setup, training, epoch, last = self.setup, self.training, self.epoch, self.last
        kept = None
        if training.diverged is None:
            evaluate_epoch(setup, training, epoch)
            kept = self._keep(setup, training) if epoch < last else None
        if self.on_step is not None:
            words = f"epoch {epoch}/{last}{latest(training, setup)}"
            self.on_step(epoch / last, words, training.curve[self._sent :], kept)
            self._sent = len(training.curve)
        if training.diverged is not None:
            return
        if setup.schedule_every == "epoch":
            step_schedule(training)
        training.epoch = epoch
        stops_here = epoch == last < self.horizon
        due = epoch < last and time.monotonic() - self._saved_at > SAVE_SECONDS
        if self._where is not None and (stops_here or due):
            save_state(setup, training, self._where)
            self._saved_at = time.monotonic()


class Keeping:
    """Writes the best weights of a trial while it trains, now and then: when it is stopped, there is a model."""

    def __init__(self) -> None:
        self.epoch = 0
        self.due = time.monotonic() + KEEP_SECONDS

    def __call__(self, setup: Setup, training: Training) -> Kept:
        """Return the best epoch and its score where it is on the disk now; None: nothing was written."""
        best, now = training.best, time.monotonic()
        nowhere = setup.env.stage_dir is None or not setup.env.is_first
        if best is None or best.epoch == self.epoch or now < self.due or nowhere:
            return None
        save_best(setup, training, StageDir.so_far)
        took = time.monotonic() - now
        self.epoch, self.due = best.epoch, now + took + max(KEEP_SECONDS, KEEP_TIMES * took)
        return best.epoch, best.score


def train_epoch(setup: Setup, training: Training, epoch: int, last: int, on_step: OnStep | None = None) -> None:
    """Train one epoch; add its row, or the divergence that ended it."""
    steps = setup.updates_per_epoch
    tape = Tape(training.scorer)
    for index, batches in enumerate(batches_of(setup, training, epoch)):
        take_step(setup, training, batches, tape)
        if is_bad(tape, setup.data.device.type):
            break
        if on_step is not None:
            on_step((epoch - 1 + (index + 1) / steps) / last, f"epoch {epoch}/{last}{latest(training, setup)}")
    end_row(training, epoch, tape)


def end_row(training: Training, epoch: int, tape: Tape, norm: Tensor | None = None) -> None:
    """Add the row of an epoch's training, and note the divergence that ended it. `norm`: of its last gradients."""
    training.diverged = tape.divergence(epoch)
    row: dict[str, Any] = {"step": training.updates, "epoch": epoch, "split": "train", **tape.summary()}
    if norm is None:
        norm = tape.grad_norm if tape.grad_norm is not None else grad_norm(training.model)
    if norm is not None:
        row["grad_norm"] = float(norm)
    training.curve.append(row)


def train_steps(setup: Setup, training: Training, steps: int, on_step: OnStep | None = None) -> None:
    """Train that many steps, through as many epochs as they take; add one row for each. See `TrialSpec.give_up`."""
    done = 0
    while done < steps and training.diverged is None and not training.given_up:
        training.epoch += 1
        tape = Tape(training.scorer)
        for batches in batches_of(setup, training, training.epoch):
            take_step(setup, training, batches, tape)
            done += 1
            if is_bad(tape, setup.data.device.type):
                break
            if on_step is not None:
                on_step(done / steps, f"step {done}/{steps}")
            training.given_up = is_hopeless(setup, training, tape, done)
            if done == steps or training.given_up:
                break
        if not tape.losses:
            return
        training.diverged = tape.divergence(training.epoch)
        training.curve += tape.rows(training.epoch)
        if setup.schedule_every == "epoch":
            step_schedule(training)


def is_hopeless(setup: Setup, training: Training, tape: Tape, done: int) -> bool:
    """Return whether a trial is to be given up after so many steps, as its loss has fallen by too little."""
    rule = setup.spec.give_up
    if rule is None or done != rule["steps"]:
        return False
    losses = [*(row["loss"] for row in training.curve), *map(float, tape.losses)]
    return losses[0] - statistics.fmean(losses[-int(rule["last"]) :]) < rule["drop"]


def batches_of(setup: Setup, training: Training, epoch: int) -> Iterator[Sequence[Batch]]:
    """Seed the global generators for the epoch, switch to train mode and give the batches of each of its updates."""
    seed_everything(derive_seed(setup.spec.seed, "dropout", epoch))
    training.model.train()
    if "finetune" in setup.tables:
        freeze(training.model, setup.tables["finetune"], epoch)
    rank = setup.env.rank
    batches = iter(setup.data.epoch(setup.spec.seed, epoch, setup.batch_size, rank=rank))
    group = list(itertools.islice(batches, setup.accumulate))
    if rank is not None and rank.number > 0:  # the order is drawn alike, dropout is not
        seed_everything(derive_seed(setup.spec.seed, "dropout", epoch, "rank", rank.number))
    while group:
        yield group
        group = list(itertools.islice(batches, setup.accumulate))


def take_step(setup: Setup, training: Training, batches: Sequence[Batch], tape: Tape) -> None:
    """Make one step, ours or the user's, and write on the tape what it gave."""
    lr = training.optimizer.param_groups[0]["lr"]
    before = training.updates
    if setup.train_step is None:
        clip_norm = setup.tables["train"].get("clip_norm")
        how = How(setup.autocast, training.scaler, clip_norm, training.points.penalty, training.together)
        loss = default_step(training.model, batches, training.loss, training.optimizer, how, tape)
    else:
        with setup.autocast():
            value = setup.train_step(
                model=training.model, batch=batches[0], loss=training.loss, optimizer=training.optimizer
            )
        loss = loss_of_step(value)
    if training.updates > before:
        step = {"step": training.updates, "total_steps": training.schedule_steps}
        training.points.after_update(model=training.model, steps_per_epoch=setup.updates_per_epoch, **step)
    if setup.schedule_every == "step":
        for _ in range(training.updates - before):
            step_schedule(training)
    size_of = len_of_batch if training.together is None else training.together.examples
    tape.write(loss.detach(), sum(map(size_of, batches)), training.updates, float(lr))


def len_of_batch(batch: Batch) -> int:
    """Return how many examples a batch has."""
    return len(batch[1])


def is_bad(tape: Tape, device: str) -> bool:
    """Return whether an objective that was not looked at before is not finite; on a GPU look now and then only."""
    if device == "cpu":
        return not math.isfinite(tape.losses[-1])
    return tape.unseen >= CHECK_EVERY and tape.is_bad()


def step_schedule(training: Training) -> None:
    """Step the schedule, never past its end; one that watches a plateau is told the last row's loss."""
    if training.scheduled >= training.schedule_steps:
        return
    training.scheduled += 1
    if watches_val(training.schedule):
        training.schedule.step(training.curve[-1]["loss"])
    else:
        training.schedule.step()


def evaluate_epoch(setup: Setup, training: Training, epoch: int) -> None:
    """Add the rows of the train subset, where it is asked for, and of val; keep the weights of the best epoch.

    Of several processes the first evaluates, and tells the others, which keep no weights.

    Raises:
        UsageError: the monitored value is not measured.
    """
    known = len(training.curve)
    if setup.env.is_first:
        _evaluate_weights(setup, training, epoch)
    if setup.env.rank is not None:
        best = None if training.best is None else replace(training.best, weights={})
        rows, best, training.diverged = told((training.curve[known:], best, training.diverged))
        if not setup.env.is_first:
            training.curve += rows
            training.best = best


def _evaluate_weights(setup: Setup, training: Training, epoch: int) -> None:
    batches = setup.data.mixed_batches(setup.batch_size, derive_seed(setup.spec.seed, "statistics"))
    offered = {"batches": batches, "epoch": epoch, "epochs": setup.spec.horizon_epochs}
    with by_one_process(), training.points.evaluated(training.model, **offered):
        _evaluate_epoch(setup, training, epoch)


def _evaluate_epoch(setup: Setup, training: Training, epoch: int) -> None:
    for split in ("train_eval", "val") if setup.spec.train_subset else ("val",):
        values = measure_split(setup, training.model, split, training.loss)
        training.curve.append({"step": training.updates, "epoch": epoch, "split": split, **values})
    score = setup.data.task.score
    if score not in values:
        ours = _unscored(setup)
        training.skipped[score] = ours if setup.evaluate_hook is None else "train.evaluate returns none"
    reached = monitored(setup, values)
    val_loss = values["loss"]
    if not math.isfinite(val_loss) and not all(bool(item.isfinite().all()) for item in training.model.parameters()):
        training.diverged = Divergence(training.updates, epoch, val_loss)
        return
    if ends_cycle(setup, epoch):
        training.snapshots.append({name: item.detach().clone() for name, item in training.model.state_dict().items()})
    best = training.best
    if better(reached, val_loss, None if best is None else (best.score, best.val_loss)):
        weights = {name: item.detach().clone() for name, item in training.model.state_dict().items()}
        training.best = Best(epoch, reached, val_loss, weights)


def _unscored(setup: Setup) -> str:
    """Say why the task's score is not measured."""
    if setup.data.task.name == "classification":
        return "the model's outputs are not (N, C), one row of class scores per example"
    return f"the model's outputs do not have the shape that {setup.data.task.name} scores take"


def ends_cycle(setup: Setup, epoch: int) -> bool:
    """Return whether the weights of this epoch are one of the `train.snapshots`, taken at the ends of equal cycles."""
    count, epochs = setup.tables["train"].get("snapshots"), setup.spec.horizon_epochs
    if count is None or epochs is None:
        return False
    return epoch in {round(epochs * (i + 1) / count) for i in range(count)}


def gave_up(setup: Setup, training: Training) -> bool:
    """Return whether `train.patience` epochs have brought no better one: the rest of the horizon is not trained."""
    patience, best = setup.tables["train"].get("patience"), training.best
    return patience is not None and best is not None and training.epoch - best.epoch >= patience


def measure_split(
    setup: Setup, model: nn.Module, split: str, loss: Callable[[Any, Tensor], Tensor], batches: Any = None
) -> dict[str, float]:
    """Evaluate a split with the user's hooks where there are some, else with ours."""
    if batches is None:
        batches = setup.data.batches(split, evaluation_batch(setup))
    if setup.evaluate_hook is None:
        return evaluate(model, batches, loss, setup.scorer(loss), setup.metric_hook, setup.autocast)
    values = hook_values(setup.evaluate_hook(model=model, batches=batches, loss=loss))
    if setup.metric_hook is not None:
        values["metric"] = metric_value(setup.metric_hook, *predict(model, batches, setup.autocast))
    return values


def evaluation_batch(setup: Setup) -> int:
    """Return the batch size of evaluation: large for small inputs, where a call costs more than its arithmetic."""
    values = values_of(setup.data.input_shape)
    least = 64 if setup.data.device.type == "cpu" else 512
    return max(least, min(1024, EVAL_VALUES // max(values, 1)))


def monitored(setup: Setup, values: dict[str, float]) -> float:
    """Return the monitored value of an evaluation, turned so that larger is better.

    Raises:
        UsageError: "is not measured".
    """
    train, task = setup.tables["train"], setup.data.task
    monitor = train.get("monitor", "val_accuracy")
    key = monitored_score(task, monitor)
    if key not in values:
        raise unknown(task, monitor, values)
    return -values[key] if is_less_better(key, train.get("monitor_mode", "max")) else values[key]


def latest(training: Training, setup: Setup) -> str:
    """Return the newest monitored value in words, for the progress line."""
    key = monitored_score(setup.data.task, setup.tables["train"].get("monitor", "val_accuracy"))
    row = training.curve[-1] if training.curve else {}
    return f" val {row[key]:.4g}" if key in row and row["split"] == "val" else ""
