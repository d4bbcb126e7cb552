"""macOS and Windows: everything is imported, and trials run, without what only Linux has."""

import subprocess
import sys

import pytest

LIBRARIES = """
import os, signal, sys, multiprocessing, pkgutil, importlib, faulthandler
import numpy, pandas, torch, torchvision  # as they are on that system: what is tested is ours
"""
WINDOWS = """
for name in ("sched_getaffinity", "sysconf", "killpg", "setpgrp", "register_at_fork", "fork", "getuid"):
    delattr(os, name)
for name in ("SIGKILL", "SIGUSR1", "SIGHUP", "SIGALRM"):
    delattr(signal, name)
del faulthandler.register
for name in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None
multiprocessing.get_all_start_methods = lambda: ["spawn"]
import multiprocessing.popen_fork
multiprocessing.popen_fork.Popen.kill = multiprocessing.popen_fork.Popen.terminate  # as its popen_spawn_win32 has it
"""
MACOS = """
del os.sched_getaffinity
sys.platform = "darwin"
"""
IMPORTS = """
import tuner
found = list(pkgutil.walk_packages(tuner.__path__, "tuner."))
assert len(found) > 150, len(found)
for module in found:
    if module.name not in ("tuner.__main__", "tuner.execute.preload"):
        importlib.import_module(module.name)
"""
RUN = """
from pathlib import Path
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish
from tuner.execute.start import method
from tuner.recipe.model import Recipe
if __name__ == "__main__":
    assert method() == "spawn"
    raw = {"name": "t", "data": {"source": "digits"}, "model": {"name": "mlp", "width": 8, "depth": 1}}
    item = WorkItem(TrialSpec(Recipe.model_validate(raw).tables(), {}, seed=0, horizon_epochs=1), 0)
    executor = ProcessExecutor(Wish(workers=1), lambda progress: None)
    (result,) = executor.run([item], TrialEnv(Path(".")))
    print(result.status, result.error)
"""


def run(code, folder):
    path = folder / "program.py"
    path.write_text(code)
    return subprocess.run([sys.executable, path], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("system", [WINDOWS, MACOS], ids=["Windows", "macOS"])
def test_every_module_is_imported_without_what_a_system_lacks(tmp_path, system):
    done = run(LIBRARIES + system + IMPORTS, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("system", [WINDOWS, MACOS], ids=["Windows", "macOS"])
def test_a_trial_runs_in_a_process_that_is_not_forked(tmp_path, system):
    done = run(LIBRARIES + system + RUN, tmp_path)
    assert done.stdout.strip() == "completed None", done.stdout + done.stderr[-2000:]
