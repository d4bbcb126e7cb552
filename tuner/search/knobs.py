"""What a diagnosis can turn: changes of the recipe that exist and mean something for it.

A key that the recipe searches is left alone: the search has looked at its values already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.core.result import Change, Proposal
from tuner.recipe.model import Recipe
from tuner.recipe.space import space_of

DECAYED = {  # weight decay where the recipe gives none: torch's default, and a usual first value
    "sgd": (0.0, 5e-4),
    "adam": (0.0, 1e-4),
    "adamw": (0.01, 0.03),
    "nadam": (0.0, 1e-4),
    "radam": (0.0, 1e-4),
    "rmsprop": (0.0, 1e-4),
}
CROP = {"digits": 1, "mnist": 2, "fashion_mnist": 2, "cifar10": 4, "cifar100": 4, "image_folder": 4}  # padding, pixels
MIRRORED = ("fashion_mnist", "cifar10", "cifar100", "image_folder")  # a mirrored digit is no digit


@dataclass(frozen=True)
class Knobs:
    """The changes that are open to a recipe whose winner has `params` and was trained for `epochs`."""

    recipe: Recipe
    params: Mapping[str, Any]
    epochs: int

    def value(self, key: str) -> Any:
        return self.params.get(key, self.recipe.value(key))

    def _open(self, key: str) -> bool:
        return key not in space_of(self.recipe.search)

    def changes(self, proposal: Proposal) -> list[Change]:
        """Return what a proposal changes in this recipe; nothing where it does not apply, or the search has the key.

        Raises:
            ValueError: no such operation is known for the key.
        """
        reason, value = proposal.reason, proposal.value
        match proposal.key, proposal.operation:
            case "stages.fine.epochs", "lengthen":
                return self.longer(reason)
            case "stages.fine.epochs", "shorten":
                return self.shorter(value, reason)
            case "regularisation", "strengthen":
                return self.regularise(reason)
            case "regularisation", "relax":
                return self.relax(reason)
            case "schedule.name", "anneal":
                return self.anneal(reason)
            case "schedule.name", "calm":
                return self.calm(reason)
            case "optimizer.lr", "multiply":
                return self.rate(value, reason)
            case "model.width", "double":
                return self.wider(reason)
            case "train.clip_norm", "lift":
                return self.unclipped(reason)
            case "train.precision", "set":
                return [Change("train.precision", self.value("train.precision"), value, reason)]
            case key, "lower":
                return self.less(key, reason)
        raise ValueError(f"no operation {proposal.operation!r} is known for {proposal.key!r}")

    def longer(self, reason: str) -> list[Change]:
        """Train half as long again; the schedule keeps its shape, because it is stretched over the horizon."""
        return [Change("stages.fine.epochs", self.epochs, math.ceil(1.5 * self.epochs), reason)]

    def shorter(self, best_epoch: int, reason: str) -> list[Change]:
        new = max(5, 3 * best_epoch)
        return [Change("stages.fine.epochs", self.epochs, new, reason)] if new < self.epochs else []

    def regularise(self, reason: str) -> list[Change]:
        """Augment where nothing is augmented yet, else drop out; and decay the weights more."""
        changes = self._augment(reason) or self._dropout(0.2, reason)
        return [*changes, *self._decay(3.0, reason)]

    def relax(self, reason: str) -> list[Change]:
        """Take back what keeps the model from fitting, and make it wider."""
        return [*self._dropout(-0.2, reason), *self._decay(1 / 3, reason), *self._width(2, reason)]

    def anneal(self, reason: str) -> list[Change]:
        """Let the rate fall to zero over the run, where it is constant now."""
        if self.recipe.schedule.name != "constant" or not self._open("schedule.name"):
            return []
        return [Change("schedule.name", "constant", "cosine", reason)]

    def calm(self, reason: str) -> list[Change]:
        """Anneal, or where the rate falls already, divide it by three."""
        return self.anneal(reason) or self.rate(1 / 3, reason)

    def rate(self, factor: float, reason: str) -> list[Change]:
        """Multiply a rate that is not searched."""
        old = self.value("optimizer.lr")
        if not self._open("optimizer.lr"):
            return []
        return [Change("optimizer.lr", old, float(f"{old * factor:.2g}"), reason)]

    def less(self, key: str, reason: str) -> list[Change]:
        """Take back one regulariser: weight decay to a tenth, label smoothing to 0.1 at most, the others away."""
        old = self.value(key)
        if not old or not self._open(key):
            return []
        new: Any = [] if key == "data.augment" else 0.0
        if key == "optimizer.weight_decay":
            new = float(f"{old / 10:.2g}")
        if key == "loss.label_smoothing" and old > 0.1:
            new = 0.1
        return [Change(key, old, new, reason)]

    def wider(self, reason: str) -> list[Change]:
        return self._width(2, reason)

    def unclipped(self, reason: str) -> list[Change]:
        """Clip a hundred times later: a recipe cannot say "no limit" over one that it has."""
        old = self.value("train.clip_norm")
        return [Change("train.clip_norm", old, 100 * old, reason)] if old and self._open("train.clip_norm") else []

    def _augment(self, reason: str) -> list[Change]:
        data = self.recipe.data
        if data.source not in CROP or data.augment or not self._open("data.augment"):
            return []
        crop = {"name": "random_crop", "padding": CROP[data.source]}
        new = ["hflip", crop] if data.source in MIRRORED else [crop]
        return [Change("data.augment", [], new, reason)]

    def _dropout(self, by: float, reason: str) -> list[Change]:
        old = self.value("model.dropout")
        built_in = not any(mark in self.recipe.model.name for mark in ".:")
        if not self._open("model.dropout") or (old is None and not built_in):
            return []
        old = float(old or 0.0)
        new = round(min(0.5, max(0.0, old + by)), 3)
        return [Change("model.dropout", old, new, reason)] if new != old else []

    def _decay(self, factor: float, reason: str) -> list[Change]:
        key = "optimizer.weight_decay"
        old = self.value(key)
        default = DECAYED.get(self.recipe.optimizer.name)
        if not self._open(key) or (old is None and default is None):
            return []
        old = default[0] if old is None and default is not None else old
        if old > 0:
            return [Change(key, old, float(f"{old * factor:.2g}"), reason)]
        if factor <= 1:
            return []
        return [Change(key, old, default[1] if default is not None else 1e-4, reason)]

    def _width(self, factor: int, reason: str) -> list[Change]:
        old = self.value("model.width")
        if not isinstance(old, int) or not self._open("model.width"):
            return []
        return [Change("model.width", old, factor * old, reason)]
