"""Trackers: what `--log` writes is what the run's own curves say, while it runs and at its end."""

import sys
from dataclasses import replace

import pytest

import tuner
from tests.conftest import refused
from tuner.core.result import Record, TrialResult, last_of_each
from tuner.core.stage_ref import StageRef
from tuner.core.trial import Progress, TrialSpec, WorkItem
from tuner.workflow.trackers import Journal, trackers

CURVE = [
    {"step": 4, "epoch": 1, "split": "train", "loss": 1.5, "lr": 0.1},
    {"step": 4, "epoch": 1, "split": "val", "loss": 1.25, "accuracy": 0.5},
    {"step": 8, "epoch": 2, "split": "train", "loss": 1.0, "lr": 0.05},
    {"step": 8, "epoch": 2, "split": "val", "loss": 0.75, "accuracy": 0.625},
]
ITEM = WorkItem(TrialSpec({"train": {}}, {"optimizer.lr": 0.1}, 3, horizon_epochs=2), 7)
RECORD = Record(ITEM, TrialResult(ITEM.spec.id, None, "completed", CURVE, score=0.625, best_epoch=2))


class Noted:
    """A tracker that writes down what it hears."""

    def __init__(self):
        self.heard = []

    def begin(self, trial):
        self.heard.append(("begin", trial.name, dict(trial.params)))

    def row(self, trial, step, values):
        self.heard.append((step, values))

    def end(self, trial, record):
        self.heard.append(("end", record.result.status))

    def close(self):
        self.heard.append("close")


def told(tracker):
    """Tell a tracker of the trial: its first epoch while it runs, the rest at its end."""
    journal = Journal([tracker])
    journal.expect(StageRef("coarse"), [ITEM])
    journal.hear(Progress(7, 0.5, "epoch 1/2", rows=CURVE[:2]))
    journal.end(RECORD)
    journal.close()
    return tracker


def test_each_row_is_told_once_the_first_epoch_s_while_the_trial_runs():
    heard = told(Noted()).heard
    assert heard[0] == ("begin", f"coarse-007-{ITEM.spec.id[:6]}", {"optimizer.lr": 0.1, "seed": 3})
    assert heard[1:5] == [
        (4, {"train/loss": 1.5, "train/lr": 0.1}),
        (4, {"val/loss": 1.25, "val/accuracy": 0.5}),
        (8, {"train/loss": 1.0, "train/lr": 0.05}),
        (8, {"val/loss": 0.75, "val/accuracy": 0.625}),
    ]
    assert heard[5:] == [("end", "completed"), "close"]


def test_news_without_rows_and_of_other_trials_are_not_told():
    tracker = Noted()
    journal = Journal([tracker])
    journal.expect(StageRef("coarse"), [ITEM])
    journal.hear(Progress(7, 0.1, "epoch 1/2"))
    journal.hear(Progress(8, 0.1, "epoch 1/2", rows=CURVE[:1]))
    assert tracker.heard == []


def test_a_trial_that_goes_on_at_a_rung_begins_once():
    tracker = Noted()
    journal = Journal([tracker])
    short = replace(ITEM, until_epoch=1)
    journal.expect(StageRef("coarse"), [short])
    journal.end(Record(short, replace(RECORD.result, until_epoch=1, status="stopped", curve=CURVE[:2])))
    journal.expect(StageRef("coarse"), [ITEM])
    journal.end(RECORD)
    assert [item[0] for item in tracker.heard] == ["begin", 4, 4, "end", 8, 8, "end"]


def scalars(folder):
    """{tag: [(step, value)]} of TensorBoard's own reader."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_curve(tmp_path):
    pytest.importorskip("tensorboard")
    told(trackers(["tensorboard"], tmp_path, "mine")[0])
    found = scalars(tmp_path / "tensorboard" / f"coarse-007-{ITEM.spec.id[:6]}")
    assert found["val/loss"] == [(4, 1.25), (8, 0.75)]
    assert found["val/accuracy"] == [(4, 0.5), (8, 0.625)]
    assert [step for step, _ in found["train/lr"]] == [4, 8]
    assert [value for _, value in found["train/lr"]] == pytest.approx([0.1, 0.05])
    assert found["score"] == [(0, 0.625)]


def test_mlflow_reads_the_curve(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    told(trackers(["mlflow"], tmp_path, "mine")[0])
    client = mlflow.tracking.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"optimizer.lr": "0.1", "seed": "3"}
    history = client.get_metric_history(run.info.run_id, "val/loss")
    assert [(item.step, item.value) for item in history] == [(4, 1.25), (8, 0.75)]
    assert run.data.metrics["score"] == 0.625


def test_wandb_gets_the_curve_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    told(trackers(["wandb"], tmp_path, "mine")[0])
    wandb.teardown()  # it writes behind our backs, and here to the end
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert all(word in content for word in (b"val/loss", b"train/lr", b"optimizer.lr", b"score"))


def test_a_run_s_event_files_say_what_its_curves_say(finished, command):
    pytest.importorskip("tensorboard")
    done = command("coarse", "small.toml", "--fresh", "--log", "tensorboard")
    assert done.code == 0, done.err
    folders = sorted((finished / "runs/small/tensorboard").glob("coarse-*"))
    stored = last_of_each(tuner.open_run(finished / "runs/small").records("coarse"))
    records = {record.result.id[:6]: record for record in stored}
    assert len(folders) == len(records) > 1
    for folder in folders:
        record = records[folder.name.rsplit("-", 1)[1]]
        expected = [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in record.rows("val")]
        assert scalars(folder)["val/loss"] == expected and expected


def test_an_unknown_tracker_and_one_that_is_not_installed_are_refused(recipe, command, monkeypatch):
    refused(command("run", "small.toml", "--log", "tensorbord"), 2, "unknown tracker 'tensorbord'", "tensorboard")
    monkeypatch.setitem(sys.modules, "wandb", None)
    refused(command("run", "small.toml", "--log", "wandb"), 5, "--log wandb needs wandb", "tuner[log]")
