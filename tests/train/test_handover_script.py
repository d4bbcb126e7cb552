"""The training script that is handed over: run without tuner, it gives the trial's curve to the last digit."""

import csv
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tests.train.training_cases import ROWS, make_case
from tuner.core.errors import EnvironmentProblem, UsageError
from tuner.core.result import Record
from tuner.core.store import write_curve
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.user_files import hash_user_files
from tuner.train.handover import script_parts
from tuner.train.handover.bundle import Bundle
from tuner.train.handover.script import Facts, write_script
from tuner.train.setup import make_setup
from tuner.train.trial import run_trial

OWN = (
    ROWS
    + """
def train_step(model, batch, loss, optimizer):
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value

def evaluate(model, batches, loss):
    model.eval()
    with torch.no_grad():
        found = [(loss(model(x), y), (model(x).argmax(1) == y).float().mean()) for x, y in batches]
    return {"loss": sum(l for l, _ in found) / len(found), "accuracy": sum(a for _, a in found) / len(found)}



def whole():
    return load()[0], None

def quantities():
    (x, _), (v, _) = load()
    return (x, x.sum(1) + 0.1 * x[:, 0]), (v, v.sum(1))

def sets():
    (x, _), (v, _) = load()
    return (x, (x[:, :3] > 0).float()), (v, (v[:, :3] > 0).float())

def squared(outputs, targets):
    return ((outputs.squeeze(1) - targets) ** 2).mean()

class Viewing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.head(x.view(len(x), -1))

def viewing():
    return Viewing()

def pixels():
    def of(x):  # bright pixels have no class
        return x, (x.sum(1) > 380).long().masked_fill(x.sum(1) > 500, -100)
    return [of(x) for x, _ in images()]

def per_pixel(num_classes):
    return nn.Conv2d(3, num_classes, 1)

def halved(epoch):
    return 0.5 ** epoch

def off_centre(model, outputs, size=0.1):
    return size * outputs.mean() ** 2
"""
)


