"""Trials that are training: how far each has come, and its best weights so far, for when it is given up or killed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.core.result import Record, TrialResult
from tuner.core.store import StageDir, write_bytes
from tuner.core.trial import Progress, WorkItem

Place = tuple[int, int, str]
GIVEN_UP = "given_up"  # in a result's evidence: neither a rung nor the horizon ended the trial


@dataclass
class UnderWay:
    """What the trials of one generation have told. `before`: records of lower rungs, which a trial has gone on from."""

    folder: StageDir
    items: dict[int, WorkItem] = field(default_factory=dict)
    before: dict[str, Record] = field(default_factory=dict)
    _began: dict[int, float] = field(default_factory=dict)
    _rows: dict[int, dict[Place, Mapping[str, Any]]] = field(default_factory=dict)
    _latest: dict[int, Record] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: StageDir, todo: Sequence[WorkItem], records: Sequence[Record]) -> UnderWay:
        found = cls(folder)
        found.expect(todo, records)
        return found

    def expect(self, todo: Sequence[WorkItem], records: Sequence[Record]) -> None:
        """Take in what is to be run as well; a trial that goes on begins with what it has come to."""
        self.before |= {record.result.id: record for record in records}
        for item in todo:
            self.items[item.number] = item
            self._began.pop(item.number, None)
            self._rows.pop(item.number, None)

    def hear(self, progress: Progress) -> Record | None:
        """Take in news; return the trial as it would be if it were given up now, where its weights so far are new."""
        item = self.items.get(progress.number)
        if item is None:
            return None
        now, before = time.monotonic(), self.before.get(item.spec.id)
        began = self._began.setdefault(item.number, now)
        rows = self._rows.setdefault(item.number, _by_place([] if before is None else before.result.curve))
        rows |= _by_place(progress.rows)  # a trial that begins again in a new process tells the same again
        known = self._latest.get(item.number)
        if progress.kept is None or (known is not None and known.result.best_epoch == progress.kept[0]):
            return None
        epoch, score = progress.kept
        reached = max((int(row["epoch"]) for row in rows.values() if row["split"] == "val"), default=0)
        curve = [row for row in rows.values() if row["epoch"] <= reached]
        evidence = {GIVEN_UP: {"after": reached}}
        result = TrialResult(item.spec.id, reached, "stopped", curve, evidence, score, epoch, now - began)
        self._latest[item.number] = record = Record(replace(item, until_epoch=reached), result)
        return record

    def forget(self, number: int) -> None:
        """Note that a trial has ended."""
        self._latest.pop(number, None)

    def given_up(self) -> Iterator[Record]:
        """Yield the trials that had not ended, as far as they were trained; their weights so far are theirs now."""
        for _, record in sorted(self._latest.items()):
            so_far, own = self.folder.so_far(record.result.id), self.folder.checkpoint(record.result.id)
            if so_far.is_file():
                write_bytes(own, so_far.read_bytes())  # not moved: `winner.json` may name the other
                yield record


def is_given_up(record: Record) -> bool:
    """Return whether a trial was ended by the time of the run."""
    return GIVEN_UP in record.result.evidence


def _by_place(rows: Sequence[Mapping[str, Any]]) -> dict[Place, Mapping[str, Any]]:
    return {(row["step"], row["epoch"], row["split"]): row for row in rows}
