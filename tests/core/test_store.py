"""The run folder: whole files, torn lines, locks, refusals."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from tuner.core.errors import EnvironmentProblem, InputError
from tuner.core.result import Record, TrialError, TrialResult
from tuner.core.safe_files import refuse_links
from tuner.core.store import RunDir, StageDir, drop_torn_line, of_the_disk, read_json, write_bytes, write_json
from tuner.core.trial import TrialSpec, WorkItem


def record(number, until=None, score=0.5, **spec):
    spec = TrialSpec(tables={}, overrides={"optimizer.lr": 0.1 * (number + 1)}, seed=0, horizon_epochs=3, **spec)
    curve = [
        {"step": 5, "epoch": 1, "split": "train", "loss": 1.5, "accuracy": 0.25, "lr": 0.1},
        {"step": 5, "epoch": 1, "split": "val", "loss": 1.25, "accuracy": 0.5},
    ]
    result = TrialResult(spec.id, until, "completed", curve, score=score, best_epoch=1, wall_seconds=2.0)
    return Record(WorkItem(spec, number, until), result)


def test_records_come_back_as_they_were(tmp_path):
    stage = StageDir(tmp_path / "coarse")
    stage.begin({"name": "r"})
    for number in (1, 0):
        stage.append(record(number))
    assert stage.records() == [Record.from_json(json.loads(json.dumps(record(n).to_json()))) for n in (1, 0)]


def test_torn_last_line_is_dropped_and_the_next_append_is_whole(tmp_path):
    stage = StageDir(tmp_path)
    stage.append(record(0))
    with open(stage.trials_path, "a") as file:
        file.write('{"item": {"num')
    assert [r.number for r in stage.records()] == [0]
    stage.append(record(1))
    assert [r.number for r in stage.records()] == [0, 1]


def test_damaged_line_in_the_middle_is_refused_with_its_number(tmp_path):
    stage = StageDir(tmp_path)
    stage.append(record(0))
    stage.append(record(1))
    lines = stage.trials_path.read_text().splitlines()
    stage.trials_path.write_text("\n".join(["{broken", lines[1]]) + "\n")
    with pytest.raises(InputError, match=r"trials.jsonl:1: not a finished trial"):
        stage.records()


def test_trials_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "trials.jsonl").mkdir()
    with pytest.raises(InputError, match=r"trials.jsonl: cannot be read \(Is a directory\)"):
        StageDir(tmp_path).records()


def test_trials_csv_has_one_sorted_row_per_trial_with_the_last_rung(tmp_path):
    import pandas

    stage = StageDir(tmp_path)
    stage.rewrite([record(1), record(0, score=0.75), record(0, until=1, score=0.25), record(0, until=2, score=0.5)])
    table = pandas.read_csv(tmp_path / "trials.csv")
    assert table["number"].tolist() == [0, 1]
    assert table["score"].tolist() == [0.75, 0.5]
    assert table["wall_seconds"].tolist() == [6.0, 2.0]
    assert table["optimizer.lr"].tolist() == [0.1, 0.2]
    assert table["best_val_loss"].tolist() == [1.25, 1.25]
    curve = pandas.read_csv(tmp_path / "curves" / f"{record(0).result.id}.csv")
    assert list(curve.columns) == ["step", "epoch", "split", "loss", "accuracy", "lr"]


def test_rewrite_drops_curves_of_trials_that_are_gone(tmp_path):
    stage = StageDir(tmp_path)
    stage.append(record(0))
    stage.append(record(1))
    stage.rewrite([record(1)])
    assert [path.stem for path in (tmp_path / "curves").glob("*")] == [record(1).result.id]


def test_error_of_a_trial_is_in_its_row(tmp_path):
    broken = record(0)
    result = TrialResult(broken.result.id, None, "failed", error=TrialError("oom", "too big\nmore"))
    StageDir(tmp_path).rewrite([Record(broken.item, result)])
    assert "oom: too big" in (tmp_path / "trials.csv").read_text()


def test_json_has_null_for_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.0]})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [None, 1.0]}


def test_broken_json_is_refused_by_name(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="result.json: not readable as JSON"):
        read_json(tmp_path / "result.json")
    with pytest.raises(InputError, match="absent.json: missing"):
        read_json(tmp_path / "absent.json")


def test_full_disk_is_named_and_leaves_the_old_file():
    with pytest.raises(EnvironmentProblem, match="cannot write /dev/full/x"):
        write_bytes(Path("/dev/full/x"), b"x")


def test_no_space_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"kept": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match="No space left") as caught:
        write_json(path, 2)
    assert "Free some space" in caught.value.hint
    assert read_json(path) == {"kept": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_append_on_a_full_disk_leaves_the_file_readable(tmp_path, monkeypatch):
    stage = StageDir(tmp_path)
    stage.append(record(0))
    real = os.fsync
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) > 1:  # the curve is written, the line is not
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match="trials.jsonl"):
        stage.append(record(1))
    monkeypatch.undo()
    assert [r.number for r in stage.records()] == [0]


def hold(path, ready, done):
    with RunDir(path).locked("tuner coarse x"):
        ready.set()
        done.wait(10)


def test_lock_names_its_holder_and_dies_with_it(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(10)
    with (
        pytest.raises(InputError, match=rf"in use by process {process.pid} on .*: tuner coarse x"),
        RunDir(tmp_path).locked("me"),
    ):
        pass
    process.kill()
    process.join()
    with RunDir(tmp_path).locked("me"):
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()


def test_what_killed_writers_left_anywhere_in_a_run_is_deleted_when_it_is_locked(tmp_path):
    left = [".winner.json.9.tmp", "coarse/.result.json.9.tmp", "coarse/checkpoints/.a.pt.arrived.tmp"]
    kept = ["winner.json", "coarse/.attempts.json", "user/data.tmp"]
    for name in (*left, *kept):
        write_bytes(tmp_path / name, b"x")
    with RunDir(tmp_path).locked("tuner run"):
        assert [name for name in (*left, *kept) if (tmp_path / name).exists()] == kept


def test_a_folder_that_another_command_deletes_meanwhile_is_no_reason_to_refuse_the_run(tmp_path, monkeypatch):
    (tmp_path / "coarse/plots").mkdir(parents=True)
    scandir = os.scandir

    def deleted(folder):
        if str(folder).endswith("plots"):
            raise FileNotFoundError(2, "No such file or directory")
        return scandir(folder)

    monkeypatch.setattr("tuner.core.safe_files.os.scandir", deleted)
    refuse_links(tmp_path)


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "Make the folder"), (errno.EIO, "Look at")]
)
def test_an_error_of_the_disk_is_known_wherever_it_was_met(number, hint):
    problem = of_the_disk(OSError(number, os.strerror(number), "runs/a"))
    assert problem.message == f"runs/a: {os.strerror(number)}" and problem.hint.startswith(hint)
    assert of_the_disk(FileNotFoundError(errno.ENOENT, "No such file")) is None and of_the_disk(KeyError(28)) is None


def test_keep_checkpoints_deletes_the_others(tmp_path):
    stage = StageDir(tmp_path)
    for name in ("a.pt", "b.pt", "b.state.pt"):
        write_bytes(tmp_path / "checkpoints" / name, b"x")
    stage.keep_checkpoints({"a"})
    assert os.listdir(tmp_path / "checkpoints") == ["a.pt"]


def test_drop_torn_line_of_a_file_without_newline(tmp_path):
    path = tmp_path / "x"
    path.write_text("torn")
    drop_torn_line(path)
    assert path.read_text() == ""


def damaged(change):
    """A line of trials.jsonl with one thing changed."""
    line = json.loads(json.dumps(record(0).to_json()))
    change(line)
    return json.dumps(line) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda line: line["result"].update(id="../../../pwned"),
            r"its id is '\.\./\.\./\.\./pwned', not",
        ),
        (lambda line: line["result"].update(id="A" * 10**6), r"its id is 'AAAA.* \.\.\. A*', not 12 hex digits"),
        (lambda line: line["result"].update(status="done"), "its status is 'done'"),
        (lambda line: line["result"].update(score="high"), "score is 'high'"),
        (lambda line: line["result"].update(wall_seconds=None), "wall_seconds is None"),
        (lambda line: line["result"].update(curve=[{"step": 1}]), "a row of its curve is"),
        (lambda line: line["result"]["curve"][0].update(loss=[1]), "a row of its curve is"),
        (lambda line: line["result"].update(evidence={"a": 3}), "its evidence holds no tables"),
        (lambda line: line["result"].update(error={"kind": "strange", "message": ""}), "its error is"),
        (lambda line: line["result"].update(more=1), "TypeError: .* unexpected keyword argument 'more'"),
        (lambda line: line["item"].update(number="1"), "number is '1'"),
        (lambda line: line["item"]["spec"].update(tables={"model": 3}), "a table of its recipe is none"),
        (lambda line: line["item"].pop("spec"), "it has no 'spec'"),
        (lambda line: line.pop("item"), "it has no item and result"),
    ],
)
def test_a_line_that_is_no_finished_trial_is_refused(tmp_path, change, message):
    (tmp_path / "trials.jsonl").write_text(damaged(lambda line: None) + damaged(change))
    with pytest.raises(InputError, match=rf"trials\.jsonl:2: not a finished trial \({message}") as caught:
        StageDir(tmp_path).records()
    assert len(str(caught.value)) < 1000


def test_trials_behind_a_link_are_not_read(tmp_path):
    (tmp_path / "elsewhere").write_text(damaged(lambda line: None))
    (tmp_path / "trials.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"trials\.jsonl: cannot be read"):
        StageDir(tmp_path).records()


def test_equal_tables_of_many_trials_are_one_object(tmp_path):
    tables = {"model": {"name": "mlp", "width": 3}, "loss": {"name": "cross_entropy"}}
    for number in range(2):
        item = record(number).item
        spec = TrialSpec(tables=tables, overrides=item.spec.overrides, seed=number, horizon_epochs=3)
        StageDir(tmp_path).append(Record(WorkItem(spec, number), TrialResult(spec.id, None, "completed")))
    one, two = StageDir(tmp_path).records()
    assert one.item.spec.tables["model"] is two.item.spec.tables["model"]
    assert one.item.spec.tables == tables


def test_rewriting_syncs_nothing_for_curves_that_are_there_and_all_others_together(tmp_path, monkeypatch):
    stage = StageDir(tmp_path)
    records = [record(number) for number in range(20)]
    for one in records[:10]:
        stage.append(one)
    synced, together = [], []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(handle))
    monkeypatch.setattr(os, "sync", lambda: together.append(1))
    stage.rewrite(records)
    assert len(synced) == 2 and together == [1]  # trials.jsonl and trials.csv
    stage.rewrite(records)
    assert together == [1] and len(list((tmp_path / "curves").glob("*.csv"))) == 20


def test_a_text_that_a_spreadsheet_would_compute_is_quoted_in_trials_csv(tmp_path):
    spec = TrialSpec(tables={}, overrides={"model.name": "=cmd|' /C calc'!A0"}, seed=0, horizon_epochs=1)
    StageDir(tmp_path).rewrite([Record(WorkItem(spec, 0), TrialResult(spec.id, None, "completed"))])
    assert "'=cmd|' /C calc'!A0" in (tmp_path / "trials.csv").read_text()


@pytest.mark.parametrize("content", ['{"a": 1e999}', "[" * 100 + "]" * 100, '{"a": NaN}', "\0"])
def test_an_artifact_of_strange_json_is_named(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"result\.json: not (readable as JSON|what tuner wrote)"):
        read_json(tmp_path / "result.json")


def test_an_artifact_that_is_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(InputError, match=r"result\.json: not readable as JSON \(not a regular file\)"):
        read_json(tmp_path / "result.json")


@pytest.mark.parametrize("name", ["lock", "coarse", "coarse/trials.jsonl"])
def test_a_run_with_links_in_it_is_not_locked_and_what_they_lead_to_is_whole(tmp_path, name):
    (tmp_path / "precious").write_text("content")
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match=rf"run/{name}: is a link"), RunDir(tmp_path / "run").locked("tuner run"):
        pass
    assert (tmp_path / "precious").read_text() == "content"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Traceback (most recent call last):\n  File x\nKeyError: 3", "KeyError: 3"),
        ("my.py:3: ValueError: no\n  frames", "my.py:3: ValueError: no"),
        ("", "no message"),
    ],
)
def test_the_line_of_an_error_is_the_one_that_says_what_happened(message, line):
    from tuner.core.result import TrialError

    assert TrialError("crash", message).line == line
