"""Faults as the user meets them: exit codes, what is kept, and that the same command goes on."""

import contextlib
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import tuner
from tests.equal import differences
from tuner import stages
from tuner.core.errors import EnvironmentProblem, InputError, UserCodeError
from tuner.core.result import Record, TrialError, TrialResult
from tuner.core.store import StageDir, sha256
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.file import load_recipe
from tuner.workflow.failures import first_fail_alike, raise_hopeless
from tuner.workflow.freshness import Session
from tuner.workflow.options import Options

FRAGILE = """
from pathlib import Path
from torch import nn

class Fragile(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers, self.seen = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)), 0
    def forward(self, inputs):
        self.seen += 1
        fault = Path(__file__).with_name("fault")
        if self.seen > 10 and fault.exists():
            raise {"user": ValueError, "memory": MemoryError}[fault.read_text()](f"after {self.seen}")
        return self.layers(inputs)

def build(input_shape, num_classes):
    return Fragile(num_classes)
"""


def until_sweep(folder):
    """Take away what the finished run has after lr-sweep."""
    run = folder / "runs" / "small"
    for name in ("coarse", "fine", "diagnose", "test"):
        shutil.rmtree(run / name)
    (run / "winner.json").unlink()
    return run


@pytest.fixture
def fragile(recipe, command, tmp_path):
    """A recipe whose model works, until a file says otherwise, and its steps 1 to 3."""
    (tmp_path / "m.py").write_text(FRAGILE)
    options = ("small.toml", "--set", "model={name='m.py:build'}")
    assert command("run", *options, "--through", "lr-sweep").code == 0
    return options


# -- a stage whose trials all fail ----------------------------------------------------------------------------------


def test_user_code_that_fails_in_the_first_trials_ends_the_stage_with_4(fragile, command, tmp_path):
    (tmp_path / "fault").write_text("user")
    done = command("coarse", *fragile, "--trials", "12")
    assert done.code == 4
    assert f"{tmp_path}/m.py:13" in done.err and "ValueError: after 11" in done.err
    trials = (tmp_path / "runs/small/coarse/trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"]["number"] for line in trials] == [0, 1, 2, 3]
    assert not (tmp_path / "runs/small/coarse/manifest.json").exists()


def test_memory_that_runs_out_in_the_first_trials_is_the_verdict(fragile, command, tmp_path):
    (tmp_path / "fault").write_text("memory")
    done = command("coarse", *fragile, "--trials", "12")
    assert done.code == 1
    assert "coarse stops early: its first 4 trials all failed in the same way" in done.err
    result = json.loads((tmp_path / "runs/small/coarse/result.json").read_text())
    assert (result["verdict"], result["findings"][0]["cause"]) == ("fail", "all-trials-failed")
    assert "4 oom: out of memory: after 11" in result["findings"][0]["title"]


def failed(number, kind="crash", message="it died after 3.5 s"):
    item = WorkItem(TrialSpec({}, {"n": number}, 0), number)
    return Record(item, TrialResult(item.spec.id, None, "failed", error=TrialError(kind, message)))


def test_first_trials_fail_alike_by_kind_and_message_whatever_the_numbers_in_it():
    records = [failed(number, message=f"it died after {number}.5 s\nmore") for number in range(4)]
    assert first_fail_alike([*records[::-1], failed(7, "oom")]) == records
    assert first_fail_alike(records[:3]) == []
    assert first_fail_alike([*records[:3], failed(4)]) == []
    assert first_fail_alike([*records[:3], failed(3, "oom")]) == []
    assert first_fail_alike([*records[:3], failed(3, message="something else")]) == []
    sound = Record(records[0].item, TrialResult("", None, "completed"))
    diverged = Record(records[0].item, TrialResult("", None, "diverged"))
    assert first_fail_alike([sound, *records[1:]]) == first_fail_alike([diverged, *records[1:]]) == []


def test_failures_end_the_command_by_their_kind():
    for kind, error in (("user-code", UserCodeError), ("data", InputError)):
        with pytest.raises(error, match="it died"):
            raise_hopeless("coarse", [failed(0, kind), failed(1, kind)], every=True)
    with pytest.raises(EnvironmentProblem, match="lr-sweep: a trial failed"):
        raise_hopeless("lr-sweep", [failed(0)], every=True)
    raise_hopeless("coarse", [failed(0), failed(1)], every=True)
    raise_hopeless("coarse", [failed(0, "data"), failed(1, "user-code")], every=True)


