"""How a batch is shared out between the processes that train one trial together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tuner.core.errors import UsageError
from tuner.train.objective import is_of_features, terms_of


class Share(tuple[Any, Tensor]):
    """One process's inputs and targets of a batch.

    `sizes`: how many examples each process has; None: every process has the whole batch, which is too small to share.
    """

    sizes: Sequence[int] | None

    @property
    def examples(self) -> int:
        """How many examples the whole batch has."""
        return len(self[1]) if self.sizes is None else sum(self.sizes)


def share_of(inputs: Any, targets: Tensor, sizes: Sequence[int] | None) -> Share:
    """Return the share that consists of these."""
    share = Share((inputs, targets))
    share.sizes = sizes
    return share


def sizes_of(examples: int, count: int) -> list[int] | None:
    """Return how many examples each of `count` processes gets, differing by one at most; None: too few to share."""
    if examples < count:
        return None
    return [examples // count + (number < examples % count) for number in range(count)]


def sharing_problems(tables: Mapping[str, Any], base_dir: Path) -> list[UsageError]:
    """Name what a recipe asks for that a trial on several devices cannot do."""
    train = tables["train"]
    count = train.get("devices_per_trial", 1)
    if count == 1:
        return _without_effect(train)
    found = []
    if train.get("step"):
        found.append(f"train.step = {train['step']!r} makes its update on one device alone")
    if train["batch_size"] < count:
        found.append(f"a batch of {train['batch_size']} (train.batch_size) is too small for {count} devices")
    if tables["loss"].get("name") == "model":
        found.append('loss.name = "model" is a loss of each share, not of the whole batch')
    if (tables.get("teacher") or {}).get("pseudo_labels"):
        found.append("teacher.pseudo_labels draws examples of its own for a batch, which are not shared out")
    if name := loss_of_features(tables["loss"], base_dir):
        found.append(f"{name} in a list of losses compares the features of a whole batch, which are not gathered")
    return [UsageError(f"train.devices_per_trial: {text}", "Leave it out, or change the other.") for text in found]


def _without_effect(train: Mapping[str, Any]) -> list[UsageError]:
    if not train.get("sync_batch_norm"):
        return []
    return [UsageError("train.sync_batch_norm: has no effect on one device", "Set train.devices_per_trial, too.")]


def loss_of_features(table: Mapping[str, Any], base_dir: Path) -> str | None:
    """Return the first loss of features in a list of losses; names that are not known are reported elsewhere."""
    for term in terms_of(table):
        try:
            if is_of_features(term, table, base_dir):
                return str(term["name"])
        except (UsageError, KeyError):
            continue
    return None
