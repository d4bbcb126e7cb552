"""The pages in docs/: every example runs, and the generated ones are up to date.

Names of runs and recipes in the pages stand for the finished run of the fixtures; a second whole run is a copy of it.
"""

import contextlib
import io
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import RECIPE
from tuner.recipe.model import Recipe
from tuner.stages import settings_models
from tuner.view.reference import keys_page

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NEEDS = {
    "safetensors": "safetensors",
    "onnxruntime": "onnxruntime",
    "--onnx": "onnxscript",
    "--weights": "safetensors",
    "--log tensorboard": "tensorboard",
}
STANDS_FOR = (("recipes/digits.toml", "small.toml"), ("runs/digits", "runs/small"), ("runs/first", "runs/small"))


def digits(first, last):
    data = load_digits()
    inputs, targets = torch.tensor(data.data[first:last] / 16).float(), torch.tensor(data.target[first:last])
    return DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=first == 0)


THEIR_TRAINING = SimpleNamespace(  # stands for the user's train.py
    make_model=lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    make_loaders=lambda: (digits(0, 1000), digits(1000, 1300)),
    make_loss=nn.CrossEntropyLoss,
    make_optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.003),
)


def blocks(page):
    """(language, text) of each fenced example."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def renamed(text):
    for name, ours in STANDS_FOR:
        text = text.replace(name, ours)
    return text


def test_the_pages_have_examples():
    kinds = [kind for page in PAGES for kind, _ in blocks(page)]
    assert len(PAGES) >= 9 and kinds.count("sh") >= 5 and kinds.count("python") >= 5


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_every_example_of_a_page_runs(page, finished, command, monkeypatch):
    monkeypatch.chdir(finished)
    for kind, text in blocks(page):
        for word, package in NEEDS.items():
            if word in text:
                pytest.importorskip(package)
        if kind == "toml":
            (finished / "mine.toml").write_text(text)
        elif kind == "py":
            (finished / "mine.py").write_text(text)
        elif kind == "python":
            monkeypatch.setitem(sys.modules, "train", THEIR_TRAINING)
            names = {"__name__": "example"}
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(renamed(text), str(page), "exec"), names)
                tests = [value() is None for name, value in names.items() if name.startswith("test_")]
            assert tests or out.getvalue().strip(), text
        elif kind == "sh":
            for line in renamed(text).strip().splitlines():
                _run(line, finished, command)


def _run(line, folder, command):
    program, *words = shlex.split(line)
    assert program == "tuner", line
    if "runs/other" in words and words[0] == "run":
        shutil.copytree(folder / "runs/small", folder / "runs/other")
        return
    serial = words[0] in ("run", "test", "check-init")
    done = command(*words, serial=serial)
    assert done.code == 0, f"{line}\n{done.err}"
    if words[:2] == ["new", "first"]:  # a small one, whose run is there
        (folder / "first.toml").write_text(RECIPE)


def test_the_page_of_keys_is_up_to_date():
    assert (DOCS / "recipe-keys.md").read_text() == keys_page(Recipe, settings_models()), "run `make docs`"


def test_the_page_of_keys_has_every_key_with_its_default_and_range():
    text = keys_page(Recipe, settings_models())
    assert "| `lr` | float | `0.01` | > 0 |" in text
    assert '| `precision` | auto, fp32, bf16, fp16 | `"auto"` |  |' in text
    tables = re.findall(r"^## \[(\S+)\]", text, re.M)
    assert {"data", "model", "optimizer", "train", "search", "stages.coarse"} <= set(tables)
