"""Options that would be ignored, or contradict each other, end with exit code 2 and what to do; nothing is a bug."""

import json

import pytest

from tests.conftest import refused, tuner

BEFORE_TRAINING = [
    (["lr-sweep", "small.toml", "--low", "1", "--high", "0.1"], "tuner lr-sweep: low must be less than high (got low"),
    (["diagnose", "--log", "log.csv", "--target", "2"], "--target: Input should be less than or equal to 1 (got 2.0)"),
    (["diagnose", "--log", "log.csv", "--confirm"], "--log: goes without --confirm"),
    (["diagnose", "--log", "log.csv", "--seeds", "3"], "--log: goes without --seeds"),
    (["run", "small.toml", "--through", "coarse", "--rounds", "1"], "--through coarse stops before it"),
    (["run", "small.toml", "--dry-run", "--html", "a.html"], "--html: a dry run has no report"),
    (["status", "--set", "seed=1"], "--set: overrides a recipe, and none is named"),
    (["report", "--set", "seed=1"], "--set: overrides a recipe, and none is named"),
    (["report", "small.toml", "--html", "a.html", "--json"], "--html and --json are two forms of one report"),
    (["compare", "a", "b", "--html", "a.html", "--json"], "--html and --json are two forms of one report"),
    (["export", "small.toml", "--weights", "w", "--replace"], "--replace goes with --optuna"),
    (["new", "x", "--custom", "--source", "cifar10"], "--source cifar10: with --custom the data come from the Python"),
    (["inspect", "small.toml", "--schedule", "--batch-size"], "--schedule and --batch-size are two looks"),
    (["inspect", "small.toml", "--schedule", "--out", "x"], "--out: only a look at the model itself leaves pictures"),
]


@pytest.mark.parametrize(("arguments", "message"), BEFORE_TRAINING, ids=lambda value: " ".join(value)[:40])
def test_what_would_be_ignored_is_refused(recipe, tmp_path, arguments, message):
    (tmp_path / "log.csv").write_text("epoch,loss,val_loss\n1,2,2\n2,1,1.5\n3,0.8,1.2\n")
    done = tuner(*arguments, cwd=tmp_path)
    if "--json" in arguments:
        error = json.loads(done.out)["error"]
        assert (done.code, error["code"]) == (2, 2) and message in error["message"] and error["hint"]
    else:
        refused(done, 2, message)
    assert {path.name for path in tmp_path.iterdir()} <= {"small.toml", "log.csv", "runs"}


def test_tables_that_do_not_fit_each_other_are_named_without_the_whole_recipe(recipe, tmp_path):
    recipe.write_text(recipe.read_text() + '\n[after]\nensemble = "snapshots"\n')
    done = tuner("run", "small.toml", cwd=tmp_path)
    refused(done, 2, "error: small.toml: after.ensemble: snapshots are kept by train.snapshots = 3, which is not set\n")


def test_status_of_a_folder_that_is_not_there_says_so(tmp_path):
    refused(tuner("status", "--run-dir", "nowhere", cwd=tmp_path), 3, "nowhere: no such folder of a run")


def test_json_of_several_runs_is_refused_rather_than_several_documents(finished, command):
    (finished / "runs/small").rename(finished / "runs/a")
    (finished / "runs/b").mkdir()
    (finished / "runs/b/lock").touch()
    done = command("report", "--json")
    assert done.code == 2 and "--json: one list is of one run" in json.loads(done.out)["error"]["message"]
