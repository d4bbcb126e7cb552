"""The user's evaluate and metric, held against outputs whose right answers are planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.metric_check.evidence import MetricCheck
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.cost import demand, is_large
from tuner.checks.tools.frame import (
    CannotProbe,
    as_number,
    before_training,
    forward,
    fresh_model,
    gathered,
    keys_of,
    random_state,
    sample,
)
from tuner.train.loop import evaluation_batch
from tuner.train.setup import Setup

MOST = 400  # examples; a share of right answers among them is exact, not estimated
MOST_OF_LARGE = 60  # the same where each of them costs much
GOOD, POOR = 0.8, 0.3
SAME = 2e-4


@dataclass(frozen=True)
class Plan:
    """Outputs for examples, of which a known share is right, and what each usual mistake would report on them."""

    outputs: Tensor
    expected: Mapping[str, float]


@before_training
def metric_check(setup: Setup) -> MetricCheck:
    """Give the user's evaluate and metric planned outputs; what they report must be what was planned.

    A forward hook replaces the model's outputs on val by ones of which 80 %, then 30 %, then the same 80 % are right,
    with the errors unevenly over the batches and a last batch that is not full.
    """
    if setup.evaluate_hook is None and setup.metric_hook is None:
        return MetricCheck(hooks=[])
    split = "val" if setup.data.size("val") else "train"
    size = setup.data.size(split)
    if size < 24 or setup.data.num_classes < 2:
        raise CannotProbe(f"only {size} {split} examples")
    model = fresh_model(setup).eval()
    indices = sample(setup, MOST_OF_LARGE if is_large(setup) else MOST, "metric", split)
    found: dict[str, Any] = {"hooks": []}
    if setup.evaluate_hook is not None:
        found["hooks"].append("evaluate")
        found["evaluate"] = _evaluate(setup, model, split, indices, _uneven(len(indices)))
        unexplained = found["evaluate"].get("reads", "") is None and found["evaluate"]["seen"] > 0.999
        if unexplained:  # a size of the split may be written into the user's code
            demand(setup, size, "evaluating the whole split for three planned models")
            found["evaluate"] = _evaluate(setup, model, split, torch.arange(size), 64) | {"whole_split": True}
    if setup.metric_hook is not None:
        found["hooks"].append("metric")
        found["metric"] = _metric(setup, model, split, indices)
    return MetricCheck(**(found))


def _uneven(count: int) -> int:
    """Return a batch size that leaves a last batch less than half full."""
    sizes = range(max(2, count // 4), 1, -1)
    return next((size for size in sizes if 0 < count % size <= size // 2), 2)


def plan(targets: Tensor, classes: int, share: float, batch_size: int, seed: int, kind: str = "logits") -> Plan:
    """Make outputs of a kind of which `share` are right, the last batch all wrong.

    Logits get a random offset for each example, which changes no argmax, but what compares them with a threshold.
    A wrong example's own class comes second for one half of them.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(targets)
    right = torch.zeros(count, dtype=torch.bool)
    last = count - (count % batch_size or batch_size) if count > batch_size else count
    right[torch.randperm(last, generator=generator)[: round(share * count)]] = True
    outputs = torch.rand(count, classes, generator=generator) * 2
    other = (targets + torch.randint(1, classes, (count,), generator=generator)) % classes
    winner = torch.where(right, targets, other)
    rows = torch.arange(count)
    second = ~right & (torch.rand(count, generator=generator) < 0.5)
    outputs[rows[second], targets[second]] = 3.0
    outputs[rows, winner] = 5.0
    outputs = outputs / 3 if kind in ("unit", "signed") else outputs + 8 * torch.randn(count, 1, generator=generator)
    return Plan(_outputs.HEADS[kind](outputs), _expected(outputs, targets, batch_size))


def _expected(outputs: Tensor, targets: Tensor, batch_size: int) -> dict[str, float]:
    """Return what the usual ways of reporting accuracy give on these outputs, the right one first."""
    hits = (outputs.argmax(1) == targets).double()
    batches = hits.split(batch_size)
    counts = torch.bincount(targets, minlength=outputs.shape[1])
    of_class = torch.zeros(len(counts), dtype=torch.double).index_add_(0, targets, hits) / counts.clamp_min(1)
    expected = {
        "accuracy": float(hits.mean()),
        "percent": 100 * float(hits.mean()),
        "error rate": 1 - float(hits.mean()),
        "count": float(hits.sum()),
        "mean over batches": float(torch.stack([part.mean() for part in batches]).mean()),
        "full batch size": float(hits.sum()) / (len(batches) * batch_size),
        "last batch": float(batches[-1].mean()),
        "mean over classes": float(of_class[counts > 0].mean()),
    }
    for k in range(2, min(6, outputs.shape[1])):
        expected[f"top {k}"] = float((outputs.topk(k, 1).indices == targets[:, None]).any(1).double().mean())
    return expected


