"""A run in Python: tables, and Optuna studies that can be loaded back."""

import csv
import json
import math
import subprocess
import sys

import pytest

import tuner
from tests.replay import failure, replay
from tests.search.search_cases import SEARCH, bowl, inputs_of, recipe_of
from tuner.core.errors import EnvironmentProblem, InputError, UsageError
from tuner.core.result import Record, last_of_each
from tuner.core.store import RunDir, write_json
from tuner.stages import coarse, fine

optuna = pytest.importorskip("optuna")


def script(item):
    """A search in which one configuration diverges and one fails."""
    if item.number == 5:
        return failure("oom")
    result = bowl(noise=0.01)(item)
    return result if item.number != 6 else type(result)("", None, "diverged", result.curve[:1])


@pytest.fixture
def run(tmp_path):
    """A run folder as two stages leave it, made by replay: space with a range, whole numbers and choices."""
    search = SEARCH | {"model.depth": {"low": 1, "high": 4, "int": True}, "model.act": {"choices": ["relu", [1, 2]]}}
    recipe = recipe_of(search=search)
    directory = RunDir(tmp_path / "runs" / "r")
    found = {}
    for name, stage, settings in (("coarse", coarse, coarse.Settings()), ("fine", fine, fine.Settings(epochs=6))):
        inputs = inputs_of(**found)
        records = replay(stage, recipe, inputs, settings, script)
        folder = directory.stage(name)
        folder.begin(recipe.model_dump(mode="json"))
        folder.rewrite(records)
        found[name] = stage.judge(recipe, inputs, settings, records).to_json()
        write_json(folder.result_path, found[name])
    return tuner.open_run(directory.path)


def test_importing_tuner_stays_light():
    heavy = ("torch", "numpy", "pandas", "optuna")
    code = f"import tuner, sys; tuner.open_run; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_run_shows_how_each_stage_ended(run):
    run._dir.stage("diagnose").begin({"name": "r"})
    first, coarse_line, fine_line, last = repr(run).splitlines()
    assert first == f"Run({str(run.path)!r})" and last.split() == ["diagnose", "not", "finished"]
    for line, stage in ((coarse_line, "coarse"), (fine_line, "fine")):
        found = run.result(stage)
        assert line.split()[:2] == [stage, found["verdict"].upper()] and line.endswith(found["headline"])


def test_a_run_is_opened_by_its_name_in_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tuner.open_run("r").path.samefile(run.path)
    with pytest.raises(InputError, match="nowhere: no run of tuner lies there"):
        tuner.open_run("nowhere")


def test_stages_are_in_the_order_of_the_steps(run):
    assert run.stages == ["coarse", "fine"]
    run._dir.stage("fine-2").begin({"name": "r"})
    run._dir.stage("check-init").begin({"name": "r"})
    (run.path / "user").mkdir()
    assert run.stages == ["check-init", "coarse", "fine", "fine-2"]


