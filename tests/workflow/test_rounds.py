"""Step 7: rounds, their recipes, whether a change is kept, and the commands that do them."""

import base64
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tuner
from tests.results import result_of
from tuner.core.errors import InputError
from tuner.core.result import Record, TrialResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.file import load_recipe, overrides_of
from tuner.recipe.model import Recipe
from tuner.stages import settings_models
from tuner.workflow import rounds

RECIPE = """\
name = "r"  # a comment that stays

[data]
source = "digits"

[model]
name = "mlp"
width = 8
depth = 1

[optimizer]
name = "sgd"
lr = 0.1

[train]
batch_size = 64

[search]
"optimizer.lr" = { choices = [0.05, 0.0501] }

[stages.check-init]
seeds = 1

[stages.overfit]
rates = [0.3]

[stages.lr-sweep]
seeds = 2

[stages.coarse]
trials = 1
epochs = 1

[stages.fine]
trials = 1
epochs = 2
finalists = 1
seeds = 2
"""


def change(key, old, new):
    return {"key": key, "from": old, "to": new, "reason": "a reason"}


def begin(tmp_path, number, base, *changes):
    path = tmp_path / "r.toml"
    path.write_text(RECIPE)
    rounds.begin(path, {}, tmp_path, number, base, changes)


def keep(tmp_path, number, kept=True):
    rounds.store_entry(tmp_path, {**rounds.entry(tmp_path, number), "kept": kept})


def recipe():
    return Recipe.model_validate(tomllib.loads(RECIPE))


# -- a round's recipe -----------------------------------------------------------------------------------------------


def test_a_changed_key_is_set_and_leaves_the_search(tmp_path):
    begin(tmp_path, 2, 1, change("optimizer.lr", 0.1, 0.03), change("schedule.name", "constant", "cosine"))
    changed = rounds.recipe_of(recipe(), tmp_path, 2)
    assert (changed.optimizer.lr, changed.schedule.name, changed.search) == (0.03, "cosine", {})
    assert rounds.recipe_of(recipe(), tmp_path, 1) == recipe()


def test_the_file_of_a_round_is_its_recipe_and_keeps_the_comments(tmp_path):
    begin(tmp_path, 2, 1, change("optimizer.lr", 0.1, 0.03), change("schedule.name", "constant", "cosine"))
    text = (tmp_path / "recipe-2.toml").read_text()
    assert "# a comment that stays" in text
    assert "#   optimizer.lr: 0.1 -> 0.03  (a reason)" in text
    assert Recipe.model_validate(tomllib.loads(text)) == rounds.recipe_of(recipe(), tmp_path, 2)


def test_the_file_of_a_round_has_what_the_command_line_overrides(tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    texts = [
        "model.width=24",
        "optimizer.lr=0.2",
        "data={source='mnist', root='/r'}",
        "schedule.name=cosine",
        'search."optimizer.momentum"={low=0.5, high=0.9}',
    ]
    given, changes = overrides_of(texts, seed=7), [change("optimizer.lr", 0.2, 0.3)]
    rounds.begin(tmp_path / "r.toml", given, tmp_path, 2, 1, changes)
    used = load_recipe(tmp_path / "r.toml", texts, 7, settings=settings_models())
    text = (tmp_path / "recipe-2.toml").read_text()
    written = load_recipe(tmp_path / "recipe-2.toml", settings=settings_models())
    assert written == rounds.recipe_of(used, tmp_path, 2)
    assert (written.seed, written.model.model_extra["width"], written.optimizer.lr) == (7, 24, 0.3)
    assert set(written.search) == {"optimizer.momentum"} and written.data.source == "mnist"
    assert f"# To run it, copy it to {tmp_path}: its relative paths start there.\n\n" in text
    assert "# and with what the command line sets: model.width, optimizer.lr, data, schedule.name, search." in text
    rounds.begin(tmp_path / "r.toml", {}, tmp_path, 2, 1, changes)  # the same round by a command without them
    assert load_recipe(tmp_path / "recipe-2.toml", settings=settings_models()).model.model_extra["width"] == 8


def test_a_round_is_built_on_its_base_and_not_on_what_was_dropped(tmp_path):
    begin(tmp_path, 2, 1, change("model.width", 8, 16))
    keep(tmp_path, 2, False)
    begin(tmp_path, 3, 1, change("stages.fine.epochs", 2, 8))
    keep(tmp_path, 3)
    begin(tmp_path, 4, 3, change("model.depth", 1, 2))
    fourth = rounds.recipe_of(recipe(), tmp_path, 4)
    assert rounds.bases(tmp_path, 4) == [4, 3, 1]
    assert (fourth.model.model_extra["width"], fourth.model.model_extra["depth"]) == (8, 2)
    assert fourth.stages["fine"]["epochs"] == 8


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("stages.fine.epochs", ["fine", "diagnose"]),
        ("schedule.name", ["fine", "diagnose"]),
        ("optimizer.lr", ["fine", "diagnose"]),
        ("optimizer.weight_decay", ["lr-sweep", "fine", "diagnose"]),
        ("model.width", ["lr-sweep", "fine", "diagnose"]),
        ("train.batch_size", ["lr-sweep", "fine", "diagnose"]),
    ],
)
def test_what_moves_the_band_of_rates_is_swept_again(tmp_path, key, expected):
    begin(tmp_path, 2, 1, change(key, 1, 2))
    assert [str(ref) for ref in rounds.stages_of(tmp_path, 2)] == [f"{name}-2" for name in expected]


