"""A comparison of two runs as blocks: the recipes' differences, the verdicts, the winners, and their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.view import artifacts
from tuner.view.artifacts import get
from tuner.view.blocks import Block, Blocks
from tuner.view.curves import Series
from tuner.view.text import fixed, number, params_text, plus_minus, setting_text, words_of


def blocks_of(comparison: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks of a comparison (its JSON)."""
    a, b = comparison["a"], comparison["b"]
    score = str(comparison["monitor"]).removeprefix("val_")
    blocks = Blocks()
    blocks.text(comparison["headline"])
    blocks.heading("The winners")
    blocks.table(
        ["", a["run"], b["run"]],
        [[name.format(words_of(score)), *(cell(side) for side in (a, b))] for name, cell in ROWS],
        left=(0, 1, 2),
    )
    blocks.heading("What differs between the recipes")
    rows = [[key, _value(pair[0]), _value(pair[1])] for key, pair in comparison["changed"].items()]
    blocks.table(["key", a["run"], b["run"]], rows, left=(0, 1, 2))
    if not rows:
        blocks.text("Nothing.", 3)
    blocks.heading("The verdicts")
    labels = list(dict.fromkeys([*a["verdicts"], *b["verdicts"]]))
    verdicts = [[label, *(str(get(side, "verdicts", label, default="-")) for side in (a, b))] for label in labels]
    blocks.table(["step", a["run"], b["run"]], verdicts, left=(0, 1, 2))
    for metric in dict.fromkeys(("loss", score)):
        series = []
        for side in (a, b):
            for split, word in (("val", "val"), ("train_eval", "train subset")):
                series.append(
                    Series(f"{side['run']}, {word}", *artifacts.column(side["curve"], split, "epoch", metric))
                )
        words = words_of(metric)
        blocks.plot(f"The winners' {words}, by epoch", series, x_label="epoch", y_label=words)
    return blocks.items


ROWS = (
    ("trial", lambda side: str(side["trial"] or "none")),
    ("what it sets", lambda side: params_text(side["params"]) if side["trial"] else "-"),
    ("{} on val", lambda side: fixed(side["score"], 4)),
    ("over its seeds", lambda side: f"{plus_minus(side['mean'], side['std'])} ({number(side['seeds'])})"),
    ("{} on test", lambda side: fixed(side["test_score"], 4)),
)


def _value(value: Any) -> str:
    return str(value) if isinstance(value, str) else setting_text(value)
