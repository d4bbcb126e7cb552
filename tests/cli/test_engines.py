"""The options that say what runs trials, and where."""

import sys

import pytest

from tests.conftest import refused
from tuner.core.errors import EnvironmentProblem
from tuner.core.preflight import Preflight
from tuner.execute.folder import sign_of_life
from tuner.execute.ray_engine import Cluster, RayExecutor
from tuner.execute.slots import Wish


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--engine", "rai"], ["--engine: unknown engine 'rai' - did you mean 'ray'?", "processes, serial, ray"]),
        (["--address", "10.0.0.1:6379"], ["--address: is of a Ray cluster", "--engine ray"]),
        (["--stack", "0"], ["--stack: must be 1 or more (got 0)"]),
        (["--stack", "4", "--workers", "0"], ["--stack: trials are stacked by --engine processes alone"]),
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


@pytest.fixture
def checked_on(monkeypatch):
    """The kinds of device that a recipe was checked on, by what stands for the check: no process is started."""
    kinds = []

    def preflight(self, recipe, env):
        kinds.append(env.device)
        return Preflight(env.device)

    monkeypatch.setattr("tuner.execute.folder_visitor.ProcessExecutor.preflight", preflight)
    return kinds


def test_a_dry_run_with_a_shared_folder_waits_for_no_worker_and_leaves_nothing(recipe, command, checked_on):
    arguments = ("--dry-run", "--engine", "folder", "--address", "share", "--device", "cuda")
    done = command("check-init", "small.toml", *arguments, serial=False)
    assert done.code == 0 and "1 trial to run first" in done.out
    assert "share: no worker there now: the command would wait for one (tuner worker share)" in done.err
    assert checked_on == ["cpu"] and [path.name for path in recipe.parent.iterdir()] == ["small.toml"]


def test_a_dry_run_with_a_shared_folder_says_who_is_there(recipe, command, checked_on):
    workers = recipe.parent / "share/workers"
    workers.mkdir(parents=True)
    for name, slots in (("a", 1), ("b", 3)):
        (workers / f"{name}.json").write_bytes(sign_of_life(1, slots=slots))
    done = command(
        "coarse", "small.toml", "--dry-run", "--force", "--engine", "folder", "--address", "share", serial=False
    )
    assert done.code == 0, done.err
    assert "share: 2 workers there, 4 trials at once; the recipe was checked on this machine" in done.err
