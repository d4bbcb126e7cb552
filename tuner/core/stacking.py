"""Which trials may be trained as one stack, and whether that pays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.core.trial import MAY_BE_ABSENT, TrialSpec, WorkItem, digest

LOSSES = frozenset({"cross_entropy", "focal", "ohem", "nll", "bce", "multi_margin", "mse", "mae", "huber"})
OPTIMIZERS = frozenset(
    {"sgd", "adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad", "adadelta", "asgd", "rprop"}
)
ADDED = (  # keys of [train] that add to the step or to the evaluation
    "step", "evaluate", "metric", "penalty", "l1", "max_norm", "ema", "swa", "after_update", "weights_for_evaluation",
)  # fmt: skip


@dataclass(frozen=True)
class Stacking:
    """How many trials are trained as one at most (1: each by itself), and why no more.

    `times_as_fast`: the training of a stack against that of the same trials one by one, measured; None: it was not.
    """

    size: int = 1
    times_as_fast: float | None = None
    why: str = ""


SINGLE = Stacking()


def in_words(trials: str, size: int, stacking: Stacking) -> str:
    """Say that these trials are trained in stacks: `64 trials in stacks of up to 8: 2.7 times as fast (measured)`."""
    measured = size == stacking.size and stacking.times_as_fast is not None
    speed = f"{stacking.times_as_fast:.1f} times as fast (measured)" if measured else "as --stack says"
    return f"{trials} in stacks of up to {size}: {speed}"


def why_single(spec: TrialSpec) -> str | None:
    """Say why a trial is trained by itself, by its tables alone; None: a stack may take it."""
    tables = spec.tables
    train, data, loss, optimizer = (tables[name] for name in ("train", "data", "loss", "optimizer"))
    reasons = {
        "it is not trained in epochs": spec.horizon_epochs is None,
        f"it runs on {spec.device}": spec.device != "cpu",
        f"its precision is {spec.precision}": spec.precision != "fp32",
        "it has several devices": train.get("devices_per_trial", 1) > 1,
        "it has several threads": train.get("threads_per_trial", 1) > 1,
        "its batches are accumulated": train.get("accumulate", 1) > 1,
        "its examples are augmented": bool(data.get("augment")),
        "it has code of the user's own": any(map(_has_code, _parts(tables))),
        f"loss {loss.get('name')!r}": loss.get("name") not in LOSSES,
        f"optimizer {optimizer.get('name')!r}": optimizer.get("name") not in OPTIMIZERS,
        **{f"[{name}]": tables.get(name) is not None for name in MAY_BE_ABSENT},
        **{f"train.{key}": bool(train.get(key)) for key in ADDED},
    }
    return next((why for why, holds in reasons.items() if holds), None)


def _parts(tables: Mapping[str, Any]) -> Iterable[Any]:
    """Give what names components, but for the source of the data, which is read once for the whole stack."""
    yield tables["data"].get("collate")
    yield tables["data"].get("sampler")
    for name in ("model", "loss", "optimizer", "schedule"):
        yield tables[name]


def _has_code(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_code, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_code, value))
    return isinstance(value, str) and ".py:" in value


def alike(item: WorkItem) -> str:
    """Return what must be equal for trials to share a stack: data, model, loss and train tables, and where they run.

    Seeds, label smoothing, optimizers, schedules, the model's init and the epochs may differ.
    """
    spec = item.spec
    free = {"model": "init", "loss": "label_smoothing", "data": "", "train": ""}
    same = {name: {k: v for k, v in spec.tables[name].items() if k != key} for name, key in free.items()}
    return digest([same, spec.user_files, spec.data_hash, spec.device, spec.precision, spec.train_subset])


def stacks_of(items: Sequence[WorkItem], size: int, places: int) -> list[tuple[WorkItem, ...]]:
    """Return the items in stacks of `size` at most, which are about as large as one another and fill all places.

    The stacks come in the order of their first item. What no stack may take is by itself.
    """
    groups: dict[str, list[WorkItem]] = {}
    found: list[tuple[WorkItem, ...]] = []
    for item in items:
        if size > 1 and why_single(item.spec) is None:
            groups.setdefault(alike(item), []).append(item)
        else:
            found.append((item,))
    for group in groups.values():
        rounds = -(-len(group) // (size * places))  # each place takes so many stacks
        count = min(rounds * places, len(group))
        found += [tuple(group[index::count]) for index in range(count)]
    order = {item.key: index for index, item in enumerate(items)}
    return sorted(found, key=lambda stack: order[stack[0].key])
