"""Are two runs equal, as the design defines it? trials.csv, curves and result.json but for what a clock or a scheduler
put into them, and the tensors of the checkpoints."""

import csv
import json
from pathlib import Path

import torch

FREE = ("wall_seconds", "peak_memory_bytes", "worker", "started_at")


def stripped(value):
    """The value without the keys that may differ."""
    if isinstance(value, dict):
        return {key: stripped(item) for key, item in value.items() if key not in FREE}
    return [stripped(item) for item in value] if isinstance(value, list) else value


def _csv(path):
    with open(path, newline="") as file:
        return [stripped(row) for row in csv.DictReader(file)]


def _tensors(value, name=""):
    if isinstance(value, dict):
        return {key: item for part in value for key, item in _tensors(value[part], f"{name}/{part}").items()}
    return {name: value}


def _content(path):
    if path.suffix == ".csv":
        return _csv(path)
    return stripped(json.loads(path.read_text()))


def compared(run):
    """{path relative to the run: the file} of everything that equal runs have alike."""
    run = Path(run)
    patterns = ("*/trials.csv", "*/curves/*.csv", "*/result.json", "*/checkpoints/*", "winner.json")
    return {str(path.relative_to(run)): path for pattern in patterns for path in sorted(run.glob(pattern))}


def differences(one, other):
    """List what differs between two run folders; empty when they are equal."""
    files, others = compared(one), compared(other)
    found = [f"only in one of them: {name}" for name in sorted(set(files) ^ set(others))]
    for name in sorted(set(files) & set(others)):
        if not name.endswith(".pt"):
            if _content(files[name]) != _content(others[name]):
                found.append(f"{name} differs")
            continue
        pair = [_tensors(torch.load(path, weights_only=True)) for path in (files[name], others[name])]
        if pair[0].keys() != pair[1].keys():
            found.append(f"{name}: other entries")
            continue
        for key, value in pair[0].items():
            same = torch.equal(value, pair[1][key]) if isinstance(value, torch.Tensor) else value == pair[1][key]
            if not same:
                found.append(f"{name}: {key} differs")
    return found


def outcome(results, folder):
    """{trial and rung: its curve, score and weights} of trials that went well, with their checkpoints in a folder."""
    found = {}
    for result in results:
        assert result.status in ("completed", "stopped"), result.error
        weights = torch.load(folder / "checkpoints" / f"{result.id}.pt", weights_only=True)["model"]
        found[result.id, result.until_epoch] = (result.curve, result.score, weights)
    return found


def assert_equal_outcomes(ours, theirs):
    """Compare what two engines made of the same trials, bit for bit."""
    assert ours.keys() == theirs.keys()
    for key, (curve, score, weights) in ours.items():
        assert (curve, score) == theirs[key][:2]
        assert all(torch.equal(value, theirs[key][2][name]) for name, value in weights.items())
