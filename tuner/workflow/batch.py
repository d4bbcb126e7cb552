"""What a plan has asked for and is being run, side by side; of a search more is added while some of it still runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.core.result import Record, TrialResult
from tuner.core.trial import WorkItem
from tuner.view.progress import Epochs
from tuner.workflow.under_way import UnderWay
from tuner.workflow.work import Work, known, unfinished

PAUSE = (
    10  # times what asking the plan took, before it is asked again: thousands of short trials cost more than they wait
)


class Batch:
    """The items that a plan gave after `records`, and how far they have come.

    `finished` is the stage's: results by key, those of earlier commands too. `searches`: the plan of a search may be
    asked while trials run: what it gives then is run whatever these will show. `todo` grows by that.
    """

    def __init__(
        self,
        work: Work,
        records: Sequence[Record],
        items: Sequence[WorkItem],
        finished: dict[Any, TrialResult],
        searches: bool,
    ) -> None:
        self.work, self.records, self.finished, self.searches = work, records, finished, searches
        self.items = list(items)
        if searches:
            self._grow()
        self.todo = unfinished(self.items, finished)
        self.under_way = UnderWay.of(work.folder, self.todo, self.there)
        self._spans: dict[int, tuple[int, int]] = {}
        self._due = 0.0

    @property
    def there(self) -> list[Record]:
        """Return the records so far, in order."""
        return sorted([*self.records, *known(self.items, self.finished)], key=lambda record: record.order)

    def epochs(self, in_all: int) -> Epochs:
        """Return what counts the epochs of a search, of which so many are planned; it hears of more."""
        done = sum(_reached(self.there).values())
        self._spans = _spans(self.there, self.todo)
        return Epochs(done, max(in_all, done + sum(last - first for first, last in self._spans.values())), self._spans)

    def end(self, record: Record) -> None:
        """Take in a trial that has ended."""
        self.finished[record.item.key] = record.result
        self.under_way.forget(record.number)

    def more(self) -> list[WorkItem]:
        """Return what the plan is certain of by now, while others run; where nothing runs, it is asked again anyway."""
        began = time.monotonic()
        if not self.searches or began < self._due or not unfinished(self.items, self.finished):
            return []
        count = len(self.items)
        self._grow()
        self._due = began + (1 + PAUSE) * (time.monotonic() - began)
        new = unfinished(self.items[count:], self.finished)
        self.under_way.expect(new, self.there)
        self._spans |= _spans(self.there, new)
        self.todo += new
        return new

    def _grow(self) -> None:
        """Add what the plan gives with the results so far, until it gives nothing that is finished already."""
        keys = {item.key for item in self.items}
        while new := [item for item in self.work.plan(self.there) if item.key not in keys]:
            self.items += new
            keys |= {item.key for item in new}
            if not any(item.key in self.finished for item in new):
                return


def _reached(records: Sequence[Record]) -> dict[str, int]:
    """Return how many epochs each trial has been trained, by id."""
    reached: dict[str, int] = {}
    for record in records:
        reached[record.result.id] = max(reached.get(record.result.id, 0), _last_epoch(record.item))
    return reached


def _spans(records: Sequence[Record], todo: Sequence[WorkItem]) -> dict[int, tuple[int, int]]:
    """Return from which epoch to which a trial is to train, by number: one that goes on trains those it has not yet."""
    reached: Mapping[str, int] = _reached(records)
    return {item.number: (reached.get(item.spec.id, 0), _last_epoch(item)) for item in todo}


def _last_epoch(item: WorkItem) -> int:
    return item.until_epoch or item.spec.horizon_epochs or 0
