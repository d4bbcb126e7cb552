"""The command line: what is printed where, and every exit code."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import RECIPE
from tuner import stages

STAGES = [name for name in stages.NAMES if name != "test"]


def result(folder, stage):
    return json.loads((folder / "runs" / "small" / stage / "result.json").read_text())


def test_a_run_leaves_every_artifact(finished):
    run = finished / "runs" / "small"
    for stage in stages.NAMES:
        manifest = json.loads((run / stage / "manifest.json").read_text())
        assert {
            "inputs",
            "outputs",
            "settings",
            "seed",
            "user_files",
            "versions",
            "device",
            "command",
            "wall_seconds",
        } <= set(manifest)
        content = result(finished, stage)
        assert set(content) == {"schema", "stage", "verdict", "headline", "findings", "checks", "choice", "metrics"}
        assert (content["schema"], content["stage"]) == (1, stage)
        assert list((run / stage / "plots").glob("*.png")), stage
        assert (run / stage / "recipe.json").exists()
        if stage != "diagnose":
            assert {"trials.jsonl", "trials.csv"} <= set(os.listdir(run / stage))
    winner = json.loads((run / "winner.json").read_text())
    assert set(winner) == {"round", "trial", "checkpoint", "params"}
    assert (run / winner["checkpoint"]).exists()
    finalists = {entry["trial"] for entry in result(finished, "fine")["metrics"]["finalists"]}
    assert {path.stem for path in (run / "fine" / "checkpoints").iterdir()} == finalists | {winner["trial"]}
    best = result(finished, "coarse")["choice"]["trial"]
    assert [path.stem for path in (run / "coarse" / "checkpoints").iterdir()] == [best], "the best so far, until fine"


KEYS = {
    "check-init": ({"init_loss", "init_loss_std", "expected_loss", "log_c", "prior_entropy", "num_classes"}, set()),
    "overfit": ({"final_loss", "loss_floor", "final_accuracy", "steps", "lr"}, set()),
    "lr-sweep": ({"rates"}, {"lr", "lr_low", "lr_high", "precision"}),
    "coarse": ({"trials", "completed", "diverged", "failed", "best_val_accuracy"}, {"top", "space"}),
    "fine": (
        {"best_val_accuracy", "seeds", "mean", "std", "interval", "runner_up_p"},
        {"params", "trial", "checkpoint", "epochs"},
    ),
    "diagnose": ({"train_accuracy", "val_accuracy", "gap", "gap_interval", "best_epoch", "epochs"}, {"changes"}),
    "test": ({"accuracy", "interval", "loss", "n", "confusion"}, set()),
}


@pytest.mark.parametrize("stage", KEYS)
def test_result_has_the_documented_keys(finished, stage):
    metrics, choice = KEYS[stage]
    assert metrics <= set(result(finished, stage)["metrics"])
    assert choice <= set(result(finished, stage)["choice"])


def test_finished_numbers_are_right(finished):
    import math

    first = result(finished, "check-init")["metrics"]
    assert first["log_c"] == pytest.approx(math.log(10))
    assert first["num_classes"] == 10
    test = result(finished, "test")["metrics"]
    confusion = test["confusion"]
    assert sum(map(sum, confusion)) == test["n"] == 359
    assert sum(confusion[i][i] for i in range(10)) / test["n"] == pytest.approx(test["accuracy"])
    assert test["interval"][0] < test["accuracy"] < test["interval"][1]
    assert test["accuracy"] > 0.85


def test_a_fresh_stage_is_not_done_again(finished, command):
    before = (finished / "runs/small/coarse/manifest.json").stat().st_mtime_ns
    done = command("coarse", "small.toml")
    assert done.code == 0
    assert "Done before, and still fresh: nothing was run." in done.out
    assert "STEP 4" in done.out
    assert (finished / "runs/small/coarse/manifest.json").stat().st_mtime_ns == before


def test_json_prints_the_result_and_nothing_else(finished, command):
    done = command("coarse", "small.toml", "--json")
    assert json.loads(done.out) == result(finished, "coarse")
    everything = command("run", "small.toml", "--json")
    assert [entry["stage"] for entry in json.loads(everything.out)] == STAGES


def test_the_report_ends_with_the_next_command_and_its_overrides(finished, command, tmp_path):
    shutil.move(tmp_path / "runs" / "small", tmp_path / "elsewhere")
    done = command("check-init", "small.toml", "--run-dir", "elsewhere", "--set", "seed=0")
    assert done.out.rstrip().endswith("Next:  tuner overfit small.toml --set seed=0 --run-dir elsewhere")


def test_stages_that_depend_on_a_changed_key_are_stale_and_it_is_named(finished, command):
    done = command("coarse", "small.toml", "--set", "model.width=16")
    assert done.code == 3
    assert "model.width: 32 -> 16" in done.err
    assert "--allow-stale" in done.err
    rows = json.loads(command("status", "small.toml", "--set", "model.width=16", "--json").out)[0]["stages"]
    assert {row["label"]: row["state"] for row in rows} == dict.fromkeys(stages.NAMES, "stale")


def test_who_accepts_stale_inputs_has_a_stage_of_his_own_made_anew(finished, command):
    arguments = ("coarse", "small.toml", "--set", "model.width=16", "--allow-stale")
    done = command(*arguments)
    assert done.code == 0 and "This result is stale" not in done.out
    manifest = json.loads((finished / "runs/small/coarse/manifest.json").read_text())
    assert (manifest["tables"]["model.width"], manifest["allowed_stale"]) == (16, True)
    done = command(*arguments)  # now it is stale for its inputs alone, which are accepted: nothing is run
    assert done.code == 0 and "This result is stale: lr-sweep: fresh -> stale" in done.out
    assert json.loads((finished / "runs/small/coarse/manifest.json").read_text()) == manifest


def test_another_seed_stales_every_stage(finished, command):
    rows = json.loads(command("status", "small.toml", "--set", "seed=1", "--json").out)[0]["stages"]
    assert {row["label"]: row["state"] for row in rows} == dict.fromkeys(stages.NAMES, "stale")
    assert rows[0]["reasons"] == ["seed: 0 -> 1"]
    before = result(finished, "check-init")["metrics"]["init_losses"]
    assert command("check-init", "small.toml", "--seed", "1").code == 0
    assert result(finished, "check-init")["metrics"]["init_losses"] != before


def test_a_step_that_was_made_with_overrides_says_by_which_command(finished, command):
    assert command("check-init", "small.toml", "--set", "seed=1").code == 0
    first, *_ = json.loads(command("status", "--json").out)[0]["stages"]
    made = "made by: tuner check-init small.toml --set seed=1 --workers 0"
    assert (first["state"], first["reasons"]) == ("stale", [made, "seed: 1 -> 0"])


def test_settings_of_a_stage_stale_it_and_what_follows(finished, command):
    rows = json.loads(command("status", "small.toml", "--set", "stages.fine.epochs=4", "--json").out)[0]["stages"]
    states = {row["label"]: row["state"] for row in rows}
    assert [states[name] for name in stages.NAMES] == ["fresh"] * 4 + ["stale"] * 3


def test_a_flag_runs_the_stage_again_but_reuses_its_trials(finished, command):
    lines = (finished / "runs/small/coarse/trials.jsonl").read_text().splitlines()
    done = command("coarse", "small.toml", "--trials", "3")
    assert done.code == 0
    after = (finished / "runs/small/coarse/trials.jsonl").read_text().splitlines()
    assert len(after) == 3
    assert after[:2] == lines


def test_status_of_everything_without_a_recipe(finished, command):
    done = command("status")
    assert done.code == 0
    assert re.search(r"fine\s+fresh\s+(pass|warn)", done.out)


def test_report_prints_all_stages_again(finished, command):
    done = command("report", "small.toml")
    assert [f"STEP {step}" in done.out for step in "123456"] == [True] * 6


# -- exit codes -----------------------------------------------------------------------------------------------------


def test_exit_1_when_the_verdict_is_fail(recipe, command, tmp_path):
    (tmp_path / "m.py").write_text(
        "from torch import nn\n\ndef build(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Softmax(1))\n"
    )
    done = command("run", "small.toml", "--set", "model={name='m.py:build'}")
    assert done.code == 1
    assert result(tmp_path, "check-init")["verdict"] == "fail"
    assert result(tmp_path, "check-init")["findings"][0]["cause"] == "double-softmax"
    assert "Next:  tuner explain IN104" in done.out
    assert not (tmp_path / "runs/small/overfit").exists()
    blocked = command("overfit", "small.toml", "--set", "model={name='m.py:build'}")
    assert (blocked.code, "which failed" in blocked.err) == (3, True)
    forced = command("overfit", "small.toml", "--set", "model={name='m.py:build'}", "--force")
    assert (forced.code, result(tmp_path, "overfit")["findings"][0]["cause"]) == (1, "double-softmax")


def test_exit_2_for_recipe_problems_with_file_and_line(recipe, command):
    recipe.write_text(RECIPE.replace("batch_size = 64", "batchsize = 64"))
    done = command("check-init", "small.toml")
    assert done.code == 2
    assert "small.toml:18: train.batchsize: unknown key - did you mean 'batch_size'?" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=3", "--set: model.widht: mlp() takes no such argument - did you mean 'width'?"),
        ("model.name=mpl", "did you mean 'mlp'"),
        ("optimizer.name=sdg", "did you mean 'sgd'"),
        ("loss.name=cross_entrpy", "did you mean 'cross_entropy'"),
        ("schedule.name=cosin", "did you mean 'cosine'"),
        ("data.source=digit", "did you mean 'digits'"),
        ("data.augment=['hflp']", "did you mean 'hflip'"),
        (
            "train.batch_size=4000",
            "--set: train.batch_size: is larger than the train split, which has 1150 examples (got 4000)",
        ),
        ("train.monitor=val_acuracy", "val_accuracy"),
        ("search={'optimizer.lr'={low=1.0, high=0.1}}", "search.optimizer.lr"),
        ("search={'optimizer.lr'={choices=[]}}", "search.optimizer.lr"),
    ],
)
def test_exit_2_for_what_only_a_try_can_find(recipe, command, override, message):
    done = command("check-init", "small.toml", "--set", override)
    assert done.code == 2, done.err + done.out
    assert message in done.err
    assert "Traceback" not in done.err


def test_exit_2_for_flags(recipe, command):
    assert (done := command("coarse", "small.toml", "--trials", "0")).code == 2
    assert "--trials: Input should be greater than or equal to 1 (got 0)" in done.err
    assert command("coarse", "small.toml", "--no-such-flag").code == 2
    assert command("run", "small.toml", "--through", "corse").code == 2
    assert command("nonsense", "small.toml", serial=False).code == 2


def test_exit_2_for_an_unknown_recipe_lists_the_known_ones(recipe, command, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "digits.toml").write_text("")
    done = command("check-init", "digit")
    assert done.code == 2
    assert "did you mean 'digits'" in done.err


def test_exit_3_for_a_missing_input(recipe, command):
    done = command("fine", "small.toml")
    assert done.code == 3
    assert "fine needs the result of coarse, which is missing" in done.err


def test_exit_3_for_a_tampered_artifact_names_it(finished, command):
    path = finished / "runs/small/lr-sweep/result.json"
    path.write_text(path.read_text().replace('"lr":', '"lr" :', 1))
    for arguments in (("coarse", "small.toml"), ("lr-sweep", "small.toml")):
        done = command(*arguments)
        assert done.code == 3
        assert "lr-sweep/result.json was changed after it was written" in done.err
    assert command("lr-sweep", "small.toml", "--fresh").code == 0


def test_exit_3_for_a_changed_checkpoint(finished, command):
    winner = json.loads((finished / "runs/small/winner.json").read_text())
    with open(finished / "runs/small" / winner["checkpoint"], "ab") as file:
        file.write(b"x")
    done = command("test", "small.toml", "--force")
    assert (done.code, "was changed after it was written" in done.err) == (3, True)


def test_exit_3_for_the_run_of_another_recipe(finished, command):
    other = finished / "other.toml"
    other.write_text(RECIPE.replace('name = "small"', 'name = "other"'))
    done = command("check-init", "other.toml", "--run-dir", "runs/small")
    assert done.code == 3
    assert "belongs to the recipe 'small', not to 'other'" in done.err


def test_exit_3_for_a_locked_run_names_the_holder(finished, command):
    from tuner.core.store import RunDir

    with RunDir(finished / "runs" / "small").locked("tuner coarse small.toml"):
        done = command("fine", "small.toml")
    assert done.code == 3
    assert f"in use by process {os.getpid()}" in done.err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("source='image_folder', root='nowhere'", "nowhere"),
        ("source='npz', path='nothing.npz'", "nothing.npz"),
        ("source='table', path='nothing.csv', target='y'", "nothing.csv"),
    ],
)
def test_exit_3_for_missing_data_files(recipe, command, table, message):
    done = command("check-init", "small.toml", "--set", f"data={{{table.replace('=', ' = ')}}}")
    assert done.code == 3, done.err
    assert message in done.err


def test_exit_4_when_the_users_code_raises(recipe, command, tmp_path):
    (tmp_path / "m.py").write_text("def build(input_shape, num_classes):\n    return 1 / 0\n")
    done = command("check-init", "small.toml", "--set", "model={name='m.py:build'}")
    assert done.code == 4
    assert f"{tmp_path}/m.py:2" in done.err
    assert "ZeroDivisionError" in done.err
    assert "tuner/train" not in done.err


def test_exit_5_for_a_device_that_is_not_there(recipe, command):
    done = command("check-init", "small.toml", "--device", "cuda:99")
    assert done.code == 5
    assert "cuda" in done.err


def test_exit_3_for_a_result_of_another_kind_of_device(finished, command):
    done = command("coarse", "small.toml", "--device", "cuda:0")
    assert (done.code, done.out) == (3, "")
    assert "coarse was run on device kind 'cpu', this command names 'cuda'" in done.err
    assert "Give --device cpu, do the step over with --fresh, or add --allow-stale." in done.err
    assert command("coarse", "small.toml", "--device", "cpu").code == 0
    assert command("coarse", "small.toml", "--device", "cuda", "--allow-stale").code == 0


def test_exit_5_for_a_run_folder_that_cannot_be_written(recipe, command):
    done = command("check-init", "small.toml", "--run-dir", "/proc/nowhere")
    assert done.code == 5
    assert "cannot write /proc/nowhere" in done.err


def test_exit_70_saves_the_traceback_of_a_bug(recipe, command, tmp_path, monkeypatch):
    from tuner.stages import check_init

    def broken(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr(check_init, "judge", broken)
    done = command("check-init", "small.toml")
    assert done.code == 70
    (saved,) = (tmp_path / "runs" / "small").glob("traceback-*.txt")
    assert "RuntimeError: ours" in saved.read_text()
    assert saved.name in done.err


def test_errors_are_json_with_json(recipe, command):
    done = command("fine", "small.toml", "--json")
    error = json.loads(done.out)["error"]
    assert (error["code"], done.code) == (3, 3)
    assert "which is missing" in error["message"] and error["hint"]
    usage = command("fine", "small.toml", "--json", "--no-such-flag")
    assert json.loads(usage.out)["error"]["code"] == 2


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), pytest.param(signal.SIGTERM, 143, "Terminated", marks=pytest.mark.slow)],
)
def test_signals_keep_what_is_finished_and_name_the_way_on(finished, number, code, word):
    trials = finished / "runs/small/coarse/trials.jsonl"
    command = [
        sys.executable,
        "-m",
        "tuner",
        "coarse",
        "small.toml",
        "--trials",
        "40",
        "--epochs",
        "60",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, cwd=finished, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(trials.read_text().splitlines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal does it: to the whole group
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert f"{word}. What was finished is kept." in err
    assert "tuner coarse small.toml --trials 40 --epochs 60 --workers 1" in err
    assert not (finished / "runs/small/coarse/manifest.json").exists()
    for line in trials.read_text().splitlines():
        json.loads(line)


# -- test, once -----------------------------------------------------------------------------------------------------


def test_the_test_split_is_looked_at_once_and_again_only_by_force(finished, command):
    looks = finished / "runs/small/test-looks.json"
    assert len(json.loads(looks.read_text())) == 1
    assert command("test", "small.toml").code == 0
    unforced = command("test", "small.toml", "--fresh")
    assert "test: the stored result is shown; --fresh looks at the test split again only with --force" in unforced.err
    assert unforced.code == 0 and len(json.loads(looks.read_text())) == 1
    forced = command("test", "small.toml", "--force")
    assert forced.code == 0 and "test: evaluated before, and stored; nothing was evaluated again" in forced.err
    assert len(json.loads(looks.read_text())) == 2


@pytest.mark.slow
def test_without_a_test_split_test_says_so(recipe, command, tmp_path):
    (tmp_path / "d.py").write_text(
        "import torch\n\ndef load():\n    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))\n"
        "    y = (x[:, 0] > 0).long()\n    return (x[:150], y[:150]), (x[150:], y[150:])\n"
    )
    sets = ["--set", "data={source='d.py:load'}", "--set", "train.batch_size=32"]
    assert command("run", "small.toml", *sets).code == 0
    done = command("test", "small.toml", *sets)
    assert done.code == 3
    assert "test" in done.err


# -- writing a recipe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--custom"]])
def test_a_new_recipe_passes_its_first_step(command, tmp_path, options):
    done = command("new", "mine", *options)
    assert done.code == 0
    assert "wrote mine.toml" in done.out
    assert command("check-init", "mine.toml").code == 0
    again = command("new", "mine", *options)
    assert (again.code, "is there already" in again.err) == (2, True)


def test_new_refuses_what_is_no_name_or_source(command):
    assert "cannot name a recipe" in command("new", "../x").err
    assert "did you mean 'digits'" in command("new", "x", "--source", "digit").err


def test_explain_knows_codes_and_causes_and_guesses(command):
    from tuner.checks.engine import all_rules

    known = all_rules()
    assert len(known) > 20
    for code, card in list(known.items())[::12]:  # the page of codes has them all
        done = command("explain", code)
        assert (done.code, card.code in done.out) == (0, True)
    assert command("explain", "double-softmax").code == 0
    assert "no such code" in command("explain", "XX999").err


def test_dry_run_says_what_would_be_run_and_runs_nothing(recipe, command, tmp_path):
    done = command("check-init", "small.toml", "--dry-run")
    assert done.code == 0
    assert "check-init: 1 trial to run first, 0 finished" in done.out
    assert not (tmp_path / "runs").exists()
