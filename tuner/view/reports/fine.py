"""Step 5: the finalists with several seeds each, and whether the winner wins by more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.core.formatting import plural
from tuner.core.metrics import FinalistMetrics, FineMetrics
from tuner.core.result import StageResult
from tuner.core.statistics import is_indistinguishable
from tuner.view import artifacts
from tuner.view.blocks import Blocks
from tuner.view.curves import Mark, Series
from tuner.view.reports.averaged import averaged
from tuner.view.reports.coarse import counts
from tuner.view.reports.importance import what_mattered
from tuner.view.text import fixed, interval, is_number, number, params_text, plus_minus, words_of

TITLE = "STEP 5  fine search"


def body(result: StageResult[FineMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show the finalists, what separates them, and the winner's train and val curves."""
    metrics, choice = result.metrics, result.choice
    score = words_of(metrics.score_key)
    counts(metrics, page)
    winner = choice.get("trial", metrics.trial)
    _finalists(metrics.finalists, winner, score, page)
    page.gap()
    seeds = metrics.seeds
    runs = f" of {number(seeds)} seeds" if is_number(seeds) else ""
    if metrics.mean is None:
        return
    text = f"Winner (*): mean val {score}{runs} {plus_minus(metrics.mean, metrics.std)}"
    single = metrics.best_val_accuracy if metrics.score is None else metrics.score
    page.text(f"{text}; best single {fixed(single)}.", 3, hang=2)
    for sentence in _expected(metrics):
        page.text(sentence, 3, hang=2)
    if against := _against(metrics):
        page.text(against, 3, hang=2)
    if reason := metrics.preferred:
        page.text(f"Taken because {reason}.", 3, hang=2)
    averaged(metrics.after, score, "val", page)
    learning_curve(artifacts.curve(stage_dir, winner), page, metrics.score_key)
    what_mattered(result, artifacts.trials(stage_dir, metrics.score_key), page)


def _expected(metrics: FineMetrics) -> list[str]:
    """Say what to expect on new data, and what that and its interval are made of."""
    found = metrics.expected
    if found is None or found.value is None or found.basis is None or metrics.interval is None:
        return []
    runs = found.basis_runs
    new = runs is not None and runs < metrics.seeds
    of = f"of the {plural(runs or 0, 'run')} with {'a new seed' if runs == 1 else 'new seeds'}" if new else "on val"
    off = [(found.selection, "choosing among configurations"), (found.epochs, "choosing the epoch")]
    less = [f"less {fixed(part, 4)} for {why}" for part, why in off if part is not None and part > 0]
    made = ", ".join([f"{fixed(found.basis, 4)} {of}", *less])
    halves = [
        (found.examples_half, "the val examples"),
        (found.seeds_half, "the seed of the weights beyond that"),
    ]
    from_what = [(half, what) for half, what in halves if half is not None and half > 0]
    parts = " and ".join(f"+- {fixed(half)} from {what}" for half, what in from_what)
    if found.seeds_half == 0:
        parts += "; what the seeds differ by is within what those examples give"
    expect = f"Expected {fixed(found.value)} ({interval(metrics.interval)}): {made}."
    squares = ", added in squares" if len(from_what) == len(halves) else ""
    return [expect, f"The interval: {parts}{squares}."] if parts else [expect]


def _against(metrics: FineMetrics) -> str:
    """Say what separates the winner from the second, and whether that is more than noise, as the headline does."""
    p, gap, error = metrics.runner_up_p, metrics.runner_up_gap, metrics.runner_up_error
    said = [f"p = {fixed(p)}"] if p is not None else []
    said += [f"{fixed(gap, 4)} +- {fixed(error, 4)} over the seeds"] if gap is not None and error is not None else []
    if not said:
        return ""
    sure = "cannot be distinguished from #2" if is_indistinguishable(p, gap, error) else "more than noise"
    return f"Against the second: {', '.join(said)}; {sure}."


def _finalists(finalists: Sequence[FinalistMetrics], winner: str | None, score: str, page: Blocks) -> None:
    rows = []
    for entry in finalists:
        mark = " *" if artifacts.has_won(entry, winner) else ""
        rows.append(
            [
                str(entry.trial) + mark,
                plus_minus(entry.mean, entry.std),
                str(len(entry.scores) or "-"),
                params_text(entry.params),
            ]
        )
    page.table(["finalist", f"val {score}", "seeds", "what it sets"], rows, left=(0, 1, 3))


def learning_curve(
    rows: list[dict[str, Any]], page: Blocks, metric: str, best_epoch: int | None = None, of: str = "the winner"
) -> None:
    """Draw a trial's metric by epoch on val and on the train subset (else the running train objective)."""
    x_val, val = artifacts.column(rows, "val", "epoch", metric)
    split = "train_eval" if any(row.get("split") == "train_eval" for row in rows) else "train"
    x_train, train = artifacts.column(rows, split, "epoch", metric)
    name = "train subset" if split == "train_eval" else "train, running"
    series = [Series("val", x_val, val), Series(name, x_train, train)]
    places = [Mark(best_epoch, f"best epoch, {number(best_epoch)}")] if is_number(best_epoch) else []
    title = f"{of.capitalize()}'s {words_of(metric)} on val and on the {name}"
    page.plot(title, series, height=10, x_label="epoch", y_label=words_of(metric), places=places)
