"""The plan of a search: what will be run, how long it takes and what it leaves; afterwards, what it took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.cached import size_words
from tuner.core.formatting import plural
from tuner.view.artifacts import get, items, read_json
from tuner.view.blocks import Blocks
from tuner.view.page import Page
from tuner.view.text import as_float, duration, number


def line(stage: str, plan: Mapping[str, Any]) -> str:
    """Return what a search will take in one line, said before it starts."""
    epochs = plural(get(plan, "epochs_in_all", default=0), "epoch")
    time = f", {_time(plan)}" if get(plan, "expected_seconds") is not None else ""
    budget = f" (budget {plan['budget']})" if get(plan, "budget") else ""
    return f"{stage}: {_configurations(plan)}, {epochs} in all{time}{budget}"


def show(plan: Mapping[str, Any], page: Page) -> None:
    """Add the plan of a search to a page."""
    page.text(f"plan    {_configurations(plan)}; {plural(get(plan, 'epochs_in_all', default=0), 'epoch')} in all", 3, 8)
    page.text(f"        {_rungs(plan)}", 3, 8)
    page.text(f"time    {_time(plan)}", 3, 8)
    if (size := as_float(get(plan, "disk_bytes"))) is not None:
        page.text(f"disk    at most {size_words(round(size))} while it runs", 3, 8)
    if get(plan, "budget"):
        page.text(f"budget  {plan['budget']}; {_larger(plan)}", 3, 8)


def outcome(stage_dir: Path, page: Blocks) -> None:
    """Say after a search what its budget was planned to, what it took, and what a larger one would buy."""
    plan, manifest = (read_json(stage_dir / name) for name in ("plan.json", "manifest.json"))
    if not get(plan, "budget"):
        return
    took = as_float(get(manifest, "wall_seconds"))
    whole = took is not None and get(manifest, "reused_trials") == 0 and get(plan, "expected_seconds") is not None
    attempts = get(manifest, "attempts", default=1)
    together = f" in {plural(attempts, 'attempt')}" if attempts != 1 else ""
    compared = f" of {_time(plan)}; the trials took {duration(took)}{together}" if whole else ""
    page.gap()
    page.text(f"Budget {plan['budget']}: {_configurations(plan)}{compared}. {_larger(plan).capitalize()}.", 1, 2)


def _configurations(plan: Mapping[str, Any]) -> str:
    count, epochs = get(plan, "trials", default=0), get(plan, "epochs", default=0)
    length = f"up to {plural(epochs, 'epoch')} each" if len(items(plan, "rungs")) > 1 else f"{plural(epochs, 'epoch')}"
    repeats = get(plan, "repeats", default=0)
    return f"{plural(count, 'configuration')}, {length}" + (f", and {plural(repeats, 'repeat')}" if repeats else "")


def _rungs(plan: Mapping[str, Any]) -> str:
    """Say how many trials are expected to train how far: `16 train 1 epoch, 8 go on to 2, 4 to 3`."""
    first, *others = items(plan, "rungs")
    parts = [f"{number(first['trials'])} train {plural(first['until'], 'epoch')}"]
    parts += [
        f"{number(rung['trials'])} {'go on ' if not i else ''}to {number(rung['until'])}"
        for i, rung in enumerate(others)
    ]
    repeats = get(plan, "repeats", default=0)
    text = ", ".join(parts)
    return text + (f"; finalists {plural(repeats, 'time')} more with new seeds" if repeats else "")


def _time(plan: Mapping[str, Any]) -> str:
    seconds = as_float(get(plan, "expected_seconds"))
    if seconds is None:
        return "not known before lr-sweep has measured its steps"
    source = get(plan, "costs", "source")
    measured = f", by the times of {source}" if source else ""
    return f"about {duration(round(seconds))} with {plural(get(plan, 'workers', default=1), 'worker')}{measured}"


def _larger(plan: Mapping[str, Any]) -> str:
    more = get(plan, "larger", default={})
    twice = f"twice the budget ({get(more, 'budget', default='-')})"
    same = [get(more, key) == get(plan, key) for key in ("trials", "epochs")]
    if all(same):
        return f"{twice} would buy no more"
    count, epochs = get(more, "trials", default=0), get(more, "epochs", default=0)
    return f"{twice} would buy {plural(count, 'configuration')} of {plural(epochs, 'epoch')}"
