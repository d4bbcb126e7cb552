"""The options that say what runs trials, and where."""

import sys

import pytest

from tests.conftest import refused
from tuner.core.errors import EnvironmentProblem
from tuner.execute.ray_engine import Cluster, RayExecutor
from tuner.execute.slots import Wish


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--engine", "rai"], ["--engine: unknown engine 'rai' - did you mean 'ray'?", "processes, serial, ray"]),
        (["--address", "10.0.0.1:6379"], ["--address: is of a Ray cluster", "--engine ray"]),
        (["--trials-per-device", "0"], ["--trials-per-device: must be 1 or more (got 0)"]),
        (["--device", "cuda:1,cpu"], ["--device: a list takes devices of one kind"]),
        (["--device", "gpu"], ["--device: unknown device 'gpu'"]),
    ],
)
def test_a_wrong_option_is_refused_with_a_way_out(recipe, command, options, messages):
    refused(command("check-init", "small.toml", *options), 2, *messages)


def test_serial_is_an_engine(finished, command):
    done = command("check-init", "small.toml", "--fresh", "--engine", "serial", "--json", serial=False)
    assert done.code == 0 and '"verdict": "pass"' in done.out, done.err


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match=r"--engine ray: ray is not installed\npip install 'tuner\[ray\]'"):
        _ = RayExecutor(Wish(), Cluster(), lambda progress: None).slots