ALONE = """
import os, runpy, sys, traceback
import torch, torch._dynamo, torchvision  # once for all scripts: each runs in a fork of this process
sys.modules["tuner"] = None
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(line.strip())
            sys.path[0] = "."
            said = os.open("said.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1), os.dup2(said, 2)
            runpy.run_path("train.py", run_name="__main__")
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def alone():
    """A function that runs the train.py of a folder in a process that has no tuner, and asserts that it ends well."""
    command = [sys.executable, "-c", ALONE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as server:

        def run(folder):
            print(folder, file=server.stdin, flush=True)
            assert server.stdout.readline() == "0\n", (folder / "said.txt").read_text()

        yield run
        server.stdin.close()


def repeated(case, tmp_path, alone, **fields):
    """Train the trial of a case with tuner, write its script, run that elsewhere; return both curves as text."""
    known = hash_user_files({"mine.py": case.folder / "mine.py"})
    spec: TrialSpec = replace(case.spec(**fields), user_files=known)
    item = WorkItem(spec, 0)
    result = run_trial(item, case.env)
    assert result.status == "completed", result.error
    write_curve(tmp_path / "ours.csv", Record(item, result))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    facts = Facts("case", result.id, result.best_epoch, result.score)
    write_script(make_setup(spec, case.env), facts, folder / "train.py", case.folder)
    alone(folder)
    return [list(csv.reader(path.open())) for path in (tmp_path / "ours.csv", folder / "train_curve.csv")]


CASES = {
    "own step and evaluation": {"train.step": "mine.py:train_step", "train.evaluate": "mine.py:evaluate"},
    "images, augmented, in bf16": {
        "data.source": "mine.py:images",
        "data.normalize": "mean_image",
        "data.augment": ["hflip", {"name": "random_crop", "padding": 1}],  # hflip has a local named as what it imports
        "model": {"name": "convnet", "width": 4, "depth": 1, "init": "kaiming_normal"},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
    },
    "a Dataset, a plateau": {
        "data.source": "mine.py:streamed",
        "schedule": {"name": "torch.optim.lr_scheduler.ReduceLROnPlateau", "every": "epoch", "patience": 0},
        "loss": {"name": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.1},
        "train.monitor": "val_loss",
        "train.monitor_mode": "min",
    },
    "groups, averaged weights": {
        "optimizer.groups": ["no_decay_on_norms", {"name": "head_lr", "factor": 3.0}],
        "optimizer.weight_decay": 0.01,
        "train.ema": 0.8,
        "train.max_norm": 1.0,
    },
    "stochastic weight averaging of a net with batch norm": {
        "data.source": "mine.py:images",
        "model": {"name": "convnet", "width": 4, "depth": 1},
        "train.swa": 0.4,
    },
    "a sum of losses, one of features": {
        "loss": [
            {"name": "cross_entropy", "factor": 0.5},
            {"name": "multi_margin"},
            {"name": "center", "factor": 0.1},
        ],
    },
    "accumulated, penalised, a sampler": {
        "train.accumulate": 2,
        "train.penalty": [{"name": "mine.py:off_centre", "size": 0.5}],
        "train.l1": 1e-3,
        "data.sampler": "balanced",
    },
    "an optimizer that computes the loss itself": {
        "optimizer": {"name": "lbfgs", "max_iter": 3},
        "train.clip_norm": 1.0,
    },
    "a schedule of factors after a warm-up": {"schedule": {"name": "mine.py:halved", "warmup_epochs": 0.5}},
    "a warm-up and a hold before a step schedule": {
        "schedule": {"name": "step", "step_epochs": 1, "warmup_epochs": 0.4, "hold_epochs": 0.4},
    },
    "quantities": {"data.source": "mine.py:quantities", "data.task": "regression", "loss.name": "mine.py:squared"},
    "several labels": {
        "data.source": "mine.py:sets",
        "data.task": "multilabel",
        "loss.name": "torch.nn.BCEWithLogitsLoss",
        "train.monitor": "val_macro_f1",
    },
    "a class per pixel": {"data.source": "mine.py:pixels", "model": {"name": "mine.py:per_pixel"}},
    "images in the plain layout": {"data.source": "mine.py:images", "model": {"name": "mine.py:viewing"}},
    "classes with factors": {"loss": {"name": "torch.nn.CrossEntropyLoss", "weight": [0.2, 1.0, 5.0]}},
    "another score": {"train.monitor": "val_balanced_accuracy"},
    "a model with changes, first weights that are measured": {
        "model": {"name": "mlp", "width": 6, "depth": 1, "activation": {"name": "elu", "alpha": 0.5}, "init": "lsuv"},
    },
    "a fine-tuned head": {"finetune": {"way": "head", "release_epoch": 1}, "optimizer.momentum": 0.9},
    "val cut from train, clipped": {"data.source": "mine.py:whole", "train.clip_norm": 0.5, "optimizer.name": "adamw"},
}


SHORT = (  # the others run with the slow tests: a process with torch in it for each
    "own step and evaluation",
    "images, augmented, in bf16",
    "a Dataset, a plateau",
    "groups, averaged weights",
    "accumulated, penalised, a sampler",
    "several labels",
)


@pytest.mark.parametrize("name", [pytest.param(c, marks=() if c in SHORT else pytest.mark.slow) for c in CASES])
def test_the_script_repeats_the_curve_without_tuner(name, tmp_path, alone):
    case = make_case(tmp_path / "case", OWN, CASES[name])
    ours, theirs = repeated(case, tmp_path, alone, precision="bf16" if "bf16" in name else "fp32", seed=3)
    assert theirs == ours
    assert len(ours) == 1 + 2 * 3


def test_the_script_keeps_the_weights_that_the_trial_keeps_where_a_first_score_is_nan(tmp_path, alone):
    code = """
SEEN = []
def at_first_unknown(model, batches, loss):
    SEEN.append(None)
    return {"loss": 1.0, "accuracy": float("nan") if len(SEEN) <= 2 else len(SEEN) / 10}
