"""What comes out: of a trial (TrialResult), of a rule (Finding), of a stage (StageResult)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar

from tuner.core import choices
from tuner.core.trial import WorkItem
from tuner.core.values import from_json, to_json

Status = Literal["completed", "stopped", "diverged", "failed"]
FailureKind = Literal["oom", "timeout", "crash", "user-code", "data"]
Severity = Literal["note", "warn", "error"]
Verdict = Literal["pass", "warn", "fail"]

SCHEMA = 1
PLACES = ("step", "epoch", "split", "lr")  # columns of a curve that are no values of it
DISTANCES = frozenset({"loss", "mae", "rmse"})  # of these less is better
SEVERITIES: tuple[Severity, ...] = ("note", "warn", "error")


def finite(value: Any) -> Any:
    """Return `value` with every NaN and infinity, at any depth, replaced by None (JSON null)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


@dataclass(frozen=True)
class TrialError:
    """Why a trial failed: one of the typed kinds, the message, and the frames worth showing."""

    kind: FailureKind
    message: str
    hint: str = ""

    @property
    def line(self) -> str:
        """The one line that says what happened: the first of a message, the last of a traceback."""
        return telling_line(self.message)


def telling_line(message: str) -> str:
    """Return the line of a message that says what happened."""
    lines = message.strip().splitlines() or ["no message"]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


@dataclass(frozen=True)
class TrialResult:
    """What a trial gave.

    `curve`: rows {step, epoch, split, loss, accuracy, ...}; split is `train` (running objective), `train_eval`
    (train subset, eval mode, no augmentation) or `val`; step counts updates, epoch counts from 1.
    `score`: the monitored value at the best evaluated epoch (`best_epoch`, from 1), larger is better.
    `evidence`: {name of the measure: its dictionary}.
    """

    id: str
    until_epoch: int | None
    status: Status
    curve: Sequence[Mapping[str, Any]] = ()
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: float | None = None
    best_epoch: int | None = None
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    error: TrialError | None = None
    worker: int | None = None
    started_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        return finite(asdict(self))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialResult:
        error = value.get("error")
        return cls(**{**value, "error": TrialError(**error) if error else None})


