"""Every component, and a recipe of each task through the whole checklist, on a pretended GPU (ten minutes)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import tuner
from tests.pretended_gpu import pretended_gpu
from tests.slow.test_task_recipes import SCORES, TINY
from tests.train.training_cases import ROWS, make_case
from tuner.core.trial import WorkItem
from tuner.recipe.cards import cards
from tuner.train import stores
from tuner.train.isolation import put_back
from tuner.train.trial import run_trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {"segmentation": "canvases=200", "tokens": "sentences=300", "multilabel": "canvases=300"}
IMAGES = {"data.source": "mine.py:images", "model": {"name": "convnet", "width": 4, "depth": 1}}
RESIDUAL = {"data.source": "mine.py:images", "model": {"name": "resnet8", "width": 6}}
COSINE = {**RESIDUAL, "model.head": "cosine"}
OWN = (
    ROWS
    + """
def on_the_gpu():
    return tuple(tuple(part.to("cuda") for part in pair) for pair in load())
class Parts(Rows):
    def __getitem__(self, i):
        x, label = super().__getitem__(i)
        return {"a": x[:2], "b": x[2:]}, label
def parts():
    train, val = load()
    return Parts(train), Parts(val)
class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 3)
    def forward(self, a, b):
        return self.a(a) + self.b(b)
def both(num_classes):
    return Both()
"""
)
OF_LOSSES = {"cosface": COSINE, "arcface": COSINE}
NEEDS = {"multistep": {"schedule.milestones": [1]}, "fixup": RESIDUAL}
LEFT_OUT = {"model", "mse", "mae", "huber", "weighted"}  # of other tasks and data than these


def of_kind(kind, key, base=None, **more):
    names = [card.name for card in cards(kind) if card.name not in LEFT_OUT]
    return {f"{kind} {name}": {**(base or {}), **NEEDS.get(name, {}), **key(name), **more} for name in names}


CASES = {
    **of_kind("augment", lambda name: {"data.augment": [name]}, IMAGES),
    **of_kind("loss", lambda name: {**OF_LOSSES.get(name, {}), "loss": {"name": name}}),
    **of_kind("optimizer", lambda name: {"optimizer": {"name": name, "lr": 0.01}}, {"model.depth": 2}),
    **of_kind("schedule", lambda name: {"schedule.name": name}),
    **of_kind("init", lambda name: {**(RESIDUAL if name == "fixup" else IMAGES), "model.init": name}),
    **of_kind("sampler", lambda name: {"data.sampler": name}),
    **of_kind("pool", lambda name: {"model.global_pool": name}, RESIDUAL),
    **of_kind("head", lambda name: {"model.head": name}, {**RESIDUAL, "model.width": 12}),
    **of_kind("activation", lambda name: {"model.activation": name}, IMAGES),
    **of_kind("regulariser", lambda name: {f"model.{name}": 0.2}, RESIDUAL),
    **of_kind("penalty", lambda name: {"train.penalty": name}),
    "losses of features": {"loss": [{"name": "cross_entropy"}, {"name": "triplet"}, {"name": "center"}]},
    "a batch in parts": {"train.accumulate": 2, "train.clip_norm": 1.0},
    "snapshots, stacked": {"train.snapshots": 2, "after": {"ensemble": "snapshots", "stacking": True}},
    "views": {**IMAGES, "after": {"tta": ["hflip", "quarter_turns", "shifts", "scales"]}},
    "a stream": {"data.source": "mine.py:streamed"},
    "several inputs": {"data.source": "mine.py:parts", "model": {"name": "mine.py:both"}},
    "data that are there": {"data.source": "mine.py:on_the_gpu"},
    "fine-tuning": {**IMAGES, "finetune": {"way": "head", "release_epoch": 1}},
}


def trial(folder, overrides, precision="fp32"):
    case = make_case(folder, OWN, overrides)
    with put_back(), pretended_gpu():
        for stop in (1, 2, None):
            item = WorkItem(case.spec(horizon_epochs=3, precision=precision), 3, stop)
            result = run_trial(item, replace(case.env, device="cuda"))
    return result


@pytest.mark.parametrize("name", CASES)
def test_every_component_trains_and_goes_on_on_a_gpu(name, tmp_path):
    result = trial(tmp_path, CASES[name])
    assert result.status == "completed", result.error


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_short_formats_train_on_a_gpu(precision, tmp_path):
    result = trial(tmp_path, {**IMAGES, "train.clip_norm": 1.0}, precision)
    assert result.status == "completed", result.error


@pytest.mark.parametrize("overrides", [{}, {**IMAGES, "data.normalize": "standardize", "data.augment": ["mixup"]}])
def test_data_that_are_too_large_for_the_gpu_stay_on_the_cpu(overrides, tmp_path, monkeypatch):
    there = trial(tmp_path / "there", overrides)
    monkeypatch.setattr(stores, "RESIDENT_SHARE", 0.0)
    here = trial(tmp_path / "here", overrides)
    assert here.status == "completed" and here.curve == there.curve


@pytest.mark.parametrize("name", SCORES)
def test_a_recipe_of_each_task_goes_through_the_checklist_on_a_gpu(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    quick = (*TINY, "lr-sweep.steps=25", "lr-sweep.seeds=1")
    options = [text for key in quick for text in ("--set", f"stages.{key}")]
    options += ["--set", f"data.{SMALL[name]}"] if name in SMALL else []
    with put_back(), pretended_gpu():
        for command in ("run", "test"):
            words = [command, RECIPES / f"{name}.toml", "--run-dir", tmp_path / "run", "--force", "--workers", 0]
            done = tuner(*words, "--device", "cuda", *options)
            assert done.code in (0, 1), done.out[-2000:] + done.err[-2000:]
    results = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("*/result.json")]
    assert len(results) == 7
    reasons = [entry["why"] for result in results for entry in result["checks"]["skipped"]]
    assert not [why for why in reasons if "same device" in why or "device type" in why]
