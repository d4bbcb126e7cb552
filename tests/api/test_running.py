"""`tuner.run`: the checklist from Python functions and a dictionary."""

import sys

import pytest

import tuner
from tuner.core.errors import UsageError

MODULE = """
import numpy as np
from torch import nn

def load():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    return (rng.standard_normal((120, 4)).astype("float32") + 3 * y[:, None], y), None

def build(input_shape, num_classes):
    return nn.Linear(4, num_classes)
"""
TABLES = {
    "name": "mine",
    "optimizer": {"name": "adam", "lr": 0.01},
    "train": {"batch_size": 16},
    "stages": {"coarse": {"trials": 1, "epochs": 1}, "fine": {"trials": 1, "epochs": 1, "seeds": 1}},
}


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "mine_in_python.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine_in_python", raising=False)
    import mine_in_python as module

    return {"data": module.load, "model": module.build}


def test_tables_and_functions_go_through_the_checklist(functions, tmp_path):
    run = tuner.run(TABLES, **functions, run_dir=tmp_path / "run", workers=0, test=True)
    assert run.result("fine")["metrics"]["score_name"] == "accuracy"
    assert run.result("test")["metrics"]["n"] == 24
    assert 'source = "mine_in_python.py:load"' in (tmp_path / "mine.toml").read_text()


def test_a_function_without_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="stands in no file that workers can import"):
        tuner.run(TABLES, model=lambda: None, run_dir=tmp_path / "run")


def test_a_recipe_that_is_there_is_not_written_over(functions, tmp_path):
    (tmp_path / "mine.toml").write_text("name = 'other'\n")
    with pytest.raises(UsageError, match=r"mine\.toml is there, and was not made from Python"):
        tuner.run(TABLES, **functions, run_dir=tmp_path / "run")


def test_an_unknown_option_is_refused():
    with pytest.raises(UsageError, match="unknown option 'worker'"):
        tuner.run("digits", worker=2)
