"""The points in the step where parts of a recipe have their say, any number of them, in the order of the recipe.

`penalty(model, outputs)` is added to the loss. `after_update(model, step)` follows each update.
`weights_for_evaluation(model)` gives the weights that are evaluated and kept. `param_groups(model, table)` gives
parameters settings of their own (train/groups.py). A function has one of these parts; an object of a class, those that
it has a method for. Each is passed, by name, what its signature asks for of what the point offers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tuner.core.errors import UsageError, UserCodeError
from tuner.recipe.registry import Hook, arguments, bind, call, resolve

OFFERS = {
    "penalty": ("model", "outputs", "inputs", "targets"),
    "after_update": ("model", "step", "total_steps", "steps_per_epoch"),
    "weights_for_evaluation": ("model", "batches", "epoch", "epochs"),
    "param_groups": ("model", "table"),
}
SHORT = {  # key of [train] -> its point, the built-in part and the argument that the key's value is
    "l1": ("penalty", "l1", "factor"),
    "max_norm": ("after_update", "max_norm", "limit"),
    "ema": ("weights_for_evaluation", "ema", "decay"),
    "swa": ("weights_for_evaluation", "swa", "start"),
}
POINTS = ("penalty", "after_update", "weights_for_evaluation")


@dataclass(frozen=True)
class Part:
    """A resolved component of one point, with its arguments; nothing is built yet."""

    point: str
    fn: Callable[..., Any]
    args: Mapping[str, Any]
    where: str
    base_dir: Path

    def build(self) -> dict[str, Any]:
        """Return {point: what is called there}, and an object that has a state under "state"."""
        if not isinstance(self.fn, type):
            return {self.point: self._hook(self.point, self.fn, self.args)}
        made = call(self.fn, bind(self.fn, {}, self.args, self.where), self.where, self.base_dir)
        found = {point: self._hook(point, getattr(made, point), {}) for point in OFFERS if hasattr(made, point)}
        if self.point not in found:
            if not callable(made):
                raise UsageError(f"{self.where}: {self.fn.__name__} has no method {self.point}", "Write one.")
            found[self.point] = self._hook(self.point, made.__call__, {})
        return {**found, "state": made} if hasattr(made, "state_dict") else found

    def _hook(self, point: str, fn: Callable[..., Any], args: Mapping[str, Any]) -> Callable[..., Any]:
        bound = bind(fn, dict.fromkeys(OFFERS[point]), args, self.where)
        hook = Hook(fn, OFFERS[point], tuple(bound), self.where, self.base_dir)
        return lambda **offered: hook(**offered, **args)


@dataclass
class Points:
    """What is called at each point; the parts with a state are saved with the training."""

    parts: Sequence[Mapping[str, Any]] = ()
    states: list[Any] = field(default_factory=list)

    def at(self, point: str) -> list[Callable[..., Any]]:
        return [part[point] for part in self.parts if point in part]

    def penalty(self, **offered: Any) -> Tensor | None:
        """Return the sum of all penalties, or None where there are none.

        Raises:
            UserCodeError: one is no scalar tensor.
        """
        total: Tensor | None = None
        for part in self.at("penalty"):
            value = part(**offered)
            if not isinstance(value, Tensor) or value.ndim != 0:
                shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise UserCodeError(f"train.penalty: must return a scalar tensor (got {shown})", "Sum it up.")
            total = value if total is None else total + value
        return total

    def after_update(self, **offered: Any) -> None:
        for part in self.at("after_update"):
            part(**offered)

    @contextmanager
    def evaluated(self, model: nn.Module, **offered: Any) -> Iterator[None]:
        """Within the block the model has the weights that evaluation is to use; its own are put back afterwards.

        Raises:
            UserCodeError: a part gave something else than a state dict that fits, or None.
        """
        parts = self.at("weights_for_evaluation")
        if not parts:
            yield
            return
        own = {name: item.detach().clone() for name, item in model.state_dict().items()}
        try:
            for part in parts:
                weights = part(model=model, **offered)
                if weights is not None:
                    _load(model, weights)
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> list[Any]:
        return [part.state_dict() for part in self.states]

    def load_state_dict(self, state: Sequence[Any]) -> None:
        for part, value in zip(self.states, state, strict=True):
            part.load_state_dict(value)


def _load(model: nn.Module, weights: Any) -> None:
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        text = f"train.weights_for_evaluation: must return the model's state dict or None: {str(error).splitlines()[0]}"
        raise UserCodeError(text, "Return {name: tensor} with the names of model.state_dict().") from error


def build(parts: Sequence[Part], more: Sequence[Mapping[str, Any]] = ()) -> Points:
    """Build the parts from scratch; `more`: parts that are built already."""
    built = [*(part.build() for part in parts), *more]
    return Points(built, [part["state"] for part in built if "state" in part])


def resolve_parts(tables: Mapping[str, Any], base_dir: Path) -> tuple[list[Part], list[UsageError]]:
    """Return the parts that the train table names at the points, in the recipe's order, and what is wrong with it."""
    train, parts, problems = tables["train"], [], []
    for key in train:
        point, items = key, []
        if key in SHORT and train[key] is not None:
            point, name, argument = SHORT[key]
            items = [{"name": name, argument: train[key]}]
        elif key in POINTS:
            items = as_list(train[key])
        for item in items:
            try:
                parts.append(part_of(point, item, base_dir, f"train.{key}"))
            except UsageError as error:
                problems.append(error)
    return parts, problems


def part_of(point: str, item: str | Mapping[str, Any], base_dir: Path, where: str) -> Part:
    """Resolve one component of a point and check its arguments."""
    table = {"name": item} if isinstance(item, str) else item
    if not isinstance(table.get("name"), str):
        raise UsageError(f"{where}: a table needs a name (got {dict(table)!r})", 'Write { name = "...", ... }.')
    fn = resolve(point, table["name"], base_dir)
    args = arguments(table)
    part = Part(point, fn, args, where, base_dir)
    bind(fn, {} if isinstance(fn, type) else dict.fromkeys(OFFERS[point]), args, where)
    return part


def as_list(value: Any) -> list[Any]:
    """Return what a key that takes one component or several of them holds, as a list."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
