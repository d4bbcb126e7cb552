"""What is done with torch in the caller's own process at their request: no trial, so no worker and no deadline."""

from __future__ import annotations

from pathlib import Path

from tuner.core.trial import TrialEnv, TrialSpec
from tuner.train.handover.onnx_file import val_inputs, write_onnx
from tuner.train.handover.script import Facts, write_script
from tuner.train.handover.weights import write_weights
from tuner.train.handover.winner import Winner, load_winner
from tuner.train.looking.data import look_at_data
from tuner.train.looking.model import inspect_model, rates, throughput
from tuner.train.setup import make_setup

__all__ = [
    "Facts",
    "Winner",
    "inspect_model",
    "load_winner",
    "look_at_data",
    "rates",
    "script_of",
    "throughput",
    "val_inputs",
    "write_onnx",
    "write_weights",
]


def script_of(spec: TrialSpec, env: TrialEnv, facts: Facts, path: Path, user_dir: Path) -> list[Path]:
    """Write a trial's training as a script of plain PyTorch; return the files that belong to it."""
    return write_script(make_setup(spec, env), facts, path, user_dir)
