"""How the news of trials on a Ray cluster reach the command: through an actor on its own machine.

The trials tell it, and do not wait; the command asks it now and then, and does not wait either.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tuner.core.trial import WorkItem
from tuner.execute.news import Hearing, News

Told = tuple[Mapping[str, Any], bytes | None]


def start_board(ray: Any) -> Any:
    """Start the actor that hears the news, on this machine; where it is lost, Ray starts it again."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


@dataclass(frozen=True)
class Sender:
    """Sends the news of one trial to the board."""

    board: Any
    key: str

    def __call__(self, news: News, weights: Path | None) -> None:
        self.board.tell.remote(self.key, news.to_json(), None if weights is None else weights.read_bytes())


class Board:
    """What running trials have told last, by key: JSON of `News`, and the content of weights that are new."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}

    def tell(self, key: str, news: Mapping[str, Any], weights: bytes | None) -> None:
        if weights is None and key in self.told:
            weights = self.told[key][1]
        self.told[key] = news, weights

    def take(self) -> dict[str, Told]:
        told, self.told = self.told, {}
        return told


class Heard:
    """Asks the board for the news of trials, and never waits for it."""

    def __init__(self, ray: Any, board: Any, hearing: Hearing) -> None:
        self.board = board
        self._ray = ray
        self._hearing = hearing
        self._items: dict[str, WorkItem] = {}
        self._asked = board.take.remote()

    def begin(self, item: WorkItem) -> str:
        """Return the key under which a trial tells its news this time."""
        key = secrets.token_hex(8)
        self._items[key] = item
        return key

    def end(self, key: str) -> None:
        """Pass on no more news under a key: what comes late is of a trial that has ended."""
        del self._items[key]

    def look(self) -> None:
        """Pass on the news that have come."""
        if not self._ray.wait([self._asked], timeout=0)[0]:
            return
        told: Mapping[str, Told] = {}
        with contextlib.suppress(self._ray.exceptions.RayError):  # the board is lost, and starts again
            told = self._ray.get(self._asked)
        self._asked = self.board.take.remote()
        for key, (news, weights) in told.items():
            if key in self._items:
                self._hearing(self._items[key], News.from_json(news), partial(_write, weights))


def _write(content: bytes | None, path: Path) -> None:
    if content is None:
        raise FileNotFoundError("no weights were told")
    path.write_bytes(content)