def test_a_stage_holds_from_the_latest_round_that_has_it(tmp_path):
    begin(tmp_path, 2, 1, change("model.width", 8, 16))
    (tmp_path / "fine-2").mkdir()
    run = RunDir(tmp_path)
    assert rounds.holding(run, StageRef("fine", 2)) == StageRef("fine", 2)
    assert rounds.holding(run, StageRef("coarse", 2)) == StageRef("coarse", 1)
    assert rounds.holding(run, StageRef("fine", 1)) == StageRef("fine", 1)
    assert rounds.input_of(run, StageRef("diagnose", 2), "fine") == StageRef("fine", 2)


def test_beginning_the_same_round_again_changes_nothing(tmp_path):
    begin(tmp_path, 2, 1, change("model.width", 8, 16))
    keep(tmp_path, 2)
    before = (tmp_path / "rounds.json").read_bytes()
    begin(tmp_path, 2, 1, change("model.width", 8, 16))
    assert (tmp_path / "rounds.json").read_bytes() == before
    begin(tmp_path, 2, 1, change("model.width", 8, 12))
    assert rounds.entry(tmp_path, 2)["kept"] is None


def test_a_round_that_was_not_begun_is_an_error(tmp_path):
    with pytest.raises(InputError, match="has no round 7"):
        rounds.recipe_of(recipe(), tmp_path, 7)


# -- is it better? --------------------------------------------------------------------------------------------------


def fine(mean, std=0.01, seeds=3, trial="t"):
    metrics = {"mean": mean, "std": std, "seeds": seeds}
    return result_of("fine", {"metrics": metrics, "choice": {"trial": trial}})


def records(right):
    """Return the record of a winner `t` whose answers are right (1) or wrong (0) on the same val examples."""
    bits = base64.b64encode(np.packbits(np.array(right, dtype=np.uint8)).tobytes()).decode()
    evidence = {"val_predictions": {"bits": bits, "n": len(right)}}
    spec = TrialSpec(tables=recipe().tables(), overrides={}, seed=0, horizon_epochs=1)
    return [Record(WorkItem(spec, 1, 0), TrialResult("t", 1, "completed", evidence=evidence))]


@pytest.mark.parametrize(
    ("old", "new", "kept", "word"),
    [
        (fine(0.90), fine(0.95), True, "better"),
        (fine(0.90), fine(0.91), False, "no gain beyond noise"),  # 0.01 < 2 * sqrt(2 * 0.01^2 / 3)
        (fine(0.95), fine(0.90), False, "no gain beyond noise"),
        (fine(0.90), fine(0.90), False, "no gain beyond noise"),
        (fine(0.90, std=None, seeds=1), fine(0.91, std=None, seeds=1), True, "better"),
        (fine(0.90), fine(None), False, "no winner to compare"),
    ],
)
def test_better_is_a_gain_beyond_the_noise_of_the_seeds(old, new, kept, word):
    decided, why = rounds.compare(old, new, [], [])
    assert (decided, word in why) == (kept, True), why


def test_better_must_show_on_the_same_val_examples_too():
    wrong = [1] * 90 + [0] * 10
    assert rounds.compare(fine(0.90), fine(0.95), records(wrong), records([1] * 100))[0] is True  # 10 : 0, p = 0.002
    decided, why = rounds.compare(fine(0.90), fine(0.95), records([1] * 95 + [0] * 5), records([1] * 100))
    assert (decided, "McNemar p = 0.0625" in why) == (False, True), why  # 5 : 0, 2 / 2^5


