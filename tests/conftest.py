"""Shared by the whole suite: a command line run in this process, and one finished run that tests copy."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import fcntl
import io
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

RECIPE = """\
name = "small"
seed = 0

[data]
source = "digits"

[model]
name = "mlp"
width = 32
depth = 1

[optimizer]
name = "sgd"
lr = 0.1
momentum = 0.9

[train]
batch_size = 64

[stages.lr-sweep]
seeds = 2

[stages.coarse]
trials = 2
epochs = 2

[stages.fine]
trials = 2
epochs = 3
finalists = 1
seeds = 2
"""


LONG = (
    "tests/train/test_handover",
    "tests/cli/",
    "tests/workflow/",
    "tests/execute/",
    "tests/api/",
    "tests/test_docs.py",
)


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that the processes that share the files end together."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


class Done(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


def tuner(*arguments, cwd="."):
    """Run `tuner ARGUMENTS` in this process, in the folder `cwd`, trials included (`--workers 0`)."""
    from tuner.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    before, argv, hook = os.getcwd(), sys.argv, sys.unraisablehook
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.chdir(cwd)
    sys.argv = ["tuner", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
    finally:
        os.chdir(before)
        sys.argv, sys.unraisablehook = argv, hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Done(code, out.getvalue(), err.getvalue())


def refused(done, code, *messages):
    """Assert one error with this code and these texts, nothing on stdout, no traceback.

    A slow machine's first line is the progress of checking the recipe.
    """
    shown = re.sub(r"\A(checking the recipe: [^\n]*\n)+", "", done.err)
    assert done.code == code, done.out + done.err
    for message in messages:
        assert message in done.err, done.err
    assert "Traceback" not in done.err and "bug of tuner" not in done.err
    assert done.out == ""
    assert shown.startswith("error: ") and "\nerror: " not in shown and "\nhint: " in shown


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function that runs a stage command here, serially; status and the like take no options, so they get none."""
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))

    def run(*arguments, serial=True):
        options = (
            ["--workers", "0"]
            if serial and arguments[0] not in ("status", "report", "export", "explain", "new", "cache", "compare")
            else []
        )
        return tuner(*arguments, *options, cwd=tmp_path)

    return run


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def made_once(tmp_path_factory, name, make):
    """Return a folder of the whole session, which the first of its test processes makes: make(folder)."""
    alone = os.environ.get("PYTEST_XDIST_WORKER") is None
    base = tmp_path_factory.getbasetemp()
    root = base if alone else base.parent
    folder, done = root / name, root / f"{name}.done"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A folder with small.toml and a finished run of it, test included. Never written to: tests copy it."""
    return made_once(tmp_path_factory, "finished", run_to_the_end)


def run_to_the_end(folder):
    (folder / "small.toml").write_text(RECIPE)
    for arguments in (("run", "small.toml"), ("test", "small.toml")):
        done = tuner(*arguments, "--workers", "0", cwd=folder)
        assert done.code == 0, done.out + done.err


@pytest.fixture
def finished(finished_run, tmp_path):
    """A copy of the finished run in this test's own folder."""
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    return Path(tmp_path)
