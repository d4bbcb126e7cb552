"""A trial that is sent elsewhere as JSON and bytes, and what comes back."""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import replace

import pytest

from tuner.core.errors import EnvironmentProblem, InputError, UserCodeError
from tuner.core.locks import hold
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute import remote
from tuner.execute.folder import FolderBlobs
from tuner.execute.remote import Answer, Outfit, carry_out, job_of, preflight_in, preflight_of, take_in
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe

MINE = """
from torch import nn

def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture
def item(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/mine.py").write_text(MINE)
    raw = {"name": "t", "data": {"source": "digits"}, "model": {"name": "mine.py:build"}}
    files = {"mine.py": hashlib.sha256(MINE.encode()).hexdigest()}
    spec = TrialSpec(Recipe.model_validate(raw).tables(), {}, seed=0, horizon_epochs=2, user_files=files)
    return WorkItem(spec, 0, 1)


@pytest.fixture
def blobs(tmp_path):
    (tmp_path / "blobs").mkdir()
    return FolderBlobs(tmp_path / "blobs")


def full(blobs, digest, to):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_rung_and_the_rest_give_elsewhere_what_they_give_here(tmp_path, item, blobs, monkeypatch):
    env = TrialEnv(tmp_path / "recipe", tmp_path / "run/coarse")
    first = job_of(item, env, blobs)
    assert first.files == {} and first.user_files == item.spec.user_files
    shutil.copytree(tmp_path / "recipe", tmp_path / "here")
    (tmp_path / "recipe/mine.py").write_text("the recipe's folder is another one there")
    stopped = take_in(carry_out(first, blobs), item, env, blobs)
    assert stopped.status == "stopped"
    state = tmp_path / f"run/coarse/checkpoints/{item.spec.id}.state.pt"
    assert state.exists()

    (tmp_path / "recipe/mine.py").write_text(MINE)
    rest = replace(item, until_epoch=None)
    job = job_of(rest, env, blobs)
    assert sorted(job.files) == [f"coarse/checkpoints/{item.spec.id}{end}" for end in (".pt", ".state.pt")]
    answer = carry_out(job, blobs)
    ended = take_in(answer, rest, env, blobs)
    assert ended.status == "completed" and not state.exists()

    serial = SerialExecutor(Wish("cpu"), lambda progress: None)
    (here,) = serial.run([rest], TrialEnv(tmp_path / "here", tmp_path / "alone/coarse"))
    assert (ended.curve, ended.score) == (here.curve, here.score)

    with monkeypatch.context() as patch:
        patch.setattr(FolderBlobs, "fetch", full)
        with pytest.raises(EnvironmentProblem, match=r"cannot write .*/run/coarse: No space left on device"):
            take_in(answer, rest, env, blobs)
    blobs.drop(next(iter(answer.files.values())))
    (blobs.folder / next(iter(answer.files.values()))).write_bytes(b"torn")
    with pytest.raises(InputError, match="arrived damaged from another machine"):
        take_in(answer, rest, env, blobs)


def test_a_file_outside_the_recipes_folder_is_not_written_elsewhere(tmp_path, item, blobs):
    env = TrialEnv(tmp_path / "recipe", tmp_path / "run/coarse")
    job = job_of(item, env, blobs)
    job = replace(job, recipe_dir=str(tmp_path / "nowhere"), user_files={"../../evil.py": job.user_files["mine.py"]})
    with pytest.raises(InputError, match=r"\.\./\.\./evil\.py: lies outside the folder of the recipe"):
        carry_out(job, blobs)


def test_decoded_data_are_made_on_one_machine_and_sent_to_the_others(tmp_path, item, blobs, monkeypatch):
    env, tables, heard = TrialEnv(tmp_path / "recipe", tmp_path / "run/coarse"), item.spec.tables, []
    job = preflight_of(tables, env, blobs, item.spec.user_files)
    for machine in ("one", "another"):
        monkeypatch.setenv("TUNER_CACHE", str(tmp_path / machine))
        answer = carry_out(job, blobs, Outfit(on_progress=lambda progress, weights: heard.append(progress)))
        job = replace(job, decoded=answer.files)
        assert sorted(path.name for path in (tmp_path / machine / "decoded").glob("*.npy")) == sorted(answer.files)
        assert not preflight_in(answer).problems and len(answer.files) == 2
        made = [progress.note for progress in heard if "of decoded data go into" in progress.note]
        assert len(made) == 2  # images and labels, on the first machine alone
    (blobs.folder / next(iter(answer.files.values()))).write_bytes(b"torn")
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "third"))
    again = carry_out(job, blobs, Outfit(on_progress=lambda progress, weights: heard.append(progress)))
    assert not preflight_in(again).problems  # decoded here


def test_the_folders_of_jobs_that_were_killed_are_deleted_and_those_of_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, age in (("killed", 3600), ("new", 0), ("other", 3600)):
        (tmp_path / f"{remote.WORKPLACE}{name}").mkdir()
        lock = tmp_path / f"{remote.WORKPLACE}{name}/lock"
        lock.write_text("")
        os.utime(lock, (time.time() - age,) * 2)
    with hold(tmp_path / f"{remote.WORKPLACE}other/lock"):
        os.utime(tmp_path / f"{remote.WORKPLACE}other/lock", (0, 0))
        with remote._workplace() as mine:
            there = {path.name.removeprefix(remote.WORKPLACE) for path in tmp_path.iterdir()}
            assert there == {"new", "other", mine.name.removeprefix(remote.WORKPLACE)}
    assert not mine.exists()


@pytest.mark.parametrize("kind", [OSError, KeyError])
def test_what_a_machine_cannot_do_is_told_and_ends_no_other_machine(tmp_path, item, blobs, kind):
    answer = Answer.raised(kind("no space"))
    with pytest.raises(EnvironmentProblem, match=rf"{kind.__name__}: .*no space"):
        take_in(Answer.from_json(answer.to_json()), item, TrialEnv(tmp_path, tmp_path / "run/coarse"), blobs)


def test_what_the_users_code_raises_elsewhere_is_raised_here(tmp_path, item, blobs):
    (tmp_path / "recipe/mine.py").write_text("def build(input_shape, num_classes):\n    raise KeyError('x')\n")
    env = TrialEnv(tmp_path / "recipe", tmp_path / "run/coarse")
    answer = carry_out(preflight_of(item.spec.tables, env, blobs, item.spec.user_files), blobs)
    with pytest.raises(UserCodeError, match=r"mine\.py:2: .*KeyError"):
        preflight_in(answer)