def test_predictions_on_other_val_examples_are_not_compared():
    decided, why = rounds.compare(fine(0.90), fine(0.95), records([1] * 50), records([1] * 100))
    assert (decided, "McNemar" in why) == (True, False)


def test_a_winner_whose_predictions_were_skipped_is_judged_by_its_seeds_alone():
    (record,) = records([1] * 100)
    skipped = {"val_predictions": {"skipped": "outputs are not (N, C)"}}
    without = [Record(record.item, TrialResult("t", 1, "completed", evidence=skipped))]
    for old, new in ((without, [record]), ([record], without), (without, without)):
        decided, why = rounds.compare(fine(0.90), fine(0.95), old, new)
        assert (decided, "McNemar" in why) == (True, False), why


# -- from the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory):
    """A run whose diagnosis asks for the epochs that it badly needs. Never written to: tests copy it."""
    folder = tmp_path_factory.mktemp("diagnosed")
    (folder / "r.toml").write_text(RECIPE)
    done = tuner("run", "r.toml", "--workers", "0", cwd=folder)
    assert done.code == 0, done.out + done.err
    forge(folder / "runs" / "r" / "diagnose", [change("stages.fine.epochs", 2, 10)])
    return folder


@pytest.fixture
def run(diagnosed, tmp_path):
    import shutil

    shutil.copytree(diagnosed, tmp_path, dirs_exist_ok=True)
    return tmp_path


def read(folder, name):
    return json.loads((Path(folder) / "runs" / "r" / name).read_text())


def test_a_round_that_helps_is_kept_and_its_winner_is_tested(run, command):
    done = command("run", "r.toml", "--rounds", "1")
    assert done.code == 0, done.err
    assert "Round 2: trying stages.fine.epochs: 2 -> 10" in done.out
    assert "Round 2 is kept: better: " in done.out
    (entry,) = read(run, "rounds.json")
    assert (entry["round"], entry["base"], entry["kept"]) == (2, 1, True)
    winner = read(run, "winner.json")
    assert winner["round"] == 2 and winner["checkpoint"].startswith("fine-2/checkpoints/")
    assert (run / "runs" / "r" / winner["checkpoint"]).exists()
    manifest = read(run, "fine-2/manifest.json")
    assert [item["key"] for item in manifest["changes"]] == ["stages.fine.epochs"]

    status = command("status", "r.toml").out
    assert "fine-2" in status and "diagnose-2" in status
    assert " round 2, built on round 1: stages.fine.epochs: 2 -> 10" in status and "kept: better" in status

    tested = command("test", "r.toml")
    assert tested.code == 0, tested.err
    assert read(run, "test/result.json")["metrics"]["n"] == 359

    files = {path: path.read_bytes() for path in (run / "runs").rglob("*.json*")}
    again = command("run", "r.toml", "--rounds", "1")
    assert (again.code, "Round 2 is kept" in again.out, "STEP" in again.out) == (0, True, False)
    assert {path: path.read_bytes() for path in (run / "runs").rglob("*.json*")} == files


@pytest.mark.slow
def test_fine_done_anew_leaves_the_winner_with_a_kept_round_that_is_still_better(run, command):
    assert command("run", "r.toml", "--rounds", "1").code == 0
    before = read(run, "winner.json")
    done = command("fine", "r.toml", "--fresh")
    assert done.code == 0 and before["round"] == 2
    assert read(run, "winner.json") == before and read(run, "rounds.json")[0]["kept"] is True
    assert "the winner is still that of round 2: better: " in done.err

    forge(run / "runs" / "r" / "fine-2", lambda result: result["metrics"].update(mean=0.1))
    done = command("fine", "r.toml", "--fresh")
    winner = read(run, "winner.json")
    assert (done.code, winner["round"], winner["checkpoint"][:5]) == (0, 1, "fine/")
    (entry,) = read(run, "rounds.json")
    assert entry["kept"] is False and entry["why"].startswith("no gain beyond noise")
    assert "round 2 is not kept any more: no gain beyond noise" in done.err


@pytest.mark.slow
def test_the_winner_of_a_kept_round_that_is_stale_is_not_taken(run, command):
    assert command("run", "r.toml", "--rounds", "1").code == 0
    done = command("run", "r.toml", "--set", "model.width=12")
    assert (done.code, read(run, "winner.json")["round"]) == (0, 1)
    assert "round 2 was kept, and is not fresh any more: its winner is not taken" in done.err


