"""Options: those that would be ignored beside others are refused, and the next command repeats what it needs."""

from pathlib import Path

import pytest

from tuner.core.errors import UsageError
from tuner.workflow.options import Options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": -1}, r"^--workers: must be 0 or more \(got -1\)\n0 runs"),
        ({"deadline": 0.0}, r"^--deadline: must be more than 0 seconds \(got 0\)"),
        ({"deadline": float("nan")}, r"^--deadline: must be more than 0 seconds \(got nan\)"),
        ({"engine": "serial", "workers": 4}, r"^--workers 4: --engine serial runs one trial at a time"),
        ({"engine": "ray", "workers": 0}, r"^--workers 0: runs trials in this process, --engine ray elsewhere"),
        ({"engine": "folder", "address": "share", "workers": 0}, r"^--workers 0: .* --engine folder elsewhere"),
        ({"workers": 0, "deadline": 60.0}, r"^--deadline: trials run .* in this process .*, where nothing ends one"),
        ({"engine": "serial", "trials_per_device": 2}, r"^--trials-per-device: trials run one after the other"),
        (
            {"flags": {"coarse": {"budget": "5m", "trials": 3}}},
            r"^--budget: plans how many .*, and --trials says how many",
        ),
        ({"device": "cpu", "trials_per_device": 2}, r"^--trials-per-device: is of GPUs, and --device cpu takes none"),
    ],
)
def test_options_that_contradict_each_other_are_refused_with_what_to_do(given, message):
    with pytest.raises(UsageError, match=message) as caught:
        Options(**given).checked()
    assert caught.value.hint


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"engine": "serial", "workers": 0},
        {"engine": "serial", "workers": 1},
        {"engine": "ray", "address": "10.0.0.1:6379", "workers": 3, "deadline": 5.0},
        {"device": "cuda:0,cuda:1", "trials_per_device": 2, "stack": 4},
    ],
)
def test_options_that_go_together_are_taken(given):
    assert Options(**given).checked() == Options(**given)


def test_the_next_command_repeats_what_it_would_be_refused_without():
    options = Options(Path("a b"), device="cpu", seed=3, assignments=["optimizer.lr=0.1", "name=x"], workers=2)
    overrides = ["--set", "optimizer.lr=0.1", "--set", "name=x"]
    assert options.repeated == [*overrides, "--run-dir", "a b", "--seed", "3", "--device", "cpu"]
    assert options.overrides == {"optimizer.lr": 0.1, "name": "x", "seed": 3}
