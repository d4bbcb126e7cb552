"""What a trained model answers, example by example: for paired tests, and for the interval of a test score."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuner.core.statistics import Z95
from tuner.train.data import Data
from tuner.train.evaluate import as_float
from tuner.train.nested import mapped
from tuner.train.scoring import REFUSALS, Scorer
from tuner.train.setup import Setup

BATCH = 512
DRAWS = 200  # of the test examples, for an interval
MOST_ROWS = 20_000  # outputs that a draw looks at: more positions than these are thinned

Rows = tuple[np.ndarray, np.ndarray]


class NoAnswers(Exception):
    """Raised where outputs have no shape that the task can score; its text is the reason."""


@torch.no_grad()
def answered(
    model: nn.Module, batches: Iterable[tuple[Any, Tensor]], scorer: Scorer, each: Callable[..., Any]
) -> list[Any]:
    """Return what `each(outputs, targets, rows)` makes of every batch, in eval mode.

    Raises:
        NoAnswers: the task cannot score the outputs.
    """
    model.eval()
    found = []
    for inputs, targets in batches:
        outputs = as_float(model(inputs))
        rows = scorer.rows(outputs, targets)
        if rows is None:
            raise NoAnswers(f"the outputs do not have the shape that {scorer.task.name} scores take")
        found.append(each(outputs, targets, rows))
    return found


def values_of_each(setup: Setup, model: nn.Module, split: str) -> np.ndarray:
    """Return one number per example that is larger where its answer is better: the task's own, else minus the loss.

    Of examples without any class (all of their positions are left out) the loss says nothing: they are passed over.

    Raises:
        NoAnswers: the outputs cannot be scored, or the loss takes no single example.
    """
    loss = setup.loss()
    scorer = setup.scorer(loss)
    batches = setup.data.batches(split, BATCH)
    whole = answered(model, batches, scorer, lambda outputs, targets, rows: (rows[0].cpu(), rows[1].cpu()))
    outputs, targets = (torch.cat(part).numpy() for part in zip(*whole, strict=True))
    own = setup.data.task.per_example(outputs, targets)
    if own is not None:
        return np.asarray(own, dtype=np.float32)
    parts = answered(model, batches, scorer, lambda given, wanted, rows: _losses(loss, given, wanted))
    return -np.concatenate(parts).astype(np.float32)


def _losses(loss: Callable[[Any, Tensor], Tensor], outputs: Any, targets: Tensor) -> np.ndarray:
    found, counted = [], getattr(loss, "counted", len)
    for i in range(len(targets)):
        if not counted(targets[i : i + 1]):
            continue
        one = mapped(partial(_example, i), outputs)
        try:
            found.append(float(loss(one, targets[i : i + 1])))
        except REFUSALS as error:
            raise NoAnswers(f"the loss takes no single example ({type(error).__name__})") from error
    return np.asarray(found)


def _example(i: int, tensor: Tensor) -> Tensor:
    return tensor[i : i + 1] if tensor.ndim else tensor


def packed(values: np.ndarray) -> str:
    """Return float32 values as base64."""
    return base64.b64encode(values.astype(np.float32).tobytes()).decode()


def interval(setup: Setup, data: Data, model: nn.Module, name: str, seed: int = 0) -> list[float] | None:
    """Return the 95 % interval of a test score: of draws of the examples, whole examples with all their positions.

    Where examples are compared with each other (retrieval), it is that of the mean over queries.
    """
    task, scorer = data.task, setup.scorer(setup.loss())
    if task.by_group():
        whole = answered(model, data.batches("test", BATCH), scorer, lambda outputs, targets, rows: rows)
        outputs, targets = (torch.cat(part).cpu().numpy() for part in zip(*whole, strict=True))
        queries = np.asarray(task.per_example(outputs, targets))
        if name != task.score or len(queries) < 2:
            return None
        half = Z95 * queries.std(ddof=1) / np.sqrt(len(queries))
        return [float(queries.mean() - half), float(queries.mean() + half)]
    singles = answered(model, data.batches("test", 1), scorer, lambda outputs, targets, rows: rows)
    examples = [(rows[0].cpu().numpy(), rows[1].cpu().numpy()) for rows in singles]
    return _drawn(task, name, examples, seed)


def _drawn(task: Any, name: str, examples: list[Rows], seed: int) -> list[float] | None:
    generator = np.random.default_rng(seed)
    step = max(1, sum(len(targets) for _, targets in examples) // MOST_ROWS)
    thin = [(outputs[::step], targets[::step]) for outputs, targets in examples] if step > 1 else examples
    values = []
    for _ in range(DRAWS):
        chosen = generator.integers(0, len(thin), len(thin))
        outputs, targets = (np.concatenate([thin[i][part] for i in chosen]) for part in (0, 1))
        value = task.measure((name,), outputs, targets).get(name)
        if value is not None:
            values.append(value)
    return [float(end) for end in np.quantile(values, [0.025, 0.975])] if len(values) > DRAWS // 2 else None