def test_apply_does_the_same_round_by_hand_and_then_the_next(run, command):
    assert command("fine", "r.toml", "--apply").code == 0
    assert read(run, "winner.json")["round"] == 2
    proposed = read(run, "diagnose-2/result.json")["choice"]["changes"]
    done = command("fine", "r.toml", "--apply")
    assert done.code == 0, done.err
    if proposed:
        assert [item["base"] for item in read(run, "rounds.json")] == [1, 2]
    else:
        assert "the diagnosis proposes no change" in done.out


def test_a_round_that_does_not_help_is_dropped_with_the_reason(run, command):
    forge(run / "runs" / "r" / "diagnose", [change("optimizer.lr", 0.1, 1e-4)])
    done = command("fine", "r.toml", "--apply")
    assert done.code == 0, done.err
    assert "Round 2 is not kept, round 1 stays: no gain beyond noise" in done.out
    assert done.out.rstrip().endswith("Next:  tuner test r.toml")
    assert (read(run, "winner.json")["round"], read(run, "rounds.json")[0]["kept"]) == (1, False)
    again = command("fine", "r.toml", "--apply")
    assert (again.code, "Round 2 is not kept" in again.out, len(read(run, "rounds.json"))) == (0, True, 1)


def test_a_round_that_was_killed_goes_on_where_it_stopped(run, command):
    assert command("run", "r.toml", "--rounds", "1").code == 0
    folder = run / "runs" / "r"
    lines = (folder / "fine-2" / "trials.jsonl").read_bytes()
    (folder / "fine-2" / "manifest.json").unlink()
    (folder / "fine-2" / "result.json").unlink()
    for path in (folder / "diagnose-2").glob("*.json"):
        path.unlink()
    rounds.store_entry(folder, {**rounds.entry(folder, 2), "kept": None, "why": ""})
    assert command("run", "r.toml", "--rounds", "1").code == 0
    assert (folder / "fine-2" / "trials.jsonl").read_bytes() == lines
    assert rounds.entry(folder, 2)["kept"] is True


def test_a_round_that_was_killed_while_it_was_decided_on_is_decided_on_again(run, command, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tuner.workflow.engine.write_json", killed)
        assert command("fine", "r.toml", "--apply").code == 130
    forge(run / "runs" / "r" / "diagnose-2", [])  # nothing would be tried after it
    assert command("fine", "r.toml", "--apply").code == 0
    assert (read(run, "winner.json")["round"], rounds.entry(run / "runs" / "r", 2)["kept"]) == (2, True)


@pytest.mark.slow
def test_the_winner_of_a_round_with_another_model_is_tested_as_it_was_trained(run, command):
    forge(run / "runs" / "r" / "diagnose", [change("model.width", 8, 64), change("stages.fine.epochs", 2, 10)])
    done = command("run", "r.toml", "--rounds", "1")
    assert done.code == 0, done.out + done.err
    assert read(run, "winner.json")["round"] == 2, done.out
    assert (run / "runs" / "r" / "lr-sweep-2" / "result.json").exists()
    tested = command("test", "r.toml")
    assert tested.code == 0, tested.out + tested.err
    promised = read(run, "fine-2/result.json")["metrics"]["expected"]["value"]
    assert f"val promised {promised:.4f}" in tested.out.replace("\n ", " ")
    rows = json.loads(command("status", "r.toml", "--json").out)[0]["stages"]
    assert {row["label"]: row["state"] for row in rows}["test"] == "fresh"


def test_a_new_winner_makes_an_old_test_stale(run, command):
    assert command("test", "r.toml").code == 0
    assert command("run", "r.toml", "--rounds", "1").code == 0
    again = command("test", "r.toml")
    assert (again.code, "This result is stale: " in again.out) == (0, True)
    assert len(read(run, "test-looks.json")) == 1


def test_apply_without_a_diagnosis_says_what_to_run(command, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    done = command("fine", "r.toml", "--apply")
    assert (done.code, done.out) == (3, "")
    assert "--apply needs the result of diagnose, which is missing" in done.err
    assert "tuner run r.toml" in done.err


def test_rounds_are_refused_below_zero(command, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    assert command("run", "r.toml", "--rounds", "-1").code == 2


def forge(folder, change):
    """Change a result, and its manifest so that it agrees. `change`: a function of it, or what a diagnosis proposes."""
    import hashlib

    path = folder / "result.json"
    result = json.loads(path.read_text())
    if callable(change):
        change(result)
    else:
        result["choice"]["changes"] = change
    path.write_text(json.dumps(result))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"]["result.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