@dataclass(frozen=True)
class Record:
    """A finished work item: what was asked and what came out. `trials.jsonl` has one per line."""

    item: WorkItem
    result: TrialResult

    @property
    def number(self) -> int:
        return self.item.number

    @property
    def order(self) -> tuple[int, float]:
        """By number, then by how far it was to go: to its horizon comes after every rung."""
        return self.item.number, self.item.until_epoch or math.inf

    @property
    def params(self) -> Mapping[str, Any]:
        """The trial's overrides: dotted key -> value."""
        return self.item.spec.overrides

    def rows(self, split: str) -> list[Mapping[str, Any]]:
        """Return the rows of one split of the curve, in order."""
        return [row for row in self.result.curve if row["split"] == split]

    def best_row(self, split: str = "val") -> Mapping[str, Any] | None:
        """Return the split's row at the best epoch, or None when the trial has none."""
        for row in self.rows(split):
            if row["epoch"] == self.result.best_epoch:
                return row
        return None

    @property
    def score_key(self) -> str:
        """The column of the curve that the score is of: what is monitored, or the task's own score in its place."""
        key = str(self.item.spec.tables.get("train", {}).get("monitor", "val_accuracy")).removeprefix("val_")
        best, score = self.best_row("val") or {}, self.result.score
        if key in best or score is None:
            return key
        others = (name for name in best if name not in (*PLACES, "loss") and _is_same_size(best[name], score))
        return next(others, key)

    @property
    def direction(self) -> float:
        """1 where more of the measured score is better, -1 where less is: results hold it turned."""
        train = self.item.spec.tables.get("train", {})
        return -1.0 if is_less_better(self.score_key, train.get("monitor_mode", "max")) else 1.0

    @property
    def measured_score(self) -> float | None:
        """The trial's score as it was measured, whichever way is better."""
        return None if self.result.score is None else self.direction * self.result.score

    def scores(self) -> dict[int, float]:
        """Return {epoch: the monitored value on val, turned so that larger is better}, where it is finite."""
        key, sign = self.score_key, self.direction
        values = {int(row["epoch"]): row.get(key) for row in self.rows("val")}
        return {epoch: sign * value for epoch, value in values.items() if value is not None and math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        return {"item": self.item.to_json(), "result": self.result.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        return cls(WorkItem.from_json(value["item"]), TrialResult.from_json(value["result"]))


def is_less_better(name: str, monitor_mode: str) -> bool:
    """Return whether less is better of a score: the recipe says so, or it is a loss or a distance."""
    return monitor_mode == "min" or name in DISTANCES


def _is_same_size(value: Any, score: float) -> bool:
    return isinstance(value, (int, float)) and abs(value) == abs(score)


def last_of_each(records: Iterable[Record]) -> list[Record]:
    """Return one record per trial, by number: the one that went furthest, which supersedes those of lower rungs."""
    return list({record.result.id: record for record in sorted(records, key=lambda record: record.order)}.values())


@dataclass(frozen=True)
class Change:
    """A proposed change of the recipe: dotted key, old and new value, and why."""

    key: str
    old: Any
    new: Any
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "from": self.old, "to": self.new, "reason": self.reason}


@dataclass(frozen=True)
class Proposal:
    """A change that a rule proposes, as data: the key, what to do with it, and why.

    `operation` is one of those that `search.knobs.Knobs.changes` knows for the key; `value` is its operand, if it has
    one. What the recipe's own value makes of it, and whether it is open to change, is decided there.
    """

    key: str
    operation: str
    reason: str
    value: Any = None


@dataclass(frozen=True)
class Finding:
    """What a rule saw: the code of the rule, the cause (a slug of the causes list), its weight and its remedy.

    `confidence`: how often the code is right on the zoo, None where that is not known. `explained_by`: the code of the
    finding that causes this one, if another does.
    """

    code: str
    cause: str
    severity: Severity
    title: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""
    confidence: float | None = None
    changes: Sequence[Change] = ()
    accepted: bool = False
    proposals: Sequence[Proposal] = ()
    explained_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        value = finite(asdict(self))
        value["changes"] = [change.to_json() for change in self.changes]
        del value["proposals"]  # what they come to is in `changes`
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Finding:
        """Return the finding of a `result.json`; keys of later versions are ignored.

        Raises:
            ValueError: a key is missing or of another type.
        """
        changes = [
            {**change, "old": change.get("from"), "new": change.get("to")} for change in value.get("changes", ())
        ]
        return from_json(cls, {**value, "changes": changes})


@dataclass(frozen=True)
class Skipped:
    """A check that could not be made, and why."""

    check: str
    why: str


M = TypeVar("M")


@dataclass(frozen=True)
class StageResult(Generic[M]):
    """What a stage concludes; `to_json()` is the content of its `result.json`.

    `metrics`: the stage's frozen dataclass of `tuner.core.metrics`. `choice`: what the stages after it go by.
    """

    stage: str
    headline: str
    metrics: M
    findings: Sequence[Finding] = ()
    ran: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    choice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        weights = {finding.severity for finding in self.findings if not finding.accepted}
        return "fail" if "error" in weights else "warn" if "warn" in weights else "pass"

    @property
    def changes(self) -> list[Change]:
        """The changes of the recipe that are chosen for the next round."""
        return [
            Change(change["key"], change.get("from"), change.get("to"), change.get("reason", ""))
            for change in self.choice.get("changes", ())
        ]

    def to_json(self) -> dict[str, Any]:
        return finite(
            {
                "schema": SCHEMA,
                "stage": self.stage,
                "verdict": self.verdict,
                "headline": self.headline,
                "findings": [finding.to_json() for finding in self.findings],
                "checks": {"ran": list(self.ran), "skipped": [asdict(skipped) for skipped in self.skipped]},
                "choice": dict(self.choice),
                "metrics": to_json(self.metrics),
            }
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any], metrics: type[M]) -> StageResult[M]:
        """Return the result that `to_json` wrote; `metrics`: the stage's dataclass.

        Raises:
            ValueError: a key is missing or of another type; the message names it.
        """
        try:
            return cls(
                stage=value["stage"],
                headline=from_json(str, value["headline"]),
                metrics=from_json(metrics, value["metrics"]),
                findings=[Finding.from_json(finding) for finding in value["findings"]],
                ran=[str(name) for name in value["checks"]["ran"]],
                skipped=[from_json(Skipped, skipped) for skipped in value["checks"]["skipped"]],
                choice=_checked(value["choice"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def _checked(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage's choice; raise ValueError where it, or a change in it, is none."""
    known = choices.checked(choice)
    for change in choice.get("changes", ()):
        from_json(Change, {**change, "old": change.get("from"), "new": change.get("to")})
    return known
