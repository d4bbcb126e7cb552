"""The objective of a trial, made of its loss table: one loss, or a weighted sum of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError, UserCodeError, user_code
from tuner.parts.blocks import head_of
from tuner.parts.losses._targets import counted
from tuner.parts.losses.classification import cross_entropy, nll
from tuner.recipe.registry import arguments, asked, bind, call, resolve
from tuner.train.nested import scored_part

Loss = Callable[[Any, Tensor], Tensor]


def terms_of(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tables of a list of losses, without their factors; of one loss, its own."""
    if "terms" not in table:
        return [table]
    return [{key: value for key, value in term.items() if key != "factor"} for term in table["terms"]]


def factors_of(table: Mapping[str, Any]) -> list[float]:
    """Return the factor of each term of a list of losses; 1 for one loss, whose own `factor` is an argument."""
    return [float(term.get("factor", 1.0)) for term in table["terms"]] if "terms" in table else [1.0]


def is_of_features(term: Mapping[str, Any], table: Mapping[str, Any], base_dir: Path) -> bool:
    """Return whether a term of a sum is taken of the head's input, not of the outputs."""
    return "terms" in table and bool(getattr(resolve("loss", term["name"], base_dir), "of_features", False))


def objective(table: Mapping[str, Any], device: str, base_dir: Path, class_counts: Callable[[], Tensor]) -> Loss:
    """Return the function of (outputs, targets) that gives the loss; it checks that this is a scalar.

    Of a list of losses it is the sum of those of the outputs; those of features are added where features are known, in
    the step (`FeatureTerm`).

    Raises:
        UsageError: arguments do not fit; every term of a sum is one of features.
    """
    pairs = zip(factors_of(table), terms_of(table), strict=True)
    terms = [(factor, term) for factor, term in pairs if not is_of_features(term, table, base_dir)]
    if not terms:
        raise UsageError(
            "loss: every loss of the list is one of features; none says what the outputs should be",
            'Add one of the outputs, such as { name = "cross_entropy" }.',
        )
    built = [(factor, one(term, device, base_dir, class_counts)) for factor, term in terms]
    if len(built) == 1 and built[0][0] == 1.0:
        return built[0][1]

    def weighted_sum(outputs: Any, targets: Tensor) -> Tensor:
        values = [factor * loss(outputs, targets) for factor, loss in built]
        return torch.stack(values).sum()

    weighted_sum.states = [state for _, loss in built for state in states_of(loss)]  # type: ignore[attr-defined]
    return weighted_sum


def states_of(loss: Loss) -> list[Any]:
    """Return the objects in a loss of the recipe that have a state, which is saved with the training."""
    return list(getattr(loss, "states", ()))


def one(table: Mapping[str, Any], device: str, base_dir: Path, class_counts: Callable[[], Tensor]) -> Loss:
    """Return one loss of the recipe as a function of (outputs, targets)."""
    fn = resolve("loss", table["name"], base_dir)
    kwargs = built_arguments(fn, table, class_counts)
    if isinstance(fn, type):
        built = call(fn, kwargs, "loss", base_dir)
        raw = built.to(device) if isinstance(built, nn.Module) else built
    else:
        raw = fn
    given = {} if isinstance(fn, type) else kwargs
    named, own = names_both(fn), ".py" in table["name"] or getattr(fn, "of_model", False)

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        if not own:  # a loss of the user's own knows what the model gives
            outputs = classes_second(scored_part(outputs), targets)
        with user_code("loss", base_dir):
            value = raw(outputs=outputs, targets=targets, **given) if named else raw(outputs, targets, **given)
        return as_scalar(value, "loss.name: the loss")

    loss.raw = raw  # type: ignore[attr-defined]
    loss.states = [raw] if hasattr(raw, "state_dict") and hasattr(raw, "load_state_dict") else []  # type: ignore[attr-defined]
    if (counts := counts_of(fn, kwargs)) is not None:
        loss.counted = partial(counted, **counts)  # type: ignore[attr-defined]
    return loss


def built_arguments(
    fn: Callable[..., Any], table: Mapping[str, Any], class_counts: Callable[[], Tensor]
) -> dict[str, Any]:
    """Return the arguments that a loss is built or called with: balanced weights as numbers, lists as torch.nn asks."""
    kwargs = loss_arguments(fn, table)
    if kwargs.get("weight") == "balanced":
        kwargs["weight"] = balanced(class_counts())
    if not (isinstance(fn, type) and fn.__module__.startswith("torch.nn")):
        return kwargs
    return {key: torch.tensor(list(map(float, v))) if isinstance(v, list) else v for key, v in kwargs.items()}


