"""(e) tuner as (d), with every trial trained by itself: `--stack 1`."""

from __future__ import annotations

from functools import partial

from benchmarks import ours
from benchmarks.task import serve

if __name__ == "__main__":
    serve(partial(ours.side, stack=1))
