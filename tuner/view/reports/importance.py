"""What mattered, in a report: a bar per searched key, and the trials over the most and the least important of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import Row, is_log
from tuner.view.blocks import Blocks, Cell, Share
from tuner.view.curves import Series
from tuner.view.importance import entries, map_keys, sentence
from tuner.view.text import as_float, fixed, interval, short_keys, words_of


def what_mattered(result: StageResult[Any], trials: Sequence[Row], page: Blocks) -> None:
    """Show each key's share of the scores' variance with its interval, and the map of two keys where one is told."""
    found = entries(result)
    if not found:
        return
    page.heading(f"What mattered ({sentence(result)})")
    names = short_keys([entry.key for entry in found])
    told = [entry for entry in found if entry.enough and entry.importance is not None]
    rows: list[list[Cell]] = []
    for entry in told:
        between = interval([entry.low, entry.high], 2)
        share = Share(entry.importance or 0.0)
        rows.append([names[entry.key], fixed(entry.importance, 2), between, share])
    page.table(["key", "share", "95 % interval", "of the variance of the scores"], rows, left=(0, 3))
    rest = [names[entry.key] for entry in found if entry not in told]
    if rest:
        page.text(f"Not distinguishable from chance with this many trials: {', '.join(rest)}.", 3, hang=2)
    keys = [entry.key for entry in found]
    if told and len(keys) > 1:
        _map(*map_keys(keys, trials), trials, words_of(result.metrics.score_key), page)


def _map(across: str, up: str, trials: Sequence[Row], score: str, page: Blocks) -> None:
    """Draw the trials over two keys, in thirds of the val score; nothing where a key is no number."""
    scored = sorted((row for row in trials if row.get("val_score") is not None), key=artifacts.rank, reverse=True)
    points = [tuple(as_float(row.get(key)) for key in (across, up, "val_score")) for row in scored]
    known = [(x, y, score) for x, y, score in points if x is not None and y is not None and score is not None]
    if len(known) < max(3, len(scored)):
        return
    best = artifacts.best_of(trials)
    ends = (0, -(-len(known) // 3), -(-2 * len(known) // 3), len(known))
    series = []
    if best is not None:
        series.append(
            Series("best", [as_float(trials[best].get(across))], [as_float(trials[best].get(up))], line=False)
        )
    for name, start, end in zip(("best third", "middle", "worst third"), ends, ends[1:], strict=False):
        part = known[start:end]
        series.append(Series(name, [x for x, _, _ in part], [y for _, y, _ in part], line=False))
    names = short_keys([across, up])
    log_x, log_y = (is_log(key, [point[i] for point in known]) for i, key in enumerate((across, up)))
    title = f"Trials over {names[across]} and {names[up]}, in thirds of val {score}"
    page.plot(title, series, height=8, x_label=names[across], y_label=names[up], log_x=log_x, log_y=log_y)
