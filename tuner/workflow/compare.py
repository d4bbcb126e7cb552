"""Two runs beside each other: what differs between their recipes, their verdicts, and whether one winner is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.result import Record
from tuner.core.statistics import SIGNIFICANT, mcnemar_exact
from tuner.core.store import read_json, read_recipe
from tuner.search.finalists import right_of
from tuner.workflow.run_folder import Run, folder_of
from tuner.workflow.winner import find_winner

ABSENT = "-"


@dataclass(frozen=True)
class Side:
    """One of the two runs. `verdicts`: {step: verdict}. The rest is None where there is no winner, or no test yet."""

    run: str
    verdicts: Mapping[str, str]
    trial: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    score: float | None = None
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    test_accuracy: float | None = None
    test_score: float | None = None
    curve: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Two runs compared. `changed`: the recipe's keys that differ, {key: [in a, in b]}.

    `p`: McNemar's exact test of the two winners on the same val examples, None where they have none in common (`why`).
    `only_a`, `only_b`: the examples that one winner alone gets right.
    """

    a: Side
    b: Side
    changed: Mapping[str, tuple[Any, Any]]
    monitor: str
    p: float | None = None
    only_a: int | None = None
    only_b: int | None = None
    why: str = ""

    @property
    def headline(self) -> str:
        """Say in one sentence which winner is better, and whether that is more than noise."""
        a, b = self.a, self.b
        if a.score is None or b.score is None:
            return f"{(a if a.score is None else b).run} has no winner yet, so there is nothing to compare but recipes."
        shown = f"{self.monitor.replace('_', ' ')} {a.score:.4f} against {b.score:.4f}"
        if self.p is None:
            return f"{shown}; no paired test: {self.why}."
        counts = f"{self.only_a} val examples only {a.run} gets right, {self.only_b} only {b.run}; p = {self.p:.2g}"
        if self.p >= SIGNIFICANT or self.only_a == self.only_b:
            return f"{shown}: no difference beyond noise ({counts})."
        better = a if (self.only_a or 0) > (self.only_b or 0) else b
        return f"{shown}: {better.run} is better ({counts})."

    def __str__(self) -> str:
        return self.headline

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON, the headline included."""
        return {"schema": 1, "headline": self.headline, **asdict(self)}


def compare(a: str | Path, b: str | Path) -> Comparison:
    """Compare the runs in two folders.

    Raises:
        InputError: a folder holds no run.
    """
    runs = [Run(folder_of(path)) for path in (a, b)]
    names = [run.path.name for run in runs]
    names = names if names[0] != names[1] else [str(run.path) for run in runs]
    recipes = [_recipe(run) for run in runs]
    flat = [_flat(recipe) for recipe in recipes]
    keys = [key for key in dict.fromkeys([*flat[0], *flat[1]]) if key != "name"]
    changed = {key: (flat[0].get(key, ABSENT), flat[1].get(key, ABSENT)) for key in keys}
    changed = {key: pair for key, pair in changed.items() if pair[0] != pair[1]}
    records = [_winner(run) for run in runs]
    monitor = _monitor(runs[0], recipes[0])
    sides = [_side(run, name, record, monitor) for run, name, record in zip(runs, names, records, strict=True)]
    return Comparison(sides[0], sides[1], changed, monitor, **_paired(records[0], records[1]))


def _recipe(run: Run) -> dict[str, Any]:
    return read_recipe(run.path / run.stages[-1] / "recipe.json")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a recipe's values by dotted key."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value} if prefix and value not in ({}, None) else {}
    return {
        key: item for name, part in value.items() for key, item in _flat(part, f"{prefix}.{name}".lstrip(".")).items()
    }


def _monitor(run: Run, recipe: Mapping[str, Any]) -> str:
    """Return what a run maximises: as its searches say, which know the task, else as the recipe does."""
    paths = [run.path / label / "result.json" for label in run.stages]
    said = [read_json(path).get("metrics", {}).get("monitor") for path in paths if path.exists()]
    return str(next(filter(None, said), recipe.get("train", {}).get("monitor", "val_accuracy")))


def _winner(run: Run) -> Record | None:
    try:
        return find_winner(run.path).record
    except InputError:
        return None


def _side(run: Run, name: str, record: Record | None, monitor: str) -> Side:
    results = {label: read_json(path) for label in run.stages if (path := run.path / label / "result.json").exists()}
    verdicts = {label: result["verdict"] for label, result in results.items()}
    if record is None:
        return Side(name, verdicts)
    winner = read_json(run.path / "winner.json")
    metrics = results.get(str(winner["checkpoint"]).partition("/")[0], {}).get("metrics", {})
    tested = results.get(stages.NAMES[-1], {}).get("metrics", {})
    numbers = {name: metrics.get(name) for name in ("mean", "std")}
    spec, result = record.item.spec, record.result
    monitored = (record.best_row("val") or {}).get(monitor.removeprefix("val_"))
    return Side(
        name,
        verdicts,
        result.id,
        dict(spec.overrides),
        monitored,
        **numbers,
        seeds=int(metrics.get("seeds") or 0),
        test_accuracy=tested.get("accuracy"),
        test_score=tested.get("accuracy") if tested.get("score") is None else tested["score"],
        curve=[dict(row) for row in result.curve],
    )


def _paired(a: Record | None, b: Record | None) -> dict[str, Any]:
    """Test the winners on the val examples that both have answered."""
    if a is None or b is None:
        return {"why": "one of the runs has no winner yet"}
    data = [record.item.spec.tables["data"] for record in (a, b)]
    same = ("source", "root", "path", "split_seed", "val_fraction", "test_fraction", "args")
    differs = [key for key in same if data[0].get(key) != data[1].get(key)]
    if differs or a.item.spec.data_hash != b.item.spec.data_hash:
        which = ", ".join(f"data.{key}" for key in differs) or "the data files"
        return {"why": f"their val examples are not the same ({which} differ)"}
    ours, theirs = right_of(a), right_of(b)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return {"why": "not both runs keep an answer per val example"}
    only_a, only_b = int((ours > theirs).sum()), int((ours < theirs).sum())
    return {"p": mcnemar_exact(only_a, only_b), "only_a": only_a, "only_b": only_b}
