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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"worker": 2}, r"unknown option 'worker' - did you mean 'workers'\?"),
        ({"workers": -1}, r"--workers: must be 0 or more \(got -1\)"),
        ({"deadline": 0.0}, "--deadline: must be more than 0 seconds"),
        ({"engine": "folder"}, "--engine folder: --address is missing"),
        ({"rounds": -1}, r"rounds: must be 0 or more \(got -1\)"),
        ({"set": "optimizer.lr"}, r"--set optimizer\.lr: expected key=value"),
        ({"set": "accept={codes=['XX999'], reason='no'}"}, "no rule has the code 'XX999'"),
    ],
)
def test_an_option_is_refused_as_the_command_refuses_it(functions, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        tuner.run(TABLES, **functions, run_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_name_that_leads_out_of_the_folder_is_refused_before_it_is_written(functions, tmp_path):
    with pytest.raises(UsageError, match=r"'\.\./mine' cannot name a recipe"):
        tuner.run({**TABLES, "name": "../mine"}, **functions)
    assert not (tmp_path.parent / "mine.toml").exists()
