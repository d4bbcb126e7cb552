"""Certificates: a bug counts only if it is shown to do harm over several seeds, a look-alike only if it does none.

- *crash*: the recipe is refused, or its training raises or diverges, with most seeds.
- *val*: against its healthy twin, seed by seed, over fine's horizon and at the recipe's own rate, an accuracy is lower
  by more than 2 points and by more than 2 standard errors of the paired differences, or the log-likelihood worse by
  more than 0.1 nats and 2 standard errors. Accuracies (the accuracy, the mean recall, the accuracy on the twin's val
  split, the accuracy with examples shown one at a time) and the likelihood are measured by tuner's own evaluation,
  never by the case's. A run that fails counts as a guess, one that was killed proves nothing.
- *number*: what the program reports is wrong: its val accuracy is off by more than half a point, on average over the
  seeds, from what tuner's own evaluation finds for the same weights (on its val split, on the twin's, one example at a
  time), its loss by more than 5 %; or it is off from the accuracy of the healthy twin by more than 2 points and 2
  standard errors.
- *healthy*: trains with every seed, as its twin does, to an accuracy (or mean recall) of at least 90 %, or to no more
  than 5 points below that of its base, on average.

A bug's declared harm is looked for first; another one certifies it as well, and is what the certificate then says.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.zoo import pool
from tests.zoo.case import HERE, Case
from tests.zoo.catalog import load_cases, training
from tests.zoo.parts import cifar_folder
from tuner.core.store import write_json

STORED = HERE / "certificates.json"
TIMEOUT_SECONDS = 300.0
POINTS, NATS, OFF, OFF_LOSS, BELOW, ENOUGH = 0.02, 0.1, 0.005, 0.05, 0.05, 0.9
ACCURACIES = ("accuracy", "balanced_accuracy", "clean_accuracy", "alone")

Measured = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Task:
    """One training: a case or its twin, with a seed."""

    case: str
    twin: bool
    seed: int
    key: str
    out: Path

    @property
    def path(self) -> Path:
        return self.out / "certify" / f"{self.key[:16]}-s{self.seed}.json"

    def measured(self) -> dict[str, Any] | None:
        return json.loads(self.path.read_text()) if self.path.is_file() else None


def certify(
    cases: Sequence[Case], seeds: int, out: Path, workers: int, say: Callable[[str], None], again: bool = False
) -> dict[str, dict[str, Any]]:
    """Train each case and its healthy twin with several seeds, and return a certificate for each case."""
    cases = [case for case in cases if not case.base.startswith("cifar") or cifar_folder() is not None]
    tasks = {case.name: _tasks(case, seeds, out) for case in cases}
    every = {task.path: task for pair in tasks.values() for task in (*pair[0], *pair[1])}
    todo = [task for task in every.values() if again or task.measured() is None]
    say(f"{len(every)} trainings, {len(every) - len(todo)} of them done before")
    for number, ended in enumerate(pool.each(_carry_out, todo, workers, TIMEOUT_SECONDS), 1):
        if ended.how != "finished":  # no measurement: a number would make harm look stronger, or a twin weaker
            ended.task.path.unlink(missing_ok=True)
            say(f"{ended.task.case} (seed {ended.task.seed}): {ended.how}, {ended.detail}")
        if number % 20 == 0 or number == len(todo):
            say(f"{number}/{len(todo)} trainings")
    found = {}
    for case in cases:
        own, twins = ([task.measured() or {} for task in some] for some in tasks[case.name])
        found[case.name] = {**certificate(case, own, twins), "training": tasks[case.name][0][0].key[:16]}
    return found


def _tasks(case: Case, seeds: int, out: Path) -> tuple[list[Task], list[Task]]:
    own, twin = training(case), training(case, twin=True)
    return (
        [Task(case.name, False, seed, own, out) for seed in range(seeds)],
        [Task(case.name, True, seed, twin, out) for seed in range(seeds)],
    )


def _carry_out(task: Task) -> None:
    from tests.zoo.measure import measure

    folder = task.out / "certify" / f"{task.path.stem}-work"
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        write_json(task.path, measure(load_cases()[task.case], task.seed, folder, task.twin))
    except Exception:
        traceback.print_exc()
        raise


def certificate(case: Case, own: Measured, twin: Measured) -> dict[str, Any]:
    """Return what the measurements of a case and of its twin prove. `proved`: the harm, or healthy; None: nothing."""
    seeds = {"seeds": len(own)}
    if case.healthy:
        return _healthy(own, twin) | seeds
    kinds = sorted(("crash", "val", "number"), key=lambda kind: kind != case.harm)
    for kind in kinds:
        found = {"crash": _crash, "val": _worse, "number": _wrong_number}[kind](own, twin)
        if found is not None:
            return {"proved": kind, **found, **seeds}
    return {"proved": None, **_compared("accuracy", own, twin), **seeds}


def _crash(own: Measured, twin: Measured) -> dict[str, Any] | None:
    failed = [item["failed"] for item in own if "failed" in item]
    if 2 * len(failed) <= len(own):
        return None
    return {"metric": "failed", "case": len(failed) / len(own), "twin": 0.0, "why": failed[0][:120]}


def _worse(own: Measured, twin: Measured) -> dict[str, Any] | None:
    for metric in (*ACCURACIES, "nll"):
        sign, margin = (-1, NATS) if metric == "nll" else (1, POINTS)
        theirs = metric if metric in ("nll", "balanced_accuracy") else "accuracy"
        pairs = _pairs([item.get(theirs) for item in twin], [item.get(metric) for item in own])
        if len(pairs) == len(own) and clearly([sign * (a - b) for a, b in pairs], margin):
            return _compared(metric, own, twin, theirs)
    return None


def _wrong_number(own: Measured, twin: Measured) -> dict[str, Any] | None:
    said = [item.get("reported") for item in own]
    for metric in ("accuracy", "clean_accuracy", "alone"):
        pairs = _pairs(said, [item.get(metric) for item in own])
        if len(pairs) == len(own) and statistics.fmean(abs(a - b) for a, b in pairs) > OFF:
            return {"metric": f"reported, not {metric}", **_means([a for a, _ in pairs], [b for _, b in pairs])}
    pairs = _pairs([item.get("reported_loss") for item in own], [item.get("nll") for item in own])
    off = [abs(a - b) / max(abs(b), 1e-3) for a, b in pairs]
    if len(pairs) == len(own) and statistics.fmean(off) > OFF_LOSS and _is_plain_loss(own, twin):
        return {"metric": "reported loss", **_means([a for a, _ in pairs], [b for _, b in pairs])}
    pairs = _pairs(said, [item.get("accuracy") for item in twin])
    differences = [a - b for a, b in pairs]
    if len(pairs) == len(own) and (clearly(differences, POINTS) or clearly([-d for d in differences], POINTS)):
        return {"metric": "reported, not the twin's", **_means([a for a, _ in pairs], [b for _, b in pairs])}
    return None


def _is_plain_loss(own: Measured, twin: Measured) -> bool:
    """Return whether the twin reports the log-likelihood as its loss, so that the case should too."""
    pairs = _pairs([item.get("reported_loss") for item in twin], [item.get("nll") for item in twin])
    return bool(pairs) and all(abs(a - b) < 1e-3 * max(1.0, abs(b)) for a, b in pairs)


def _healthy(own: Measured, twin: Measured) -> dict[str, Any]:
    failed = next((item["failed"] for item in own if "failed" in item), None)
    if failed is not None:
        return {"proved": None, "metric": "failed", "why": failed}
    for metric in ("accuracy", "balanced_accuracy"):
        compared = _compared(metric, own, twin)
        if len(_pairs(*([item.get(metric) for item in some] for some in (own, twin)))) < len(own):
            return {"proved": None, **compared, "why": "a training, or its twin's, has no measurement"}
        if compared["case"] >= min(ENOUGH, compared["twin"] - BELOW):
            return {"proved": "healthy", **compared}
    return {"proved": None, **compared}


def clearly(differences: Sequence[float], margin: float) -> bool:
    """Return whether paired differences exceed `margin`, and zero by more than twice their standard error."""
    if len(differences) < 2:
        return False
    mean = statistics.fmean(differences)
    return mean > margin and mean > 2 * statistics.stdev(differences) / math.sqrt(len(differences))


def _pairs(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]


def _compared(metric: str, own: Measured, twin: Measured, theirs: str | None = None) -> dict[str, Any]:
    pairs = _pairs([item.get(metric) for item in own], [item.get(theirs or metric) for item in twin])
    return {"metric": metric, **_means([a for a, _ in pairs], [b for _, b in pairs])}


def _means(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float | None]:
    if not ours:
        return {"case": None, "twin": None}
    return {"case": round(statistics.fmean(ours), 4), "twin": round(statistics.fmean(theirs), 4)}


def stored() -> dict[str, dict[str, Any]]:
    return json.loads(STORED.read_text()) if STORED.is_file() else {}


def why_not_certified(case: Case) -> str | None:
    """Return why a case does not count, None where its certificate holds."""
    found = stored().get(case.name)
    if found is None:
        return "it has no certificate"
    if found["proved"] is None:
        return f"not proved: {found['metric']} {found.get('case')} against {found.get('twin')} of its twin"
    if found.get("training") != training(case)[:16]:
        return "it was changed since it was certified"
    return None


def write_certificates(found: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Add certificates to those that are stored, drop those of cases that are gone, and list what is not proved."""
    known = load_cases()
    merged = {name: value for name, value in {**stored(), **found}.items() if name in known}
    STORED.write_text(json.dumps(dict(sorted(merged.items())), indent=1) + "\n")
    for name, value in sorted(found.items()):
        if value["proved"] is None:
            say(f"{name}: {value['metric']} {value.get('case')}, twin {value.get('twin')} {value.get('why', '')}")
    say(f"{sum(value['proved'] is not None for value in found.values())} of {len(found)} certified")