@pytest.mark.slow
def test_a_deadline_must_be_positive_and_reaches_the_workers(recipe, command, tmp_path):
    done = command("check-init", "small.toml", "--deadline", "0")
    assert (done.code, "--deadline: must be more than 0 seconds (got 0)" in done.err) == (2, True)
    (tmp_path / "m.py").write_text("import time\n\ndef build(input_shape, num_classes):\n    time.sleep(60)\n")
    options = ("--set", "model={name='m.py:build'}", "--deadline", "5", "--workers", "1")
    done = command("check-init", "small.toml", *options, serial=False)
    assert done.code == 5
    assert f"no sign of life for 5 seconds while the recipe was checked, stuck at {tmp_path}/m.py:4" in done.err


# -- the disk -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(size):
    """Mount a small disk; only root may."""
    path = Path("/mnt") / f"tuner-test-{os.getpid()}"
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


def test_a_full_disk_at_any_write_ends_with_5_and_the_same_command_goes_on(finished_run, finished, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(finished / "cache"))
    command = ("coarse", "small.toml", "--workers", "0")
    with small_disk("4m") as disk:
        run = until_sweep(finished)
        said = set()
        for free in (0, 6000, 20_000, 30_000, 45_000, 70_000):
            shutil.copytree(run, disk / "run")
            stat = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - free)))
            done = tuner(*command, "--run-dir", disk / "run", cwd=finished)
            assert done.code == 5, (free, done.out + done.err)
            assert "No space left on device" in done.err and "Traceback" not in done.err
            said.add(done.err.partition("error: ")[2].split(": ")[0].split("/run/")[-1])
            (disk / "filler").unlink()
            StageDir(disk / "run/coarse").records()
            done = tuner(*command, "--run-dir", disk / "run", cwd=finished)
            assert done.code == 0, done.out + done.err
            assert [text for text in differences(finished_run / "runs/small", disk / "run") if "coarse" in text] == []
            shutil.rmtree(disk / "run")
        assert len(said) >= 3, said  # several writes were hit


