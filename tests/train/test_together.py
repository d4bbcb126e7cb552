"""One trial on several devices, here processes of a CPU that talk by gloo, against the same trial on one."""

import inspect
import math
import os
from dataclasses import replace

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.execute.test_processes import gone
from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import UsageError
from tuner.core.trial import WorkItem, apply_overrides
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe
from tuner.train.setup import make_setup
from tuner.train.shares import sizes_of
from tuner.train.together import without_stderr

MINE = """
import os, signal, time
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, norm, drop, fault):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(4 * 36, classes)
        self.drop = nn.Dropout(drop)
        self.fault = fault
    def forward(self, inputs):
        if self.fault and dist.is_initialized():
            with open(Path(__file__).parent / "pids", "a") as file:
                file.write(f"{os.getpid()}\\n")
            if dist.get_rank() == 1 and self.training:
                fail(self.fault)
        return self.head(self.drop(self.norm(self.first(inputs)).relu().flatten(1)))

def fail(how):
    if how == "die":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(600)
    if how == "raise":
        raise ValueError("no such picture")

def build(num_classes, norm=False, drop=0.0, fault=""):
    return Net(num_classes, norm, drop, fault)

def step(model, batch, loss, optimizer):
    raise NotImplementedError
"""
IMAGES = {"data.source": "mine.py:images", "data.normalize": "scale", "model": {"name": "mine.py:build"}}


def on(case, devices, **fields):
    """The case on so many devices."""
    changes = {} if devices == 1 else {"train.devices_per_trial": devices}
    return replace(case, tables=Recipe.model_validate({"name": "c", **apply_overrides(case.tables, changes)}).tables())


def run(case, devices, until=None, deadline=60.0, **fields):
    """Run a trial as the supervisor does, with a process per device."""
    executor = ProcessExecutor(Wish("cpu", workers=1, devices=devices), lambda progress: None, Deadlines(deadline))
    try:
        (result,) = executor.run([WorkItem(on(case, devices).spec(**fields), 3, until)], case.env)
    finally:
        executor.close()
    return result


def images(folder, **changes):
    """A small convolutional net of the user's own on images; `changes`: keys of its table."""
    return make_case(folder, MINE, {**IMAGES, **{f"model.{key}": value for key, value in changes.items()}})


def assert_same_curve(one, two, within=1e-5):
    assert len(one.curve) == len(two.curve) > 0
    for row, other in zip(one.curve, two.curve, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            same = math.isclose(value, other[key], rel_tol=within, abs_tol=within) if key != "split" else True
            assert same and row["split"] == other["split"], (key, row, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.batch_size": 7},  # shares of 4 and 3; 40 examples leave a last batch of 5
        {"train.batch_size": 5, "train.accumulate": 3, "train.clip_norm": 0.5},
        {"loss": {"name": "cross_entropy", "weight": [0.2, 1.0, 5.0], "label_smoothing": 0.1}, "train.l1": 1e-2},
        {"loss": {"name": "ohem"}, "optimizer": {"name": "sam", "lr": 0.1}},
        {**IMAGES, "data.augment": ["hflip", {"name": "random_crop", "padding": 2}, "mixup"], "train.batch_size": 5},
        {**IMAGES, "model.norm": True, "train.sync_batch_norm": True, "train.batch_size": 7},
        {**IMAGES, "model.norm": True, "train.sync_batch_norm": True, "train.swa": 0.3},
    ],
    ids=[
        "uneven shares",
        "accumulation",
        "weights and penalty",
        "hard examples and sam",
        "augmentation",
        "norms",
        "swa",
    ],
)
def test_two_devices_give_the_curve_of_one(tmp_path, changes):
    case = make_case(tmp_path, MINE, {"optimizer.momentum": 0.9, **changes})
    alone = on(replace(case, tables=apply_overrides(case.tables, {"train.sync_batch_norm": False})), 1)
    one = alone.run()
    two = run(case, 2)
    assert one.status == two.status == "completed" and one.id != two.id
    assert_same_curve(one, two)
    weights = [torch.load(case.stage_dir / "checkpoints" / f"{result.id}.pt")["model"] for result in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5)


def test_norms_that_are_not_synchronised_see_the_examples_of_their_own_device(tmp_path):
    case = images(tmp_path, norm=True)
    one, two = case.run(), run(case, 2)
    assert one.curve[0]["loss"] != pytest.approx(two.curve[0]["loss"], abs=1e-5)


@pytest.mark.slow
def test_a_last_batch_of_fewer_examples_than_devices_is_computed_on_each(tmp_path):
    case = make_case(tmp_path, MINE, {"train.batch_size": 19, "train.l1": 1e-2})  # 40 = 19 + 19 + 2
    assert_same_curve(case.run(), run(case, 3))


