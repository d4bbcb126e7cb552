"""What training is fed: the order of the labels, and what the user's step makes of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.checks.step_diet.evidence import StepDiet
from tuner.checks.tools.frame import (
    CannotProbe,
    before_training,
    fresh_model,
    fresh_optimizer,
    keys_of,
    one_batch,
    random_state,
    train_once,
)
from tuner.checks.tools.updates import step_size
from tuner.train.setup import Setup


@before_training
def step_diet(setup: Setup, batches: int = 4) -> StepDiet:
    """Give the user's step batches of different examples and see which examples reach the model, with which labels."""
    if setup.train_step is None:
        return StepDiet(own_step=False)
    size = min(32, step_size(setup))
    inputs, targets = one_batch(setup, batches * size, "step_diet")
    keys = keys_of(inputs)
    if len(set(keys)) < len(keys) or len(keys) < 2 * size:
        raise CannotProbe("too few different examples for batches that share none")
    watch = _Diet(setup, dict(zip(keys, targets.tolist(), strict=True)))
    for start in range(0, len(keys) - size + 1, size):
        part = slice(start, start + size)
        watch.give((inputs[part], targets[part]), keys[part])
    return StepDiet(own_step=True, **watch.facts())


class _Diet:
    """Hears what the model is given, and what the loss is given after it."""

    def __init__(self, setup: Setup, label_of: dict[bytes, int]) -> None:
        self.setup, self.label_of = setup, label_of
        self.model, self.loss = fresh_model(setup), setup.loss()
        self.optimizer = fresh_optimizer(setup, self.model, decay=False)
        self.model.register_forward_pre_hook(self._forward)
        self.rows: list[bytes] = []  # of the last forward
        self.current: set[bytes] = set()
        self.eaten: set[bytes] = set()
        self.earlier: set[bytes] = set()
        self.wrong: list[float] = []  # per call of the loss in this step: the share of labels that are not its rows'
        self.mispaired: list[float] = []  # per step; a mixup of hidden layers asks for right labels and wrong ones
        self.counts = dict.fromkeys(("given", "used", "forwarded", "stale", "unknown"), 0)

    def give(self, batch: tuple[Tensor, Tensor], keys: list[bytes]) -> None:
        self.current, self.eaten, self.wrong = set(keys), set(), []
        with random_state(self.setup.spec.seed):
            train_once(self.setup, self.model, batch, self._loss, self.optimizer)
        self.counts["given"] += len(keys)
        self.counts["used"] += len(self.eaten)
        self.earlier |= self.current
        self.mispaired += [min(self.wrong)] if self.wrong else []

    def _forward(self, module: Any, given: tuple[Any, ...]) -> None:
        self.rows = keys_of(given[0]) if given and isinstance(given[0], Tensor) else []
        if not torch.is_grad_enabled():
            return
        self.counts["forwarded"] += len(self.rows)
        for key in self.rows:
            self.eaten |= {key} & self.current
            self.counts["stale"] += key in self.earlier and key not in self.current
            self.counts["unknown"] += key not in self.label_of

    def _loss(self, outputs: Any, targets: Any) -> Any:
        known = isinstance(targets, Tensor) and targets.ndim == 1 and len(targets) == len(self.rows)
        if known and not targets.is_floating_point():
            pairs = [(self.label_of.get(key), label) for key, label in zip(self.rows, targets.tolist(), strict=True)]
            known_pairs = [own != label for own, label in pairs if own is not None]
            if len(known_pairs) == len(pairs):
                self.wrong.append(sum(known_pairs) / len(known_pairs))
        return self.loss(outputs, targets)

    def facts(self) -> dict[str, Any]:
        if not self.counts["forwarded"]:
            raise CannotProbe("the recipe's step does not call the model itself")
        return {
            "given": self.counts["given"],
            "forwarded": self.counts["forwarded"],
            "used": self.counts["used"] / max(self.counts["given"], 1),
            "stale": self.counts["stale"] / self.counts["forwarded"],
            "unknown": self.counts["unknown"] / self.counts["forwarded"],
            "mispaired": sum(self.mispaired) / len(self.mispaired) if self.mispaired else None,
        }
