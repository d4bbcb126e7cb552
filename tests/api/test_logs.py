"""Logs of trainings that tuner never saw: as other libraries write them, judged, and kept as a run."""

import csv
import json
import math
from pathlib import Path

import pytest

from tuner.api.log_reading import curve_of, read_log
from tuner.api.logs import diagnose_log, judged
from tuner.core.errors import InputError, UsageError

LOGS = Path(__file__).parent / "logs"
KERAS = "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\n" + "\n".join(
    f"{e},{0.5 + 0.1 * e},0.001,{1 / (1 + e)},{0.5 + 0.05 * e},{1.2 / (1 + e)}" for e in range(4)
)


def split(curve, name, key="loss"):
    return [row[key] for row in curve if row["split"] == name]


def test_lightnings_rows_of_steps_epochs_and_rates_become_one_row_per_epoch():
    curve = curve_of(read_log(LOGS / "lightning.csv"))
    rows = list(csv.DictReader((LOGS / "lightning.csv").open()))
    assert split(curve, "val") == [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert split(curve, "train") == [float(row["train_loss_epoch"]) for row in rows if row["train_loss_epoch"]]
    assert split(curve, "train", "lr") == [float(row["lr-Adam"]) for row in rows if row["lr-Adam"]][:6]
    assert [row["step"] for row in curve if row["split"] == "val"] == [15, 31, 47, 63, 79, 95]


def test_hugging_faces_last_row_of_means_is_not_taken_for_an_epoch():
    state = json.loads((LOGS / "trainer_state.json").read_text())
    history = state["log_history"]
    assert "train_loss" in history[-1]  # the mean of the whole training
    curve = curve_of(read_log(LOGS / "trainer_state.json"))
    assert split(curve, "val") == [row["eval_loss"] for row in history if "eval_loss" in row]
    last = [row["loss"] for row in history if "loss" in row and row["epoch"] > 5]
    assert split(curve, "train")[-1] == pytest.approx(sum(last) / len(last))


def test_keras_counts_epochs_from_0_and_calls_the_train_columns_plainly(tmp_path):
    (tmp_path / "log.csv").write_text(KERAS)
    curve = curve_of(read_log(tmp_path / "log.csv"))
    assert split(curve, "train") == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert split(curve, "val", "accuracy") == pytest.approx([0.5, 0.55, 0.6, 0.65])
    assert [row["epoch"] for row in curve if row["split"] == "val"] == [1, 2, 3, 4]


def test_several_evaluations_within_an_epoch_are_points_of_the_curve_each():
    rows = [{"step": s, "epoch": s / 100, "loss": 1 - s / 100} for s in range(5, 95, 10)]
    rows += [{"step": s, "epoch": s / 100, "eval_loss": 2 - s / 100} for s in (30, 60, 90)]
    curve = curve_of(rows)
    assert split(curve, "val") == pytest.approx([1.7, 1.4, 1.1])
    assert split(curve, "train") == pytest.approx([0.85, 0.55, 0.25])


def test_a_log_of_steps_alone_is_cut_into_twenty_parts():
    curve = curve_of([{"step": s, "train_loss": 100.0 - s} for s in range(100)])
    assert split(curve, "train") == pytest.approx([98.0 - 5 * k for k in range(20)])


def test_a_loss_that_is_lost_behind_the_last_evaluation_is_an_error():
    rows = [{"step": s, "loss": 2.0 - s / 10} for s in range(1, 9)] + [{"step": 4, "val_loss": 1.5}]
    assert judged(curve_of(rows)).passed
    report = judged(curve_of([*rows, {"step": 9, "loss": math.nan}]))
    assert not report.passed and "CU650" in [finding.code for finding in report.findings]
    assert "not finite from epoch 2 on (it was 1.75)" in str(report)


def test_a_loss_that_never_changes_and_one_that_never_falls_are_told_apart():
    same = judged(curve_of([{"epoch": e, "loss": 2.3} for e in range(1, 7)]))
    assert [finding.code for finding in same.findings if finding.severity == "error"] == ["CU651"]
    flat = judged(curve_of([{"epoch": e, "loss": 2.3 + 0.01 * (-1) ** e} for e in range(1, 9)]))
    assert "CU652" in [finding.code for finding in flat.findings]
    falls = judged(curve_of([{"epoch": e, "loss": 2.3 / e} for e in range(1, 9)]))
    assert not {"CU651", "CU652"} & {finding.code for finding in falls.findings}
    learnt = [{"epoch": e, "loss": 0.1, "val_loss": 0.1, "val_acc": 0.98 + 0.001 * e} for e in range(1, 9)]
    assert "CU652" not in [finding.code for finding in judged(curve_of(learnt)).findings]


def test_a_column_that_is_nearly_a_loss_is_named():
    with pytest.raises(UsageError, match=r"no column of a loss \(it has: trian_loss\) - did you mean 'train_loss'"):
        curve_of([{"trian_loss": 1.0}])


def test_a_log_is_kept_as_a_run_and_judged_again_only_when_it_changed(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(KERAS)
    first = diagnose_log(log, tmp_path / "run")
    folder = tmp_path / "run" / "diagnose"
    assert first.ran and json.loads((folder / "result.json").read_text())["verdict"] == first.result.verdict
    assert (folder / "plots" / "curves.png").is_file() and len(list((folder / "curves").glob("*.csv"))) == 1
    assert not diagnose_log(log, tmp_path / "run").ran
    assert diagnose_log(log, tmp_path / "run", {"target": 0.5}).ran
    log.write_text(KERAS + "\n4,0.9,0.001,0.2,0.7,0.25")
    assert diagnose_log(log, tmp_path / "run", {"target": 0.5}).ran


def test_the_folder_of_another_log_or_of_a_recipe_is_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(KERAS)
    diagnose_log(tmp_path / "a.csv", tmp_path / "run")
    with pytest.raises(InputError, match="has the diagnosis of another log, .*a.csv"):
        diagnose_log(tmp_path / "b.csv", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "diagnose" / "manifest.json").read_text())
    del manifest["made_from"]
    manifest["recipe"] = "mine.toml"
    (tmp_path / "run" / "diagnose" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has a run of the recipe mine.toml"):
        diagnose_log(tmp_path / "a.csv", tmp_path / "run")
