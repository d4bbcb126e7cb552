"""A trial that is sent elsewhere as JSON and bytes, and what comes back."""

import hashlib
import shutil
from dataclasses import replace

import pytest

from tuner.core.errors import InputError
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.remote import carry_out, job_of, take_in
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


def test_a_rung_and_the_rest_give_elsewhere_what_they_give_here(tmp_path, item):
    env = TrialEnv(tmp_path / "recipe", tmp_path / "run/coarse")
    first = job_of(item, env, None)
    assert first.files == {} and first.user_files == {"mine.py": MINE.encode()}
    shutil.copytree(tmp_path / "recipe", tmp_path / "here")
    (tmp_path / "recipe/mine.py").write_text("the recipe's folder is another one there")
    stopped = take_in(carry_out(first), item, env)
    assert stopped.status == "stopped"
    state = tmp_path / f"run/coarse/checkpoints/{item.spec.id}.state.pt"
    assert state.exists()

    (tmp_path / "recipe/mine.py").write_text(MINE)
    rest = replace(item, until_epoch=None)
    job = job_of(rest, env, None)
    assert sorted(job.files) == [f"coarse/checkpoints/{item.spec.id}{end}" for end in (".pt", ".state.pt")]
    answer = carry_out(job)
    ended = take_in(answer, rest, env)
    assert ended.status == "completed" and not state.exists()

    serial = SerialExecutor(Wish("cpu"), lambda progress: None)
    (here,) = serial.run([rest], TrialEnv(tmp_path / "here", tmp_path / "alone/coarse"))
    assert (ended.curve, ended.score) == (here.curve, here.score)

    name = next(iter(answer.files))
    with pytest.raises(InputError, match="arrived damaged from another machine"):
        take_in(replace(answer, blobs={answer.files[name]: b"torn"}), rest, env)


def test_a_file_outside_the_recipes_folder_is_not_written_elsewhere(tmp_path, item):
    env = TrialEnv(tmp_path / "recipe", tmp_path / "run/coarse")
    job = replace(job_of(item, env, None), recipe_dir=str(tmp_path / "nowhere"), user_files={"../../evil.py": b""})
    with pytest.raises(InputError, match=r"\.\./\.\./evil\.py: lies outside the folder of the recipe"):
        carry_out(job)
