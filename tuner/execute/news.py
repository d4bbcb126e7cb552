"""What a trial tells while it runs on another machine: its share, its curve and its best weights so far.

Each piece of news holds all that was told before, so that one that is lost, or that nobody looks at, costs nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner.core.result import finite
from tuner.core.store import StageDir, sha256
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.core.values import from_json, to_json
from tuner.execute.base import OnProgress

TELL_SECONDS, TELL_TIMES = 1.0, 20  # between two pieces of news, and in times of what sending one takes

Send = Callable[["News", Path | None], None]


@dataclass(frozen=True)
class News:
    """How far a trial has come. `lines`: those that stay. `rows`: of its curve. `kept`: its best epoch and the score.

    `weights`: the sha256 of the file with the weights of that epoch; empty: there is none yet.
    """

    share: float = 0.0
    note: str = ""
    lines: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    kept: tuple[int, float | None] | None = None
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        return finite(to_json(self))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> News:
        """Return the news of a JSON object; ValueError: it is none."""
        return from_json(cls, value)


class Teller:
    """Gathers the progress of one trial, where it runs, and sends it now and then.

    `send(news, weights)`: `weights` is the file that `news.weights` is of where it is new, else None.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._news = News()
        self._lines: list[str] = []
        self._rows: list[Mapping[str, Any]] = []
        self._weights: Path | None = None
        self._new = False
        self._due = 0.0

    def hear(self, progress: Progress, weights: Path | None = None) -> None:
        """Take in a trial's progress; `weights`: the file of its best weights so far."""
        if progress.lasting:
            self._lines.append(progress.note)
        else:
            self._news = replace(self._news, share=progress.fraction, note=progress.note)
        self._rows += progress.rows
        if progress.kept is not None and progress.kept != self._news.kept:
            self._news, self._weights = replace(self._news, kept=progress.kept), weights
        self._new = True
        self.tell()

    def tell(self) -> None:
        """Send what has not been sent, when it is time."""
        began = time.monotonic()
        if not self._new or began < self._due:
            return
        if self._weights is not None:
            self._news = replace(self._news, weights=sha256(self._weights))
        self._send(replace(self._news, lines=tuple(self._lines), rows=tuple(self._rows)), self._weights)
        self._weights, self._new = None, False
        now = time.monotonic()
        self._due = now + max(TELL_SECONDS, TELL_TIMES * (now - began))


@dataclass
class Hearing:
    """Passes the news of other machines' trials on, as if they ran here: their best weights so far lie in the run."""

    env: TrialEnv
    on_progress: OnProgress
    _weights: dict[str, str] = field(default_factory=dict)  # of each trial, those that have arrived
    _lines: set[tuple[int, str]] = field(default_factory=set)

    def __call__(self, item: WorkItem | None, news: News, fetch: Callable[[Path], None]) -> None:
        """Pass on the news of a trial; None: of the check of the recipe. `fetch` writes its weights to a file."""
        number = 0 if item is None else item.number
        for line in news.lines:
            if (number, line) not in self._lines:
                self._lines.add((number, line))
                self.on_progress(Progress(number, 0.0, line, lasting=True))
        there = item is not None and bool(news.weights) and self._has_weights(item, news.weights, fetch)
        kept = news.kept if there else None
        self.on_progress(Progress(number, news.share, news.note, rows=news.rows, kept=kept))  # type: ignore[arg-type]

    def _has_weights(self, item: WorkItem, digest: str, fetch: Callable[[Path], None]) -> bool:
        """Have the weights of the news in the run; return False where there are others by now, or none."""
        assert self.env.stage_dir is not None
        path = StageDir(self.env.stage_dir).so_far(item.spec.id)
        if self._weights.get(item.spec.id) == digest:
            return True
        temporary = path.with_name(f".{path.name}.arrived.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fetch(temporary)
            if sha256(temporary) != digest:
                return False
            os.replace(temporary, path)
        except OSError:  # a disk that is full shows when a result is written
            return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._weights[item.spec.id] = digest
        return True