"""
    case = make_case(tmp_path / "case", OWN + code, {"train.evaluate": "mine.py:at_first_unknown"})
    repeated(case, tmp_path, alone, seed=3)
    (kept,) = (case.stage_dir / "checkpoints").glob("*.pt")
    ours, theirs = torch.load(kept)["model"], torch.load(tmp_path / "elsewhere" / "train_weights.pt")
    assert all(torch.equal(theirs[name], item) for name, item in ours.items())


def test_the_script_reads_a_folder_of_images_itself(tmp_path, alone):
    generator = torch.Generator().manual_seed(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(12):
            pixels = torch.randint(0, 256, (9, 9, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(tmp_path / "pictures" / label / f"{i}.png")
    data = {"source": "image_folder", "root": str(tmp_path / "pictures"), "image_size": 8}
    case = make_case(tmp_path / "case", "", {"data": data, "model": {"name": "convnet", "width": 4, "depth": 1}})
    ours, theirs = repeated(case, tmp_path, alone)
    assert theirs == ours


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"train.snapshots": 2}, "train.snapshots"),
        ({"optimizer.name": "sam"}, "optimizer.name = 'sam'"),
        ({"after": {"tta": ["hflip"]}}, r"\[after\]"),
    ],
)
def test_what_scripts_do_not_have_is_refused_by_name(overrides, words, tmp_path):
    case = make_case(tmp_path, "", overrides)
    with pytest.raises(UsageError, match=f"scripts do not have {words} yet"):
        write_script(case.setup(), Facts("case", "t", 1, 0.5), tmp_path / "train.py", tmp_path)


def test_a_script_is_not_written_over_files_of_the_users(tmp_path):
    case = make_case(tmp_path, "", {})
    known = hash_user_files({"mine.py": case.folder / "mine.py"})
    setup = replace(case.setup(), spec=replace(case.spec(), user_files=known))
    theirs, facts = tmp_path / "theirs", Facts("case", "t", 1, 0.5)
    theirs.mkdir()
    (theirs / "train.py").write_text("print('a training of their own')\n")
    with pytest.raises(UsageError, match=r"train\.py is there, and is no script that tuner wrote"):
        write_script(setup, facts, theirs / "train.py", tmp_path)
    assert (theirs / "train.py").read_text() == "print('a training of their own')\n"
    (theirs / "mine.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"the recipe's mine\.py is copied beside it, and .*mine\.py is another file"):
        write_script(setup, facts, theirs / "again.py", tmp_path)
    with pytest.raises(UsageError, match=r"the recipe's mine\.py is copied beside it"):
        write_script(setup, facts, tmp_path / "elsewhere" / "mine.py", tmp_path)
    assert (theirs / "mine.py").read_text() == "x = 1\n"
    for _ in range(2):  # its own script it writes again
        assert write_script(setup, facts, tmp_path / "out" / "train.py", tmp_path)[0].exists()


def test_the_script_of_a_trial_on_a_gpu_does_not_promise_its_digits(tmp_path):
    case = make_case(tmp_path, "", {})
    write_script(case.setup(device="cuda"), Facts("case", "t", 1, 0.5), tmp_path / "train.py", tmp_path)
    text = " ".join((tmp_path / "train.py").read_text().split())
    assert "The run was made on a GPU, this trains on the CPU" in text and "to the last digit" not in text


def test_a_script_that_would_train_something_else_is_refused(tmp_path, monkeypatch):
    case = make_case(tmp_path)
    monkeypatch.setattr(script_parts, "augment_text", lambda setup, names: "    inputs = inputs + 1\n")
    with pytest.raises(EnvironmentProblem, match="the first batch of .* is not the trial's own"):
        write_script(case.setup(), Facts("case", "t", 1, 0.5), tmp_path / "train.py", tmp_path)


def test_two_definitions_of_one_name_get_different_names(monkeypatch, tmp_path):
    modules = []
    for name, value in (("one", 1), ("two", 2)):
        path = tmp_path / f"{name}.py"
        path.write_text(f"def _value():\n    return {value}\n\n\ndef {name}():\n    return _value()\n")
        module = types.ModuleType(f"tuner.{name}")
        module.__file__ = str(path)
        exec(path.read_text(), vars(module))
        monkeypatch.setitem(sys.modules, f"tuner.{name}", module)
        modules.append(module)
    bundle = Bundle(reserved=frozenset({"two"}))
    names = [bundle.add(getattr(module, part)) for module, part in zip(modules, ("one", "two"), strict=True)]
    scope: dict = {}
    exec(bundle.text, scope)
    assert names == ["one", "two_two"]
    assert [scope[name]() for name in names] == [1, 2]
