"""Progress on stderr while trials run: a live bar on a terminal, a plain line every ten seconds elsewhere
(in a pipe, and where TERM is dumb).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.core.formatting import plural
from tuner.core.result import PLACES, TrialResult
from tuner.core.trial import Progress
from tuner.view.page import encodable, make_console
from tuner.view.text import duration, fixed, is_number, words_of

if TYPE_CHECKING:
    from rich.console import Console

SILENT_SECONDS = 1.0  # work quicker than this shows nothing
LINE_SECONDS = 10.0
NOTES_SHOWN = 4


@dataclass(frozen=True)
class Epochs:
    """The epochs of a search: those `done` before a generation, all that are planned, later generations included, and
    of each trial that runs, by number, from which to which it trains; that grows while they run.
    """

    done: int
    in_all: int
    of: Mapping[int, tuple[int, int]]


class ProgressView:
    """Shows how far a stage is, generation after generation. Use as a context manager, or call `stop` at the end.

    Nothing is printed when `quiet`, notes neither.
    """

    def __init__(
        self, quiet: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet, self.clock = quiet, clock
        self._console = console
        self._lock = threading.RLock()
        self._ended: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._title = ""
        self._running: dict[int, Progress] = {}
        self._ends: dict[str, int] = {}
        self._best: Best | None = None
        self._reset("", 0, 0, None)

    def __enter__(self) -> ProgressView:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def console(self) -> Console:
        if self._console is None:
            self._console = make_console(stderr=True)
        return self._console

    def start(self, stage_title: str, total_items: int, done: int = 0, epochs: Epochs | None = None) -> None:
        """Begin a generation of `total_items` trials, of which `done` are known from before; 0: work without trials.

        `epochs`: counted instead of trials, which a search trains in parts.
        """
        self.stop()
        with self._lock:
            self._reset(stage_title, total_items, done, epochs)
        if self.quiet:
            return
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._ended,), name="tuner-progress", daemon=True)
        self._thread.start()

    def update(self, progress: Progress) -> None:
        """Take in a running trial's news."""
        with self._lock:
            self._running.pop(progress.number, None)  # the newest news last
            self._running[progress.number] = progress

    def finish(self, result: TrialResult, number: int | None = None) -> None:
        """Take in a finished trial. Without its number, the one that is at its end, or silent for longest, is it."""
        with self._lock:
            self._done += 1
            if self._epochs is not None and number is not None and number in self._epochs.of:
                first, last = self._epochs.of[number]
                self._trained += last - first
            self._ends[result.status] = self._ends.get(result.status, 0) + 1
            found = best_of(result)
            if found is not None and (self._best is None or found.rank > self._best.rank):
                self._best = found
            at_end = [n for n, news in self._running.items() if news.fraction >= 1.0]
            known = [number] if number is not None else at_end or list(self._running)
            if known:
                self._running.pop(known[0], None)

    def note(self, text: str) -> None:
        """Print a line that stays, above the live bar where there is one."""
        if self.quiet:
            return
        from rich.text import Text

        encoding = self.console.encoding
        text = text if encodable(encoding, text) else text.encode("ascii", "replace").decode()
        self.console.print(Text(text), soft_wrap=True, highlight=False)

    def stop(self) -> None:
        """End the display; the terminal is left as it was. Safe to call twice."""
        if self._ended is not None:
            self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._ended = self._thread = None

    def line(self) -> str:
        """Return the state in one plain line."""
        with self._lock:
            elapsed, share = self.clock() - self._began, self.fraction
            if not self._total:
                notes = "".join(f"; {news.note}" for news in self._running.values() if news.note)
                return f"{self._title}: {duration(round(elapsed))} elapsed{notes}"
            parts = [f"{self._title}: {self._count}"]
            parts += [f"{share * 100:.0f} % done", f"{duration(round(elapsed))} elapsed"]
            left = self.seconds_left
            if left is not None:
                parts.append(f"{self._left(left)} left")
            return ", ".join(parts) + "".join(f"; {text}" for text in self._facts())

    @property
    def fraction(self) -> float:
        """Return the share that is done, running trials counted by their own share."""
        shares = {number: min(max(news.fraction, 0.0), 1.0) for number, news in self._running.items()}
        if self._epochs is None:
            return min(1.0, (self._done + sum(shares.values())) / self._total) if self._total else 0.0
        of = self._epochs.of
        running = sum(
            max(0.0, share * of[number][1] - of[number][0]) for number, share in shares.items() if number in of
        )
        return min(1.0, (self._epochs.done + self._trained + running) / self._epochs.in_all)

    @property
    def _count(self) -> str:
        """Say how much of how much is done, finished trials alone."""
        if self._epochs is not None:
            return f"{self._epochs.done + self._trained}/{plural(self._epochs.in_all, 'epoch')}"
        return f"{self._done}/{plural(self._total, 'trial')}"

    @property
    def seconds_left(self) -> float | None:
        """Return the time left at the pace so far, or None while that would be a guess."""
        fresh = self.fraction - self._known
        elapsed = self.clock() - self._began
        if fresh < 0.02 or elapsed < SILENT_SECONDS:
            return None
        return elapsed * (1 - self.fraction) / fresh

    def _left(self, seconds: float) -> str:
        """Say how long it still takes: at least so long where more work may follow from what these trials show."""
        return f"{'at least' if self._epochs is None else 'about'} {duration(max(1, round(seconds)))}"

    def _reset(self, title: str, total: int, done: int, epochs: Epochs | None) -> None:
        goes_on = title == self._title and done > 0  # another generation of the same stage: with its time and its best
        self._title, self._total, self._done, self._epochs = title, total, done, epochs
        self._trained = 0
        self._running = {}
        if not goes_on:
            self._ends, self._best = {}, None
            self._began, self._known = self.clock(), self.fraction

    def _facts(self) -> list[str]:
        facts = [f"{self._ends[end]} {end}" for end in ("diverged", "failed") if self._ends.get(end)]
        best = self._best
        return ([] if best is None else [f"best val {words_of(best.name)} {fixed(best.value)}"]) + facts

    def _watch(self, ended: threading.Event) -> None:
        if ended.wait(SILENT_SECONDS):
            return
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._show_live(ended)
            return
        wait = LINE_SECONDS - SILENT_SECONDS
        while not ended.wait(wait):
            self.note(self.line())
            wait = LINE_SECONDS

    def _show_live(self, ended: threading.Event) -> None:
        from rich.live import Live

        with Live(
            get_renderable=self._render,
            console=self.console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
        ):
            ended.wait()

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            left = self.seconds_left
            times = f"{duration(round(self.clock() - self._began))} elapsed"
            times += f", {self._left(left)} left" if left is not None else ""
            grid = Table.grid(padding=(0, 1))
            total = 1.0 if self._total else None  # without trials: a bar that only moves
            bar = ProgressBar(total=total, completed=self.fraction, width=max(8, self.console.width - 66))
            count = f"{self._count}, " if self._total else ""
            grid.add_row(Text(f" {self._title}", "bold"), bar, Text(f"{count}{times}"))
            lines: list[Any] = [grid]
            if facts := self._facts():
                lines.append(Text("   " + "; ".join(facts), no_wrap=True, overflow="ellipsis"))
            noted = sorted((news for news in self._running.values() if news.note), key=lambda news: news.number)
            notes = [f"   trial {news.number}: {news.note}" if self._total else f"   {news.note}" for news in noted]
            lines += [Text(note, "dim", no_wrap=True, overflow="ellipsis") for note in notes[:NOTES_SHOWN]]
            return Group(*lines)


@dataclass(frozen=True)
class Best:
    """The best trial so far: what it is ranked by, larger is better, and that score's name and value as measured."""

    rank: float
    name: str
    value: float


def best_of(result: TrialResult) -> Best | None:
    """Return what a trial reached on val at its best epoch; None where it has no score.

    The score's name is that of the measured value which the trial's score is, turned or not; accuracy goes first.
    """
    at = (row for row in result.curve if row.get("split") == "val" and row.get("epoch") == result.best_epoch)
    row = next(at, {})
    rank = row.get("accuracy") if result.score is None else result.score
    if rank is None or not is_number(rank):
        return None
    names = sorted((name for name in row if name not in PLACES), key=lambda name: name != "accuracy")
    name = next((name for name in names if is_number(row[name]) and abs(row[name]) == abs(rank)), None)
    return None if name is None else Best(rank, name, row[name])
