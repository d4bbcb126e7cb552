"""A trial's setup made of the user's own objects: each measurement gets copies, as it gets new builds elsewhere."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset

from tuner.api.given import in_pairs, yes_or_no
from tuner.api.objects import copied
from tuner.api.pace import readable, stopped_at
from tuner.core.errors import UsageError
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.parts.normalise import Normaliser
from tuner.recipe.model import Recipe
from tuner.train import own_loss
from tuner.train.data import Data
from tuner.train.forms import Given, as_pair, taken
from tuner.train.labels import read_all
from tuner.train.nested import hand_over_parts, is_one, mapped, scored_part
from tuner.train.objective import as_scalar, classes_second
from tuner.train.prepare import prepared_of
from tuner.train.setup import Setup
from tuner.train.stores import SequentialStore, StreamStore
from tuner.train.userdata import Reading, UserSplit, array_store, read_splits, silent

KEPT = 1 << 26  # values of a split that are kept in memory


@dataclass(frozen=True)
class Objects:
    """What the user handed over."""

    model: nn.Module
    loss: Callable[..., Any] | str  # "model": the model returns it
    optimizer: torch.optim.Optimizer | None


@dataclass(frozen=True)
class LiveSetup(Setup):
    """A Setup whose parts are copies of the user's own; what a seed would draw again is the same in each of them."""

    objects: Objects | None = None
    as_floats: bool = False  # the targets 0 and 1 were given as floats, and the loss takes them so
    until: float | None = None  # no forward is begun after this moment of time.monotonic

    def model(self, seed: int | None = None) -> nn.Module:
        """Return a copy of the user's model in train mode."""
        assert self.objects is not None
        made = copied(self.objects.model)
        if not is_one(self.data.input_shape):
            hand_over_parts(made)
        if self.objects.loss == own_loss.NAME:
            own_loss.listen(made)
        if is_double(made):  # data are kept in single precision
            made.register_forward_pre_hook(lambda module, given: mapped(_to_double, given))
        if self.until is not None:
            stopped_at(made, self.until)
        return made.train()

    def loss(self) -> Callable[[Any, Tensor], Tensor]:
        """Return the user's loss; a module of torch's own takes the part of the outputs that is scored."""
        assert self.objects is not None
        given = self.objects.loss
        if isinstance(given, str):
            return super().loss()
        own = not str(getattr(given, "__module__", "")).startswith("torch.")

        def loss(outputs: Any, targets: Tensor) -> Tensor:
            scored = outputs if own else classes_second(scored_part(outputs), targets)
            if isinstance(scored, Tensor) and self.as_floats:
                targets = targets.to(scored.dtype)
                targets = targets.reshape(scored.shape) if targets.numel() == scored.numel() else targets
            if isinstance(scored, Tensor) and scored.dtype == torch.float64:
                targets = _to_double(targets)
            return as_scalar(given(scored, targets), "loss: it")

        return loss

    def optimizer(self, model: nn.Module, **table_overrides: Any) -> torch.optim.Optimizer:
        """Return a copy of the user's optimizer over the copied model's parameters; Adam where there is none."""
        assert self.objects is not None
        own = self.objects.optimizer
        if own is None:
            return torch.optim.Adam(model.parameters(), lr=table_overrides.get("lr", 1e-3))
        pairs = zip(self.objects.model.parameters(), model.parameters(), strict=True)
        counterpart = {id(theirs): ours for theirs, ours in pairs}
        memo = {id(p): counterpart.get(id(p), p) for group in own.param_groups for p in group["params"]}
        made = copy.copy(own)
        made.__dict__.update({name: copy.copy(value) for name, value in own.__dict__.items() if name in HOOKS})
        made.param_groups = [
            {**group, "params": [memo[id(p)] for p in group["params"]], **_rate(group, own, table_overrides)}
            for group in own.param_groups
        ]
        for name, value in vars(own).items():  # LBFGS has a list of the parameters beside its groups
            if name not in vars(made) and not callable(value):
                setattr(
                    made, name, [memo.get(id(p), p) for p in value] if isinstance(value, list) else copy.copy(value)
                )
        made.state = defaultdict(dict)
        for p, entry in own.state.items():
            made.state[memo.get(id(p), p)] = copy.deepcopy(entry)
        return made

    def schedule(self, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int) -> Any:
        """Return a constant rate: what moves it in the user's loop is not known here."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def is_double(model: nn.Module) -> bool:
    """Return whether a model computes in double precision."""
    kinds = {item.dtype for item in model.parameters() if item.is_floating_point()}
    return kinds == {torch.float64}


def _to_double(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def _rate(group: Any, own: torch.optim.Optimizer, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the group's rate where another is asked for: in the same proportion to the first group's."""
    if "lr" not in asked:
        return {}
    first = float(own.param_groups[0]["lr"]) or 1.0
    return {"lr": float(asked["lr"]) * float(group["lr"]) / first}