def test_trials_are_one_row_each_and_agree_with_the_csv(run):
    frame = run.trials("coarse")
    with open(run.path / "coarse" / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(frame) == len(rows) == 16
    assert [str(number) for number in frame["number"]] == [row["number"] for row in rows]
    for column in ("optimizer.lr", "score", "wall_seconds", "best_val_accuracy"):
        expected = [float(row[column]) if row[column] else math.nan for row in rows]
        assert list(frame[column]) == pytest.approx(expected, nan_ok=True)
    assert set(frame["status"]) == {"completed", "stopped", "diverged", "failed"}
    both = run.trials()
    assert list(both["stage"].unique()) == ["coarse", "fine"]
    assert len(both) == 16 + len(run.trials("fine"))


def test_the_time_of_a_trial_is_that_of_all_its_rungs(run):
    seconds = {}
    for record in run.records("coarse"):
        seconds[record.number] = seconds.get(record.number, 0) + record.result.wall_seconds
    assert dict(zip(run.trials("coarse")["number"], run.trials("coarse")["wall_seconds"], strict=True)) == seconds


def test_curves_have_the_rows_of_every_trial(run):
    frame = run.curves("fine")
    last = last_of_each(run.records("fine"))
    assert len(frame) == sum(len(record.result.curve) for record in last)
    assert {"stage", "number", "trial", "step", "epoch", "split", "loss", "accuracy"} <= set(frame.columns)


def test_a_result_is_result_json(run):
    assert run.result("coarse") == json.loads((run.path / "coarse" / "result.json").read_text())


def test_a_stage_that_is_not_there_is_named(run):
    with pytest.raises(UsageError, match="has no stage 'corse'.*coarse"):
        run.trials("corse")


def test_trials_that_were_changed_by_hand_are_refused(finished):
    opened = tuner.open_run(finished / "runs" / "small")
    assert len(opened.trials()) > 0
    path = finished / "runs" / "small" / "coarse" / "trials.jsonl"
    path.write_text(path.read_text().replace('"score"', '"scare"', 1))
    with pytest.raises(InputError, match=r"coarse/trials.jsonl was changed after it was written"):
        opened.trials()


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(InputError, match="no run of tuner lies there"):
        tuner.open_run(tmp_path)


def test_studies_can_be_loaded_back(run, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    assert run.to_optuna(url) == ["r/coarse", "r/fine"]
    study = optuna.load_study(study_name="r/coarse", storage=url)
    states = optuna.trial.TrialState
    kinds = {"completed": states.COMPLETE, "stopped": states.PRUNED, "diverged": states.FAIL, "failed": states.FAIL}
    records = last_of_each(run.records("coarse"))
    assert [trial.state for trial in study.trials] == [kinds[record.result.status] for record in records]
    for trial, record in zip(study.trials, records, strict=True):
        assert trial.user_attrs["trial"] == record.result.id
        assert trial.params["optimizer.lr"] == record.params["optimizer.lr"]
        if trial.state == states.COMPLETE:
            assert trial.value == pytest.approx(record.result.score)
        if trial.state != states.FAIL:
            assert max(trial.intermediate_values.values()) == pytest.approx(record.result.score)
    assert study.best_trial.value == max(
        record.result.score for record in records if record.result.status == "completed"
    )
    kept = study.trials[1].distributions  # the first is the recipe's own, which has no depth
    assert isinstance(kept["model.depth"], optuna.distributions.IntDistribution)
    assert kept["model.act"].choices == ("relu", "[1, 2]")
    assert kept["optimizer.lr"].log
    assert all(kept[key] == value for trial in study.trials for key, value in trial.distributions.items())


def test_a_second_export_says_how_to_replace_the_first(run, tmp_path):
    storage = str(tmp_path / "study.db")  # a path is an SQLite file
    run.to_optuna(storage)
    with pytest.raises(UsageError, match="has the study r/coarse, r/fine already") as caught:
        run.to_optuna(storage)
    assert "--replace" in caught.value.hint
    assert run.to_optuna(storage, replace=True) == ["r/coarse", "r/fine"]
    assert len(optuna.load_study(study_name="r/coarse", storage=f"sqlite:///{storage}").trials) == 16


def test_an_interrupted_search_is_exported_without_its_space(run, tmp_path):
    (run.path / "fine" / "result.json").unlink()
    storage = str(tmp_path / "study.db")
    run.to_optuna(storage)
    study = optuna.load_study(study_name="r/fine", storage=f"sqlite:///{storage}")
    assert len(study.trials) == len(last_of_each(run.records("fine")))


def test_a_monitor_that_is_minimised_is_turned(run, tmp_path):
    lines = [json.loads(line) for line in (run.path / "coarse" / "trials.jsonl").read_text().splitlines()]
    for line in lines:
        line["item"]["spec"]["tables"]["train"] |= {"monitor": "val_loss", "monitor_mode": "min"}
    (run.path / "coarse" / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.to_optuna(str(tmp_path / "study.db"))
    study = optuna.load_study(study_name="r/coarse", storage=f"sqlite:///{tmp_path / 'study.db'}")
    record: Record = last_of_each(run.records("coarse"))[0]
    losses = {row["epoch"]: -row["loss"] for row in record.rows("val")}
    assert study.trials[0].intermediate_values == losses


def test_a_storage_that_cannot_be_opened_is_said(run, tmp_path):
    with pytest.raises(EnvironmentProblem, match="cannot open the storage") as caught:
        run.to_optuna(str(tmp_path / "missing" / "study.db"))
    assert "sqlite:///study.db" in caught.value.hint


def test_a_run_without_a_search_has_nothing_to_export(tmp_path):
    RunDir(tmp_path).stage("check-init").begin({"name": "r"})
    with pytest.raises(InputError, match="no trials of coarse or fine"):
        tuner.open_run(tmp_path).to_optuna(str(tmp_path / "study.db"))


def test_the_command_writes_studies_and_names_them(finished, command, tmp_path):
    done = command("export", "small.toml", "--optuna", "sqlite:///study.db")
    assert done.code == 0 and "wrote the study small/coarse to sqlite:///study.db" in done.out
    assert "small/coarse" in [
        s.study_name for s in optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 'study.db'}")
    ]
    again = command("export", "small.toml", "--optuna", "sqlite:///study.db")
    assert again.code == 2 and "--replace" in again.err
    assert json.loads(command("export", "small.toml", "--optuna", "study.db", "--replace", "--json").out) == [
        "small/coarse",
        "small/fine",
    ]
