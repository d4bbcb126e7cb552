"""What `[after]` makes of a trained model's answers: averages over views and models, stacking, another order."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from tuner.view.blocks import Blocks
from tuner.view.text import fixed


def averaged(after: Mapping[str, Any], score: str, split: str, page: Blocks) -> None:
    """Show the score of each way beside that of one forward pass of one model."""
    single = after.get("single")
    members = after.get("members") or []
    rows = [
        [words, fixed(after[key], 4), f"{after[key] - single:+.4f}" if single is not None else "-"]
        for key, words in (
            ("tta", "mean over views of each example"),
            ("ensemble", f"mean over {len(members)} models (alone {fixed(statistics.fmean(members))} on average)")
            if members
            else ("ensemble", ""),
            ("stacked", "logistic regression of their answers"),
            ("reranked", "re-ranked by reciprocal neighbours"),
        )
        if after.get(key) is not None
    ]
    if rows:
        page.table([f"after training, on {split}", score, "gained"], rows, left=(0,))
