"""Trials that change torch, the process, or answer twice, between quiet ones: the quiet ones notice nothing."""

import time
from dataclasses import replace

import pytest
import torch

from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.processes import ProcessExecutor
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe

MINE = """
import os, signal, sys, threading, time
import torch
from torch import nn
from torch.nn import functional as F

def build(input_shape, num_classes, deed="none", at=0, mark=""):
    DEEDS[deed](mark)
    return Net(num_classes)

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 16), nn.Linear(16, num_classes)
    def forward(self, inputs):
        return self.head(F.relu(self.hidden(inputs.flatten(1))))

def patch_relu(mark):
    F.relu = lambda x: -x

def patch_linear(mark):
    nn.Linear.forward = lambda self, x: x.new_zeros(len(x), self.out_features)

def patch_sgd(mark):
    torch.optim.SGD.step = lambda self, closure=None: None

def patch_save(mark):
    def save(*arguments, **options):
        raise OSError("not today")
    torch.save = save

def patch_tensor(mark):
    torch.Tensor.flatten = lambda self, *dims: self.new_zeros(len(self), 64)

def enter_autocast(mark):
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()

def enter_no_grad(mark):
    torch.set_grad_enabled(False)

def hook(mark):
    nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output * 0)

def default_dtype(mark):
    torch.set_default_dtype(torch.float64)

def default_device(mark):
    torch.set_default_device("meta")

def enter_mode(mark):
    class Zero(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            return result * 0 if isinstance(result, torch.Tensor) and result.is_floating_point() else result
    Zero().__enter__()

def fork_and_exit(mark):
    if os.fork() == 0:
        sys.exit(0)
    time.sleep(0.1)

def fork_and_return(mark):
    os.fork()

def fork_and_raise(mark):
    if os.fork() == 0:
        raise ValueError("in the child")
    time.sleep(0.1)

def fork_and_stay(mark):
    if os.fork() == 0:
        with open(mark, "a") as file:
            file.write(str(os.getpid()) + "\\n")
        time.sleep(600)

def leak(mark):
    torch.leaked = torch.zeros(64 << 20, dtype=torch.uint8)

def change_process(mark):
    os.environ["OMP_NUM_THREADS"] = "7"
    os.chdir("/")
    sys.path.clear()
    sys.stdout = sys.stderr = None

def thread_that_stays(mark):
    threading.Thread(target=time.sleep, args=(600,)).start()

def exit_at_once(mark):
    os._exit(0)

def exit_in_order(mark):
    sys.exit(3)

def interrupt(mark):
    raise KeyboardInterrupt

def stop_iteration(mark):
    raise GeneratorExit

DEEDS = {name: value for name, value in list(globals().items()) if callable(value) and name not in ("build", "Net")}
DEEDS["none"] = lambda mark: None
"""
ENDS = {  # what ends the trial itself: the kind of its failure
    "exit_at_once": "crash",
    "exit_in_order": "user-code",
    "interrupt": "user-code",
    "stop_iteration": "user-code",
}
LEAVES = ("fork_and_exit", "fork_and_raise", "fork_and_return", "fork_and_stay", "thread_that_stays", "leak")
PATCHES = ("patch_relu", "patch_linear", "patch_sgd", "patch_save", "patch_tensor")
MODES = ("enter_autocast", "enter_no_grad", "enter_mode", "hook", "default_dtype", "default_device")
CHANGES = (*PATCHES, *MODES, "change_process")


@pytest.fixture
def item(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)

    def make(number, deed="none"):
        model = {"name": "mine.py:build", "deed": deed, "mark": str(tmp_path / "pids")}
        if deed != "none":
            model["at"] = number
        raw = {"name": "t", "data": {"source": "digits"}, "model": model, "optimizer": {"name": "sgd", "lr": 0.1}}
        raw["train"] = {"batch_size": 16}
        return WorkItem(TrialSpec(Recipe.model_validate(raw).tables(), {}, seed=0, horizon_epochs=1), number)

    return make


def weights(folder, item):
    return torch.load(folder / "checkpoints" / f"{item.spec.id}.pt", weights_only=True)["model"]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_trial_notices_what_another_did_to_torch_or_to_its_process(tmp_path, item, workers):
    executor = ProcessExecutor(Wish(workers=workers), lambda progress: None)
    before = item(0)
    (quiet,) = executor.run([before], TrialEnv(tmp_path, tmp_path / "before"))
    assert quiet.status == "completed" and quiet.score > 0.5
    deeds = [*CHANGES, *LEAVES, *ENDS]
    items = [one for number, deed in enumerate(deeds) for one in (item(number, deed), before)]
    results = list(executor.run(items, TrialEnv(tmp_path, tmp_path / "between")))
    assert len(results) == len(items)
    again = [result for result in results if result.id == quiet.id]
    assert len(again) == len(deeds)
    for result in again:
        assert (result.status, result.curve, result.score) == ("completed", quiet.curve, quiet.score)
    assert same(weights(tmp_path / "before", before), weights(tmp_path / "between", before))

    of = {one.spec.id: deed for one, deed in zip(items[::2], deeds, strict=True)}
    kinds = {of[result.id]: result.error and result.error.kind for result in results if result.id in of}
    assert {deed: kinds[deed] for deed in ENDS} == ENDS
    assert {deed: kinds[deed] for deed in LEAVES} == dict.fromkeys(LEAVES)  # a forked child does not answer for it
    pids = (tmp_path / "pids").read_text().split()
    assert pids and all(gone(int(pid)) for pid in pids)


def gone(pid, seconds=5.0):
    """Whether a process has ended; one that its new parent has not yet taken notice of has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_an_autocast_that_a_trial_entered_keeps_no_old_weights_for_the_next(tmp_path, item):
    executor = SerialExecutor(Wish(), lambda progress: None)
    quiet = replace(item(0), spec=replace(item(0).spec, precision="bf16"))
    items = [quiet, item(1, "enter_autocast"), quiet]
    first, _, last = executor.run(items, TrialEnv(tmp_path))
    assert first.status == "completed" and last.curve == first.curve


def test_trials_in_one_process_find_torch_as_it_was(tmp_path, item):
    executor = SerialExecutor(Wish(), lambda progress: None)
    items = [one for number, deed in enumerate(CHANGES) for one in (item(0), item(number, deed))]
    results = list(executor.run([*items, item(0)], TrialEnv(tmp_path)))
    quiet = results[::2]
    assert len(quiet) == len(CHANGES) + 1 and quiet[0].score > 0.5
    for result in quiet:
        assert (result.status, result.curve) == ("completed", quiet[0].curve)