def test_a_read_only_disk_ends_with_5(finished, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(finished / "cache"))
    with small_disk("1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = tuner("check-init", "small.toml", "--workers", "0", "--run-dir", disk / "run", cwd=finished)
        assert done.code == 5
        assert f"cannot write {disk}/run: Read-only file system" in done.err
        monkeypatch.setenv("TUNER_CACHE", str(disk / "cache"))
        done = tuner("check-init", "small.toml", "--workers", "0", "--fresh", cwd=finished)
        assert (done.code, "Set TUNER_CACHE to a folder that can be written" in done.err) == (5, True)


def test_decoded_data_that_do_not_fit_on_the_disk_end_with_5(finished, monkeypatch):
    with small_disk("100k") as disk:
        monkeypatch.setenv("TUNER_CACHE", str(disk))
        done = tuner("check-init", "small.toml", "--workers", "0", "--fresh", cwd=finished)
        assert done.code == 5
        assert "disk full: the decoded data need 115 kB" in done.err


def limited(folder, largest):
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    os._exit(tuner("coarse", "small.toml", "--workers", "0", cwd=folder).code)


def test_a_checkpoint_that_cannot_be_written_whole_ends_with_5(finished, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(finished / "cache"))
    tuner("check-init", "small.toml", "--workers", "0", "--fresh", "--force", cwd=finished)
    run = until_sweep(finished)
    shutil.copy(run / "check-init/manifest.json", finished)
    process = multiprocessing.get_context("fork").Process(target=limited, args=(finished, 8000))
    process.start()
    process.join(60)
    assert process.exitcode == 5
    assert not list((run / "coarse").rglob("*.pt*"))
    assert tuner("coarse", "small.toml", "--workers", "0", cwd=finished).code == 0


# -- signals and pipes ----------------------------------------------------------------------------------------------


def start(folder, *arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", *arguments], cwd=folder, text=True, start_new_session=True, **pipes
    )


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_second_signal_stops_at_once_and_shows_no_traceback(finished, number):
    trials = finished / "runs/small/coarse/trials.jsonl"
    process = start(finished, "coarse", "small.toml", "--trials", "40", "--epochs", "90", "--workers", "1")
    deadline = time.monotonic() + 60
    while len(trials.read_text().splitlines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(2):
        os.killpg(process.pid, number)
        time.sleep(0.001)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in out + err
    for line in trials.read_text().splitlines():
        json.loads(line)


@pytest.mark.slow
def test_a_reader_that_goes_away_costs_no_stage(recipe, tmp_path):
    process = start(tmp_path, "run", "small.toml", "--through", "overfit", "--workers", "1")
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 0, err
    assert "Traceback" not in err and "BrokenPipe" not in err
    assert (tmp_path / "runs/small/overfit/manifest.json").exists()


# -- artifacts that somebody changed --------------------------------------------------------------------------------


def test_a_checkpoint_that_would_run_code_is_refused_by_name(finished, command):
    class Marker:
        def __reduce__(self):
            return Path.touch, (finished / "ran",)

    run = finished / "runs/small"
    path = run / json.loads((run / "winner.json").read_text())["checkpoint"]
    torch.save({"model": Marker()}, path)
    manifest = json.loads((run / "fine/manifest.json").read_text())
    manifest["outputs"][f"checkpoints/{path.name}"] = sha256(path)
    (run / "fine/manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(run / "test")
    done = command("test", "small.toml", "--force")
    assert done.code == 3
    assert f"checkpoints/{path.name}: not a checkpoint of tensors and plain values" in done.err
    assert not (finished / "ran").exists()


@pytest.mark.parametrize("content", ["torn", "foreign", "another trial", "code"])
def test_a_saved_state_that_is_no_use_is_noted_and_the_trial_starts_over(finished_run, finished, command, content):
    run = until_sweep(finished)
    first = json.loads((finished_run / "runs/small/coarse/trials.jsonl").read_text().splitlines()[0])["result"]["id"]
    path = run / f"coarse/checkpoints/{first}.state.pt"
    path.parent.mkdir(parents=True)
    if content == "torn":
        path.write_bytes(b"PK\x03\x04half")
    elif content == "code":
        path.write_bytes(pickle.dumps({"model": Path.cwd}))
    else:
        spec_id = first if content == "foreign" else "0" * 12
        torch.save({"spec_id": spec_id, "epoch": 1, "model": {"w": torch.zeros(2)}}, path)
    done = command("coarse", "small.toml")
    assert done.code == 0, done.err
    assert f"trial 0 starts over: {path}" in done.err
    assert [text for text in differences(finished_run / "runs/small", run) if "coarse" in text] == []


# -- the cache ------------------------------------------------------------------------------------------------------


def test_cache_lists_what_is_there_and_clears_it(recipe, command, tmp_path):
    assert command("check-init", "small.toml").code == 0
    listed = command("cache")
    assert listed.code == 0
    assert "115 kB  decoded" in listed.out and "digits" in listed.out and str(tmp_path / "cache") in listed.out
    entries = json.loads(command("cache", "--json").out)
    assert [entry["source"] for entry in entries] == ["digits", "digits-labels"]
    assert entries[0]["size_bytes"] == 1797 * 64 + 128
    assert 0 <= entries[0]["age_seconds"] < 60
    assert "130 kB deleted from" in command("cache", "--clear").out
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []
    assert json.loads(command("cache", "--json").out) == []


LINEAR = """
from torch import nn
def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture
def mine(recipe):
    """The file of the model that the recipe names."""
    path = recipe.with_name("mine.py")
    path.write_text(LINEAR)
    recipe.write_text(recipe.read_text().replace('name = "mlp"\nwidth = 32\ndepth = 1', 'name = "mine.py:build"'))
    return path


def test_a_user_file_that_is_changed_while_a_command_runs_ends_it_and_runs_again(mine, command, monkeypatch):
    assert command("run", "small.toml", "--through", "lr-sweep").code == 0
    append, appended = StageDir.append, []

    def append_and_edit(folder, record):
        append(folder, record)
        appended.append(record.result.id)
        mine.write_text(LINEAR.replace("nn.Linear", "nn.Dropout(0.1), nn.Linear"))

    with monkeypatch.context() as patched:
        patched.setattr(StageDir, "append", append_and_edit)
        done = command("coarse", "small.toml")
    assert done.code == 3 and "mine.py was changed while the command ran: which trials ran the new file" in done.err
    assert len(appended) == 1  # the second trial had ended by then, and is in doubt
    mine.write_text(LINEAR)
    assert command("coarse", "small.toml").code == 0
    lines = (mine.parent / "runs/small/coarse/trials.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["result"]["id"] == appended[0] and len(lines) == 2


def test_a_user_file_that_is_written_again_as_it_was_changes_nothing_and_one_that_is_gone_does(mine):
    recipe = mine.with_name("small.toml")
    session = Session(
        recipe, load_recipe(recipe, settings=stages.settings_models()), Options(mine.parent / "runs/small")
    )
    session.check_user_files()
    mine.write_text(LINEAR)
    session.check_user_files()
    mine.unlink()
    with pytest.raises(InputError, match=r"mine\.py was changed while the command ran"):
        session.check_user_files()