@pytest.mark.slow
def test_a_trial_that_stopped_goes_on_with_all_its_processes(tmp_path):
    case = make_case(tmp_path, MINE, {"optimizer.momentum": 0.9, "schedule": {"name": "plateau", "patience": 0}})
    straight = run(case, 2, horizon_epochs=3)
    (case.stage_dir / "checkpoints" / f"{straight.id}.pt").unlink()
    assert run(case, 2, until=1, horizon_epochs=3).status == "stopped"
    resumed = run(case, 2, horizon_epochs=3)
    assert without_clock(resumed) == without_clock(straight)
    assert [path.suffixes for path in (case.stage_dir / "checkpoints").iterdir()] == [[".pt"]]


def test_advice_on_looking_for_unused_weights_is_dropped_and_nothing_else(capfd):
    assert "prepare_for_backward" in inspect.getsource(DistributedDataParallel._post_forward)  # where it is given
    with without_stderr():
        os.write(2, b"advice")
    os.write(2, b"what the user prints")
    assert capfd.readouterr().err == "what the user prints"


@pytest.mark.slow
def test_dropout_is_drawn_anew_on_each_device_and_alike_in_each_run(tmp_path):
    case = images(tmp_path, drop=0.5)
    first, second = run(case, 2), run(case, 2)
    assert without_clock(first) == without_clock(second)
    assert first.curve[0]["loss"] != pytest.approx(case.run().curve[0]["loss"], abs=1e-5)


@pytest.mark.slow
def test_the_death_of_one_process_is_the_trials(tmp_path):
    result = run(images(tmp_path, fault="die"), 2)
    assert (result.status, result.error.kind) == ("failed", "crash")
    assert "the worker process died, twice (SIGSEGV)" in result.error.message
    assert all_gone(tmp_path, 4)


@pytest.mark.slow
def test_a_process_that_hangs_takes_the_others_with_it_at_the_deadline(tmp_path):
    result = run(images(tmp_path, fault="hang"), 2, deadline=6.0)
    assert (result.status, result.error.kind) == ("failed", "timeout")
    assert "its deadline" in result.error.message
    assert all_gone(tmp_path, 2)


@pytest.mark.slow
def test_what_user_code_raises_in_another_process_is_the_trials_failure(tmp_path):
    result = run(images(tmp_path, fault="raise"), 2)
    assert (result.status, result.error.kind) == ("failed", "user-code")
    assert "no such picture" in result.error.message and "mine.py" in result.error.message


def all_gone(folder, count):
    pids = set((folder / "pids").read_text().split())
    assert len(pids) == count
    return all(gone(int(pid), seconds=5) for pid in pids)


def test_a_measure_alone_takes_one_process(tmp_path):
    case = on(make_case(tmp_path, MINE), 2)
    assert WorkItem(case.spec(horizon_epochs=None), 0).devices == 1
    assert WorkItem(case.spec(horizon_steps=3), 0).devices == 2


def test_one_process_refuses_a_trial_on_two_devices(tmp_path):
    result = on(make_case(tmp_path, MINE), 2).run()
    assert result.status == "failed"
    assert result.error.message == "train.devices_per_trial = 2: this trial was given to one process"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.step": "mine.py:step"}, "train.step = 'mine.py:step' makes its update on one device alone"),
        ({"train.batch_size": 1}, r"a batch of 1 \(train.batch_size\) is too small for 2 devices"),
        ({"loss": [{"name": "cross_entropy"}, {"name": "center"}]}, "center in a list of losses compares the features"),
        ({"loss": {"name": "model"}}, 'loss.name = "model" is a loss of each share'),
        ({"teacher": {"pseudo_labels": 0.9, "unlabelled": "x.npz"}}, "teacher.pseudo_labels draws examples"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(tmp_path, changes, message):
    case = make_case(tmp_path, MINE, {"train.devices_per_trial": 2, **changes})
    with pytest.raises(UsageError, match=f"^train.devices_per_trial: {message}"):
        make_setup(case.spec(), case.env)


def test_synchronised_norms_on_one_device_are_refused(tmp_path):
    case = make_case(tmp_path, MINE, {"train.sync_batch_norm": True})
    with pytest.raises(UsageError, match="train.sync_batch_norm: has no effect on one device"):
        make_setup(case.spec(), case.env)


def test_one_process_for_all_trials_is_refused_before_anything_runs(tmp_path):
    executor = SerialExecutor(Wish("cpu", devices=2), lambda progress: None)
    with pytest.raises(UsageError, match="train.devices_per_trial = 2: a trial on several devices takes several"):
        executor.preflight({}, make_case(tmp_path).env)


@pytest.mark.parametrize(("examples", "count", "sizes"), [(7, 2, [4, 3]), (8, 4, [2] * 4), (3, 4, None), (1, 1, [1])])
def test_shares_differ_by_one_example_at_most(examples, count, sizes):
    assert sizes_of(examples, count) == sizes
