"""Two runs compared: their recipes, and their winners on the same val examples."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

import tuner
from tests.conftest import refused
from tuner.core.errors import InputError
from tuner.core.result import Record, TrialResult
from tuner.core.store import read_json, write_json
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.model import Recipe
from tuner.view.blocks import Plot, Table
from tuner.view.compare import blocks_of
from tuner.workflow.compare import Comparison, Side, _paired

TABLES = Recipe.model_validate({"name": "r", "data": {"source": "digits"}, "model": {"name": "mlp"}}).tables()


def record(bits, **data):
    packed = base64.b64encode(np.packbits(np.array(bits, dtype=np.uint8)).tobytes()).decode()
    spec = TrialSpec({**TABLES, "data": {**TABLES["data"], **data}}, {}, 0, horizon_epochs=1)
    evidence = {"val_predictions": {"n": len(bits), "bits": packed}}
    return Record(WorkItem(spec, 0), TrialResult(spec.id, None, "completed", evidence=evidence, score=0.5))


def test_winners_are_paired_example_by_example():
    a, b = [1] * 9 + [1, 0, 1], [0] * 9 + [1, 0, 1]
    found = _paired(record(a), record(b))
    assert (found["only_a"], found["only_b"]) == (9, 0)
    assert found["p"] == pytest.approx(binomtest(9, 9, 0.5).pvalue)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (record([1, 0], split_seed=1), "val examples are not the same (data.split_seed differ)"),
        (record([1, 0, 1]), "not both runs keep an answer per val example"),
        (None, "one of the runs has no winner yet"),
    ],
)
def test_winners_that_answered_other_examples_are_not_paired(other, why):
    assert why in _paired(record([1, 0]), other)["why"]


def test_winners_on_other_files_are_not_paired():
    one = record([1, 0])
    spec = replace(one.item.spec, data_hash="other")
    assert "the data files differ" in _paired(one, replace(one, item=replace(one.item, spec=spec)))["why"]


@pytest.mark.parametrize(
    ("p", "only", "words"),
    [
        (0.004, (9, 0), "a is better (9 val examples only a gets right, 0 only b; p = 0.004)"),
        (0.004, (0, 9), "b is better"),
        (0.3, (5, 2), "no difference beyond noise"),
    ],
)
def test_the_headline_says_which_winner_is_better(p, only, words):
    sides = [Side(name, {}, "t", {}, score) for name, score in (("a", 0.9), ("b", 0.8))]
    found = Comparison(*sides, {}, "val_accuracy", p, *only)
    assert words in str(found) and "val accuracy 0.9000 against 0.8000" in repr(found) == str(found)


def test_compare_shows_recipes_verdicts_and_winners(finished, command):
    import shutil

    shutil.copytree(finished / "runs/small", finished / "runs/other")
    for path in (finished / "runs/other").glob("*/recipe.json"):
        recipe = read_json(path)
        write_json(path, {**recipe, "optimizer": {**recipe["optimizer"], "momentum": 0.5}})
    done = command("compare", "small", "runs/other", serial=False)
    assert done.code == 0, done.err
    assert "no difference beyond noise (0 val examples only small gets right, 0 only other; p = 1)" in " ".join(
        done.out.split()
    )
    assert "optimizer.momentum" in done.out and done.out.count("check-init") == 1
    found = json.loads(command("compare", "small", "other", "--json", serial=False).out)
    assert found["changed"] == {"optimizer.momentum": [0.9, 0.5]} and found["p"] == 1.0
    assert found["a"]["test_accuracy"] == found["b"]["test_accuracy"] > 0
    assert "wrote c.html" in command("compare", "small", "other", "--html", "c.html", serial=False).out
    assert (finished / "c.html").stat().st_size < 300_000


def test_compare_works_in_python_and_without_a_winner(finished):
    (finished / "runs/small/winner.json").unlink()
    found = tuner.compare(finished / "runs/small", finished / "runs/small")
    assert "has no winner yet" in str(found) and found.p is None
    with pytest.raises(InputError, match="no run of tuner lies there"):
        tuner.compare(finished, finished)


def test_runs_of_another_score_are_compared_by_it(finished):
    run = finished / "runs/small"
    for path in run.glob("*/trials.jsonl"):
        path.write_text(path.read_text().replace('"accuracy"', '"r2"'))
    for stage in ("coarse", "fine"):
        result = read_json(run / stage / "result.json")
        write_json(run / stage / "result.json", {**result, "metrics": {**result["metrics"], "monitor": "val_r2"}})
    found = tuner.compare(run, run)
    blocks = blocks_of(found.to_json())
    assert found.monitor == "val_r2" and found.a.score is not None
    assert {plot.title for plot in blocks if isinstance(plot, Plot)} == {
        "The winners' loss, by epoch",
        "The winners' r2, by epoch",
    }
    rows = next(block.rows for block in blocks if isinstance(block, Table))
    assert [row[0] for row in rows][2:] == ["r2 on val", "over its seeds", "r2 on test"]


def test_compare_of_no_run_is_refused(command):
    refused(command("compare", "a", "b", serial=False), 3, "no run of tuner lies there")
