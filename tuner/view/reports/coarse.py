"""Step 4: many configurations for a few epochs each; which region is good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.formatting import plural
from tuner.core.metrics import CoarseMetrics, SearchMetrics
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import get, items
from tuner.view.blocks import Blocks
from tuner.view.console import space_lines
from tuner.view.curves import Series
from tuner.view.reports.importance import what_mattered
from tuner.view.text import as_float, fixed, number, setting_text, short_keys, words_of

TITLE = "STEP 4  coarse search"
TOP_SHOWN = 5
RATE = "optimizer.lr"


def body(result: StageResult[CoarseMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show the counts, the best, the narrowed space, what mattered, and the val score against the rate."""
    metrics = result.metrics
    counts(metrics, page)
    top = items(result.choice, "top")
    trials = artifacts.trials(stage_dir, metrics.score_key)
    _top(top[:TOP_SHOWN], {row["trial"]: row["val_score"] for row in trials}, metrics.score_key, page)
    _own(trials, top, page)
    lines = space_lines(result.choice.get("space"), metrics.space)
    if lines:
        page.heading("Where to search next")
    for line in lines:
        page.text(line, 3, hang=2)
    what_mattered(result, trials, page)
    scatter(trials, words_of(metrics.score_key), page)


def counts(metrics: SearchMetrics, page: Blocks) -> None:
    """Say how many trials there were and how they ended."""
    total = metrics.trials
    if total is None:
        return
    ends = [
        f"{number(getattr(metrics, key))} {key}"
        for key in ("completed", "stopped", "diverged", "failed")
        if key == "completed" or getattr(metrics, key)
    ]
    length = metrics.epochs_full / total if metrics.epochs_full and total else None
    of = f" of {'up to ' if metrics.stopped else ''}{plural(round(length), 'epoch')}" if length else ""
    page.text(f"{plural(total, 'trial')}{of}: {', '.join(ends)}.{_saved(metrics)}", 3)
    page.gap()


def _saved(metrics: SearchMetrics) -> str:
    """Say what the rungs saved, where they stopped a trial."""
    run, full = metrics.epochs_run, metrics.epochs_full
    if run is None or full is None or run >= full:
        return ""
    rungs = " and ".join(number(rung) for rung in metrics.rungs)
    after = f" after {rungs} {'epoch' if rungs == '1' else 'epochs'}" if rungs else ""
    return f" Stopping the worse{after} saved {100 * (1 - run / full):.0f} %: {run:.0f} epochs instead of {full:.0f}."


def _top(top: list[Mapping[str, Any]], scores: Mapping[str, Any], score: str, page: Blocks) -> None:
    """List the best configurations with their scores, which trials.csv has of every task."""
    keys = list(dict.fromkeys(key for entry in top for key in get(entry, "params", default={})))
    names = short_keys(keys)
    rows = []
    for place, entry in enumerate(top, 1):
        params = get(entry, "params", default={})
        cells = [setting_text(params[key]) if key in params else "-" for key in keys]
        trial = str(get(entry, "trial", default="-"))
        measured = [fixed(scores.get(trial, get(entry, f"val_{score}"))), fixed(get(entry, "val_loss"))]
        rows.append([str(place), *measured, *cells, trial])
    headers = ["#", f"val {words_of(score)}", "val loss", *(names[key] for key in keys), "trial"]
    left = (0, *range(3, 3 + len(keys)), len(headers) - 1)
    drop = (len(headers) - 1, 2, *range(len(headers) - 2, 3, -1))
    page.table(headers, rows, left=left, optional=drop, styles=["bold", *[""] * len(rows)])


def _own(trials: list[dict[str, Any]], top: list[Mapping[str, Any]], page: Blocks) -> None:
    """Say how the recipe's own configuration did: trial 0."""
    own = next((trial for trial in trials if as_float(trial.get("number")) == 0), None)
    if own is None:
        return
    score = as_float(own.get("score"))
    known = [artifacts.rank(trial) for trial in trials if as_float(trial.get("score")) is not None]
    if score is None:
        text = str(own.get("status") or "no score")
    else:
        listed = next((place for place, entry in enumerate(top, 1) if entry.get("trial") == own["trial"]), None)
        text = f"#{listed or 1 + sum(value > artifacts.rank(own) for value in known)} of {len(trials)}"
    page.gap()
    page.text(f"The recipe's own configuration (trial {own['trial'] or '-'}): {text}.", 3)


def scatter(trials: list[dict[str, Any]], score: str, page: Blocks) -> None:
    """Draw the val score against the key that matters most to the eye: the rate, else the first that varies."""
    keys = [key for key in artifacts.searched(trials) if all(as_float(t.get(key)) is not None for t in trials)]
    if not keys:
        return
    key = RATE if RATE in keys else keys[0]
    x = [as_float(trial.get(key)) for trial in trials]
    y = [as_float(trial.get("val_score")) for trial in trials]
    scored = [value for value in y if value is not None]
    if not scored:
        return
    best = artifacts.best_of(trials) or 0
    gone = [value if score is None else None for value, score in zip(x, y, strict=True)]
    series = [Series("best trial", [x[best]], [y[best]], line=False)]
    series.append(Series("other trials", x, y, line=False))
    if any(value is not None for value in gone):
        series.append(Series("no score (diverged or failed)", gone, [min(scored)] * len(gone), "x", line=False))
    name = short_keys([key])[key]
    title = f"Best val {score} of each trial over {name}"
    page.plot(title, series, height=9, log_x=artifacts.is_log(key, x), x_label=name, y_label=f"best val {score}")