class _Replaced:
    """Replaces a model's outputs, row by row: a row of inputs that is known gets its planned outputs."""

    def __init__(self, inputs: Tensor) -> None:
        self.row_of = {key: row for row, key in enumerate(keys_of(inputs))}
        self.outputs = torch.empty(0)
        self.seen: set[int] = set()

    def __call__(self, module: nn.Module, given: tuple[Any, ...], outputs: Any) -> Any:
        if not given or not isinstance(given[0], Tensor) or not isinstance(outputs, Tensor):
            return outputs
        rows = [self.row_of.get(key) for key in keys_of(given[0])]
        if outputs.ndim != 2 or len(rows) != len(outputs):
            return outputs
        outputs = outputs.detach().clone()
        for place, row in enumerate(rows):
            if row is not None:
                self.seen.add(row)
                outputs[place] = self.outputs[row].to(outputs)
        return outputs


@contextmanager
def _replacing(model: nn.Module, replaced: _Replaced) -> Iterator[None]:
    handle = model.register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def _evaluate(setup: Setup, model: nn.Module, split: str, indices: Tensor, batch_size: int) -> dict[str, Any]:
    """Evaluate three planned models with the user's evaluate; say which quantity its accuracy is."""
    assert setup.evaluate_hook is not None
    inputs, targets = gathered(setup, split, indices)
    replaced = _Replaced(inputs)
    if len(replaced.row_of) < len(inputs):
        raise CannotProbe("some val examples are the same, so their outputs cannot be planned one by one")
    plans = _plans(setup, model, inputs, targets, batch_size)
    reported: list[dict[str, float]] = []
    with _replacing(model, replaced), random_state(0):
        for one in plans:
            replaced.outputs = one.outputs
            given = setup.data.batches(split, batch_size, indices=indices)
            result = setup.evaluate_hook(model=model.eval(), batches=given, loss=setup.loss())
            reported.append({key: as_number(value) for key, value in result.items()})
    if not replaced.seen:
        raise CannotProbe("the recipe's evaluate does not call the model that it is given")
    size, batch = setup.data.size(split), evaluation_batch(setup)
    found: dict[str, Any] = {
        "examples": len(targets),
        "batch_size": batch_size,
        "seen": len(replaced.seen) / len(targets),
        "partial_batch": size > batch and size % batch > 0,
        **_moves(setup, [{f"val_{key}": value for key, value in values.items()} for values in reported]),
    }
    if all("accuracy" in values for values in reported):
        values = [entry["accuracy"] for entry in reported]
        found |= {"accuracy": values, "planned": [one.expected["accuracy"] for one in plans]}
        found["reads"] = _reads(values, plans)
    return found


def _reads(values: list[float], plans: list[Plan]) -> str | None:
    """Name the quantity that explains what was reported for every plan; `state` where one model has two values."""
    if abs(values[0] - values[2]) > SAME:
        return "state"
    for name in plans[0].expected:
        if all(abs(v - one.expected.get(name, v + 1)) <= SAME for v, one in zip(values, plans, strict=True)):
            return name
    return None


def _moves(setup: Setup, reported: list[dict[str, float]]) -> dict[str, Any]:
    """Return whether the monitored value is better for the better model: +1, 0 where they are equal, -1 where worse."""
    train = setup.spec.tables["train"]
    monitor, sign = train.get("monitor", "val_accuracy"), -1 if train.get("monitor_mode", "max") == "min" else 1
    if not all(monitor in values for values in reported):
        return {"monitor": None}
    good, poor = reported[0][monitor], reported[1][monitor]
    way = 0 if abs(good - poor) <= 1e-9 * max(1.0, abs(good)) else sign if good > poor else -sign
    return {"monitor": monitor, "monitored": [good, poor], "improves": way}


def _metric(setup: Setup, model: nn.Module, split: str, indices: Tensor) -> dict[str, Any]:
    """Ask the user's metric about planned outputs: twice the same, in another order, better and worse ones."""
    metric = setup.metric_hook
    assert metric is not None
    inputs, targets = gathered(setup, split, indices)
    plans = _plans(setup, model, inputs, targets, len(targets))

    def ask(one: Plan, order: Tensor, of_targets: Tensor | None = None) -> float:
        wanted = targets[order if of_targets is None else of_targets]
        return as_number(metric(outputs=one.outputs.to(inputs.device)[order], targets=wanted))

    straight = torch.arange(len(targets), device=targets.device)
    sorted_, turned = targets.argsort(), targets.argsort(descending=True)
    values = [ask(one, straight) for one in plans]
    name = str(setup.spec.tables["train"].get("metric", ""))
    return {
        "name": name,
        "examples": len(targets),
        "values": values,
        "planned": [one.expected["accuracy"] for one in plans],
        "turned_round": ask(plans[0], straight.flip(0)),
        "torn_apart": ask(plans[0], sorted_, turned),
        "named_accuracy": "acc" in name.rpartition(":")[2].lower(),
        "reads": _reads(values, plans),
        **_moves(setup, [{"val_metric": value} for value in values]),
    }


def _plans(setup: Setup, model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int) -> list[Plan]:
    """Plan a good model, a poor one, and the good one again."""
    outputs = forward(model, inputs[:4])
    if outputs.ndim != 2 or outputs.shape[1] < 2 or len(outputs) != len(inputs[:4]):
        raise CannotProbe("the outputs are not one row of class scores per example")
    kind, classes = _outputs.kind_of(model, inputs[:16]), outputs.shape[1]
    shares = ((GOOD, 1), (POOR, 2), (GOOD, 1))
    return [plan(targets.cpu(), classes, share, batch_size, seed, kind) for share, seed in shares]