def live_setup(objects: Objects, splits: dict[str, Any], task: str | None, seconds: float) -> tuple[LiveSetup, Recipe]:
    """Return the setup of the user's objects, and the recipe that stands for them; `seconds`: of the whole check.

    Raises:
        UsageError, UserCodeError: the data is in no form that is known, or its own code raised.
    """
    where = {name: in_pairs(taken(value, name), objects.model) for name, value in splits.items() if value is not None}
    classes = {name: made for name, given in where.items() if (made := yes_or_no(given, task)) is not None}
    as_floats = len(classes) == len(where)
    where = {name: _some(given, seconds) for name, given in (classes if as_floats else where).items()}
    reading = Reading(Path.cwd(), task=task, loss=_loss_table(objects.loss))
    found, told = read_splits(where, reading)
    found = {name: _kept(split) for name, split in found.items()}
    optimizer = objects.optimizer
    rate = float(optimizer.param_groups[0]["lr"]) if optimizer is not None else 1e-3
    name = type(optimizer).__name__.lower() if optimizer is not None else "adam"
    tables = {
        "name": "check",
        "data": {"source": "python", "normalize": "none", "task": task},
        "model": {"name": type(objects.model).__name__},
        "loss": {"name": _name_of(objects.loss)},
        "optimizer": {"name": name, "lr": rate if rate > 0 else 1e-3},
        "train": {"batch_size": _batch_size(splits["train"], len(found["train"].labels))},
    }
    recipe = Recipe.model_validate(tables)
    device = next((p.device for p in objects.model.parameters()), torch.device("cpu"))
    prepared = prepared_of(found, told, recipe.data, device)
    data = Data(prepared, Normaliser(), Normaliser(), (), device)
    spec = TrialSpec(tables=recipe.tables(), overrides={}, seed=0)
    env = TrialEnv(Path.cwd(), device=str(device))
    return LiveSetup(spec, env, data, {}, objects=objects, as_floats=as_floats), recipe


def _name_of(loss: Callable[..., Any] | str) -> str:
    return loss if isinstance(loss, str) else str(getattr(loss, "__name__", type(loss).__name__))


def _loss_table(loss: Any) -> dict[str, Any]:
    ignored = getattr(loss, "ignore_index", None)
    return {} if ignored is None else {"ignore_index": ignored}


def _batch_size(train: Any, examples: int) -> int:
    """Return the loader's batch size, 64 of other data; never more than there are examples."""
    size = getattr(train, "batch_size", None)
    return max(1, min(size if isinstance(size, int) else 64, examples))


def _kept(split: UserSplit) -> UserSplit:
    """Return a split with its examples in memory, where reading one again gives the same and they are of one shape."""
    store = split.store
    if not isinstance(store, StreamStore) or isinstance(store, SequentialStore) or split.stochastic:
        return split
    in_own_form = store.collate is not None or store.order is not None or not is_one(store.shape)
    if in_own_form or len(store) * math.prod(store.shape) > KEPT:
        return split
    inputs, labels = read_all(store, silent, keep=True)
    return replace(split, store=array_store(inputs, labels, store.where), labels=labels)


def _some(given: Given, seconds: float) -> Given:
    """Return a split of the examples that can be looked at in the time, evenly spaced ones of a larger one."""
    size = len(given.dataset[1]) if (pair := as_pair(given)) is not None else len(given.dataset)
    most = readable(given, seconds)
    if size <= most:
        return given
    if isinstance(given.dataset, IterableDataset):
        raise UsageError(
            f"{given.where} is a stream of {size} examples, of which tuner.check would read each many times",
            f"Give a list of its first {most} examples: list(itertools.islice(stream, {most})).",
        )
    chosen = np.linspace(0, size - 1, most).astype(int).tolist()
    if pair is not None:
        inputs, targets = (part[chosen] if not hasattr(part, "iloc") else part.iloc[chosen] for part in pair)
        return Given((inputs, targets), given.where)
    return Given(Subset(given.dataset, chosen), given.where, given.collate)