def counts_of(fn: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of `counted` for a loss that is a mean over what has a class, by the classes' factors.

    None: a loss is a mean over examples.
    """
    of_classes = fn in (cross_entropy, nll, nn.CrossEntropyLoss, nn.NLLLoss)
    if not of_classes or kwargs.get("reduction", "mean") != "mean":
        return None
    weight = kwargs.get("weight")
    known = {"weight": weight.tolist() if isinstance(weight, Tensor) else weight}
    return known | ({"ignore_index": kwargs["ignore_index"]} if "ignore_index" in kwargs else {})


def classes_second(outputs: Any, targets: Tensor) -> Any:
    """Return scores (N, ..., C) of positions as (N, C, ...), as torch's losses take them; anything else unchanged."""
    if not isinstance(outputs, Tensor) or targets.ndim < 2 or outputs.ndim != targets.ndim + 1:
        return outputs
    positions = targets.shape[1:]
    fits = outputs.shape[2:] == positions or outputs.shape[1:-1] != positions or targets.is_floating_point()
    return outputs if fits else outputs.movedim(-1, 1)


class FeatureTerm:
    """A loss of features as a penalty of the step: it listens to what the head is given in train mode."""

    def __init__(self, loss: Loss, factor: float) -> None:
        self.loss, self.factor = loss, factor
        self.features: Tensor | None = None

    def attach(self, model: nn.Module) -> None:
        """Listen to the model's head from now on."""

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.features = inputs[0] if module.training else None

        head_of(model).register_forward_pre_hook(keep)

    def penalty(self, targets: Tensor, **_: Any) -> Tensor:
        assert self.features is not None
        return self.factor * self.loss(self.features.flatten(1).float(), targets)


def feature_terms(
    table: Mapping[str, Any], device: str, base_dir: Path, class_counts: Callable[[], Tensor]
) -> list[FeatureTerm]:
    """Return the terms of a list of losses that are taken of the head's input."""
    pairs = zip(factors_of(table), terms_of(table), strict=True)
    chosen = [(factor, term) for factor, term in pairs if is_of_features(term, table, base_dir)]
    return [FeatureTerm(one(term, device, base_dir, class_counts), factor) for factor, term in chosen]


def balanced(counts: Tensor) -> list[float]:
    """Return one factor per class, n / (C n_c), as scikit-learn's "balanced"; 0 for a class without examples."""
    present = counts > 0
    factors = counts.sum() / (len(counts) * counts.clamp(min=1).double())
    return torch.where(present, factors, 0.0).tolist()


def check_terms(table: Mapping[str, Any], base_dir: Path) -> list[UsageError]:
    """Return what is wrong with the names and arguments of the loss table, every term of a list."""
    problems = []
    for index, term in enumerate(terms_of(table)):
        where = f"loss.{index}" if "terms" in table else "loss"
        try:
            if not isinstance(term.get("name"), str):
                raise UsageError(f"{where}: a table needs a name (got {dict(term)!r})")
            loss_arguments(resolve("loss", term["name"], base_dir), term, where)
        except UsageError as error:
            problems.append(error)
    return problems


def loss_arguments(fn: Callable[..., Any], table: Mapping[str, Any], where: str = "loss") -> dict[str, Any]:
    """Return the arguments of a loss besides outputs and targets, which a function takes by name or before them."""
    args = arguments(table)
    if names_both(fn):
        bound = bind(fn, {"outputs": None, "targets": None}, args, where)
        return {key: bound[key] for key in args}
    return bind(fn, {}, args, where, positional=0 if isinstance(fn, type) else 2)


def names_both(fn: Callable[..., Any]) -> bool:
    """Return whether a function asks for `outputs` and `targets` by these names, in whatever order."""
    return not isinstance(fn, type) and len(asked(fn, ("outputs", "targets"))) == 2


def as_scalar(value: Any, what: str) -> Tensor:
    """Return a scalar tensor as it is.

    Raises:
        UserCodeError: "must be a scalar tensor".
    """
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    raise UserCodeError(f"{what} must be a scalar tensor (got {shown})", "Reduce it to the mean over the batch.")
