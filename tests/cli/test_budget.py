"""A budget on the command line: planned before, kept when resumed, told afterwards."""

import json
import re
import shutil

import pytest

from tests.equal import differences
from tuner import stages
from tuner.core.errors import InputError, UsageError
from tuner.core.manifest import Provenance
from tuner.core.stage_ref import StageRef
from tuner.core.store import StageDir
from tuner.recipe.file import load_recipe
from tuner.search.budget import parse
from tuner.search.costs import Costs
from tuner.train import loop, trial
from tuner.workflow import best_so_far, budgets, stage_clock, whole_run
from tuner.workflow.freshness import Session
from tuner.workflow.options import Options

SLOW = Costs(epoch_seconds=30.0, evaluation_seconds=1.0, item_seconds=0.1, workers=1, source="lr-sweep")
QUICK = Costs(epoch_seconds=0.1, evaluation_seconds=0.0, item_seconds=0.0, workers=1, source="lr-sweep")


def plan_of(folder, stage="coarse"):
    return json.loads((folder / "runs/small" / stage / "plan.json").read_text())


def as_line(text):
    return " ".join(text.split())


def trials_of(folder, stage="coarse"):
    lines = (folder / "runs/small" / stage / "trials.jsonl").read_text().splitlines()
    return [json.loads(line)["item"] for line in lines]


@pytest.fixture
def costs(monkeypatch):
    """A function that sets what trials are measured to cost, in whatever stage."""

    def measured(value):
        monkeypatch.setattr(budgets, "of_sweep", lambda *_: value)
        monkeypatch.setattr(budgets, "of_search", lambda *_: value)
        monkeypatch.setattr(budgets, "of_timing", lambda *_: value)

    return measured


def test_dry_run_shows_trials_per_rung_time_disk_and_what_more_would_buy(finished, command, costs):
    costs(SLOW)
    done = command("coarse", "small.toml", "--budget", "20m", "--epochs", "3", "--dry-run")
    assert done.code == 0 and not done.err
    found = re.search(r"(\d+) train 1 epoch, (\d+) go on to 2, (\d+) to 3", done.out)
    first, second, third = map(int, found.groups())
    assert first > second > third
    assert "with 1 worker, by the times of lr-sweep" in done.out
    assert re.search(r"disk +at most \d.* while it runs", done.out)
    assert re.search(r"budget +20m; twice the budget \(40m\) would buy \d+ configurations of 3 epochs", done.out)
    assert max(map(len, done.out.splitlines())) <= 80
    as_json = json.loads(command("coarse", "small.toml", "--budget", "20m", "--epochs", "3", "--dry-run", "--json").out)
    search = as_json["search"]
    assert [rung["trials"] for rung in search["rungs"]] == [first, second, third]
    assert 0.75 * 1200 < search["expected_seconds"] <= 1200
    assert len(as_json["trials"]) == search["trials"] == first
    assert search["disk_bytes"] > 0 and search["larger"]["trials"] > first
    assert not (finished / "runs/small/coarse/plan.json").exists()


def test_dry_run_without_a_budget_shows_the_time_as_well(finished, command):
    done = command("fine", "small.toml", "--dry-run")
    assert re.search(r"plan +2 configurations, 3 epochs, and 1 repeat; 9 epochs\s+in all", done.out)
    assert re.search(r"time +about [\d.]+\w+ with 1 worker, by the times of coarse", done.out)
    assert "budget" not in done.out


def test_a_search_says_what_it_will_take_before_it_starts(finished, command):
    done = command("coarse", "small.toml", "--trials", "3")
    assert "coarse: 3 configurations, 2 epochs, 6 epochs in all, about " in done.err
    quiet = command("coarse", "small.toml", "--trials", "4", "--quiet")
    assert quiet.err == ""


def test_a_budget_is_kept_in_the_artifact_and_in_the_report(finished, command):
    done = command("coarse", "small.toml", "--budget", "6trials")
    assert done.code == 0
    plan = plan_of(finished)
    assert (plan["budget"], plan["trials"], plan["epochs"]) == ("6trials", 6, 2)
    assert {item["number"] for item in trials_of(finished)} == set(range(6))
    assert "Budget 6trials: 6 configurations" in done.out
    assert "Twice the budget (12trials) would buy 12 configurations of 2 epochs" in " ".join(done.out.split())
    manifest = json.loads((finished / "runs/small/coarse/manifest.json").read_text())
    assert "plan.json" in manifest["outputs"]
    assert command("fine", "small.toml").code == 0  # a valid input of what follows
    again = command("coarse", "small.toml")
    assert again.code == 0 and not (finished / "runs/small/coarse/plan.json").exists()
    assert "Budget" not in again.out


def test_a_resumed_stage_keeps_its_plan_whatever_things_cost_now(finished, command, costs, monkeypatch):
    from tuner.execute.serial import SerialExecutor

    costs(QUICK)
    arguments = ("coarse", "small.toml", "--budget", "7s")
    run = SerialExecutor.run

    def interrupted(self, items, env):
        if any(item.spec.horizon_epochs for item in items):
            raise KeyboardInterrupt
        return run(self, items, env)  # the timing

    with monkeypatch.context() as patched:
        patched.setattr(SerialExecutor, "run", interrupted)
        assert command(*arguments).code == 130
    written = (finished / "runs/small/coarse/plan.json").read_bytes()  # before the first trial
    assert plan_of(finished)["trials"] > 4
    costs(SLOW)
    done = command(*arguments)
    assert done.code == 0, done.err
    assert (finished / "runs/small/coarse/plan.json").read_bytes() == written
    assert len({item["number"] for item in trials_of(finished)}) == plan_of(finished)["trials"]
    specs = [item["spec"]["overrides"] for item in trials_of(finished)]
    costs(QUICK)
    assert command(*arguments, "--fresh").code == 0
    assert [item["spec"]["overrides"] for item in trials_of(finished)] == specs


def interrupted_after(trials, command, *arguments):
    """Give a command that is interrupted after that many trials."""
    from tuner.execute.serial import SerialExecutor

    run = SerialExecutor.run

    def some(self, items, env):
        if not trials:
            raise KeyboardInterrupt
        for number, result in enumerate(run(self, items, env), 1):
            yield result
            if number == trials:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SerialExecutor, "run", some)
        assert command(*arguments).code == 130


def test_the_time_of_interrupted_attempts_is_part_of_what_a_search_took(finished, command, costs):
    costs(QUICK)
    arguments = ("coarse", "small.toml", "--budget", "6trials")
    folder = finished / "runs/small/coarse"
    shutil.rmtree(folder)
    clock = folder / ".attempts.json"
    for attempt in (1, 2):
        interrupted_after(2, command, *arguments)
        known = json.loads(clock.read_text())
        assert (known["attempts"], known["reused_trials"]) == (attempt, 0)
        assert known["wall_seconds"] > 100 * (attempt - 1)
        clock.write_text(json.dumps({**known, "wall_seconds": known["wall_seconds"] + 100}))
    done = command(*arguments)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["attempts"], manifest["reused_trials"]) == (3, 0) and 200 < manifest["wall_seconds"] < 230
    assert re.search(
        r"with 1 worker, by the times of lr-sweep; the trials took 3m\d+s in 3 attempts", as_line(done.out)
    )
    assert not clock.exists() and command("status", "small.toml").code == 0


def test_the_time_of_what_was_made_from_something_else_is_not_carried_along(finished, command, costs):
    costs(QUICK)
    folder = finished / "runs/small/coarse"
    shutil.rmtree(folder)
    interrupted_after(2, command, "coarse", "small.toml", "--budget", "6trials")
    done = command("coarse", "small.toml", "--budget", "5trials")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (done.code, manifest["attempts"], manifest["reused_trials"]) == (0, 1, 2)
    assert "the trials took" not in as_line(done.out)  # two of them were not timed
    done = command("coarse", "small.toml", "--budget", "5trials", "--fresh")
    assert "; the trials took" in as_line(done.out) and "attempts" not in as_line(done.out)


def test_a_clock_is_written_down_now_and_then_and_never_instead_of_what_went_wrong(tmp_path):
    folder, made_from = StageDir(tmp_path / "coarse"), Provenance({}, {"trials": 3}, {}, {}, "", {})
    path = folder.path / ".attempts.json"

    def pass_by(clock, seconds):
        clock.started -= seconds
        clock.kept -= seconds

    with pytest.raises(InputError, match="damaged"), stage_clock.timed(folder, made_from) as clock:
        clock.found(4)
        pass_by(clock, 9)
        clock.tick()
        assert not path.exists()
        pass_by(clock, 2)
        clock.tick()
        assert json.loads(path.read_text())["wall_seconds"] == pytest.approx(11, abs=0.5)  # what a kill would leave
        pass_by(clock, 1)
        raise InputError("damaged", "")
    began_at = clock.began_at
    with stage_clock.timed(folder, made_from) as clock:
        pass_by(clock, 3)
        clock.found(9)
        told = {"began_at": began_at, "wall_seconds": pytest.approx(15, abs=0.5), "attempts": 2, "reused_trials": 4}
        assert clock.to_json() == told
    assert not path.exists()
    shutil.rmtree(folder.path)
    folder.path.write_text("no folder")
    with pytest.raises(InputError, match="the cause"), stage_clock.timed(folder, made_from):
        raise InputError("the cause", "")


def test_another_budget_is_planned_anew(finished, command, costs):
    costs(QUICK)
    assert command("coarse", "small.toml", "--budget", "4trials").code == 0
    done = command("coarse", "small.toml", "--budget", "6trials")
    assert done.code == 0 and plan_of(finished)["trials"] == 6


def test_a_recipe_may_have_the_budget(finished, command):
    path = finished / "small.toml"
    path.write_text(path.read_text().replace("[stages.coarse]", '[stages.coarse]\nbudget = "5trials"'))
    assert command("coarse", "small.toml").code == 0
    assert plan_of(finished)["trials"] == 5


def test_a_budget_that_is_none_names_examples(finished, command):
    done = command("coarse", "small.toml", "--budget", "5x")
    assert done.code == 2
    assert (
        "--budget: expected a time, or a number of trials or epochs: 20m, 90s, 1h30m, 40trials or 120epochs" in done.err
    )
    path = finished / "small.toml"
    path.write_text(path.read_text().replace("[stages.coarse]", '[stages.coarse]\nbudget = "soon"'))
    done = command("coarse", "small.toml")
    assert done.code == 2 and "stages.coarse.budget: expected a time" in done.err


def test_too_little_is_an_error_with_the_least(finished, command, costs):
    costs(SLOW)
    done = command("coarse", "small.toml", "--budget", "60s")
    assert done.code == 2
    said = " ".join(done.err.split())
    found = re.search(r"--budget 60s: too little for coarse; the least sensible search \((.*)\) takes (\w+)", said)
    assert found[1] == "4 configurations of 1 epoch"
    assert said.endswith(f"--budget {found[2]}")
    assert command("coarse", "small.toml", "--budget", found[2], "--dry-run").code == 0
    assert (finished / "runs/small/coarse/manifest.json").exists()  # what stood there is left


def test_a_time_needs_step_times(recipe, command):
    done = command("coarse", "small.toml", "--budget", "20m", "--force", "--dry-run")
    assert done.code == 2
    assert "no step times are known" in done.err and "--budget 40trials" in done.err
    assert command("coarse", "small.toml", "--budget", "40trials", "--force", "--dry-run").code == 0


def test_run_shares_out_the_time_of_the_whole_run(finished, command, costs):
    costs(QUICK)
    done = command("run", "small.toml", "--budget", "100s", "--dry-run", "--json")
    plans = {plan["stage"]: plan for plan in json.loads(done.out)}
    first, second = (parse(plans[name]["search"]["budget"]).amount for name in ("coarse", "fine"))
    assert 80 <= first + second < 90, "the rest is for the start, the plots and the test"
    assert 0.2 < first / (first + second) < 0.3
    assert plans["lr-sweep"]["state"] == "fresh"
    assert not (finished / "runs/small/budget.json").exists()


def test_a_time_too_short_for_two_searches_is_given_to_the_first(finished, command, costs):
    costs(SLOW)
    shutil.rmtree(finished / "runs/small/coarse")
    done = command("run", "small.toml", "--budget", "4m", "--dry-run", "--json")
    plans = {plan["stage"]: plan for plan in json.loads(done.out)}
    assert plans["coarse"]["search"]["trials"] >= 1
    assert plans["coarse"]["search"]["expected_seconds"] < 240
    assert plans["fine"]["state"] == plans["diagnose"]["state"] == "left out: the budget is too short for it"


def test_a_run_within_a_short_budget_ends_with_a_model_to_test(recipe, command):
    done = command("run", "small.toml", "--budget", "2s")
    assert done.code == 0, done.err
    assert "budget 2s for the whole run: at most 1s before the search" in done.err
    assert "fine and what follows it are left out" in done.err and "rest on one training" in done.err
    run = recipe.parent / "runs/small"
    assert (run / "coarse/manifest.json").exists() and not (run / "fine").exists()
    tested = command("test", "small.toml")
    assert tested.code == 0, tested.err
    assert "The search has not ended: this is the best trial of coarse so far" in as_line(tested.out)
    again = command("run", "small.toml", "--budget", "2s")
    assert again.code == 0 and "coarse: PASS, done before" in again.out, "the same command decides alike"


def test_a_run_through_the_test_ends_with_its_result_and_looks_once(finished, command):
    done = command("run", "small.toml", "--through", "test")
    assert done.code == 0, done.err
    assert "test: PASS, done before." in as_line(done.out)
    shutil.rmtree(finished / "runs/small/test")
    (finished / "runs/small/test-looks.json").unlink()
    done = command("run", "small.toml", "--through", "test", "--json")
    assert done.code == 0, done.err
    assert [result["stage"] for result in json.loads(done.out)] == list(stages.NAMES)
    assert len(json.loads((finished / "runs/small/test-looks.json").read_text())) == 1


def test_a_run_through_the_test_keeps_no_time_for_the_start_of_another_command(finished):
    path = finished / "small.toml"
    session = Session(path, load_recipe(path, settings=stages.settings_models()), Options(finished / "runs/small"))
    kept = [whole_run.WholeRun.of(session, "10m", 2, tests) for tests in (False, True)]
    for whole in kept:
        whole.started_in(3.0, has_test=True)
    apart, together = (whole.after for whole in kept)
    assert apart - together == pytest.approx(3.0 + whole_run.BEGUN_SECONDS)
    assert together > whole_run.TEST_SECONDS


def test_what_is_under_way_when_the_time_is_over_is_given_up(finished, command, monkeypatch):
    shutil.rmtree(finished / "runs/small/fine")
    path = finished / "small.toml"
    path.write_text(path.read_text().replace("trials = 2\nepochs = 3\n", "trials = 3\nepochs = 40\n"))
    run, ended = finished / "runs/small", []
    (run / "winner.json").unlink()
    hear = best_so_far.BestSoFar.hear
    monkeypatch.setattr(best_so_far.BestSoFar, "hear", lambda self, record: (ended.append(record), hear(self, record)))
    monkeypatch.setattr(whole_run.WholeRun, "is_over", lambda self, factor=1.0: bool(ended))
    monkeypatch.setattr(whole_run.WholeRun, "settings", lambda self, name, say: {})
    done = command("run", "small.toml", "--budget", "20m", "--through", "fine", "--workers", "1")
    assert done.code == 0, done.err
    assert "fine ends here: the time of the run is over" in as_line(done.err)
    assert len(ended) == 1 and len(trials_of(finished, "fine")) == 1
    assert json.loads((run / "winner.json").read_text())["trial"] == ended[0].result.id


@pytest.fixture
def long_fine(finished, monkeypatch):
    """A finished run but for fine and test; fine's trials take 40 epochs and write their best weights after each."""
    for name in ("fine", "test"):
        shutil.rmtree(finished / "runs/small" / name)
    (finished / "runs/small/test-looks.json").unlink()
    path = finished / "small.toml"
    path.write_text(path.read_text().replace("trials = 2\nepochs = 3\n", "trials = 3\nepochs = 40\n"))
    (finished / "runs/small/winner.json").unlink()
    monkeypatch.setattr(loop, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "KEEP_TIMES", 0)
    monkeypatch.setattr(trial, "PROGRESS_SECONDS", 0.0)
    return finished


def heard(monkeypatch, act):
    """Have `act(records)` called whenever a trial under way has told of new best weights."""
    told, hear = [], best_so_far.BestSoFar.hear_on_the_way

    def on_the_way(self, record):
        hear(self, record)
        told.append(record)
        act(told)

    monkeypatch.setattr(best_so_far.BestSoFar, "hear_on_the_way", on_the_way)
    return told


def test_a_trial_that_is_given_up_leaves_its_best_weights_so_far(long_fine, command, monkeypatch):
    run = long_fine / "runs/small"
    told = heard(monkeypatch, lambda _: None)
    monkeypatch.setattr(whole_run.WholeRun, "is_over", lambda self, factor=1.0: len(told) >= 3)
    monkeypatch.setattr(whole_run.WholeRun, "settings", lambda self, name, say: {})
    done = command("run", "small.toml", "--budget", "20m", "--through", "fine")
    assert done.code == 0, done.err
    result, last = json.loads((run / "fine/result.json").read_text()), told[-1]
    assert {"check": "training to the end", "why": result["checks"]["skipped"][-1]["why"]} in result["checks"][
        "skipped"
    ]
    assert f"trial 0 after {last.item.until_epoch} of 40 epochs" in result["checks"]["skipped"][-1]["why"]
    assert result["choice"]["trial"] == last.result.id and result["choice"]["best_epoch"] == last.result.best_epoch
    curve = (run / f"fine/curves/{last.result.id}.csv").read_text().splitlines()
    assert {int(row.split(",")[1]) for row in curve[1:]} == set(range(1, last.item.until_epoch + 1))
    tested = command("test", "small.toml")
    assert tested.code == 0, tested.err
    assert "The search has not ended" not in as_line(tested.out), "fine has ended, and said what is unsure"


@pytest.mark.slow
def test_a_trial_that_is_interrupted_leaves_a_model_that_can_be_tested_and_ends_alike(long_fine, command, monkeypatch):
    run, whole = long_fine / "runs/small", long_fine / "whole"
    shutil.copytree(run, whole)
    assert command("fine", "small.toml", "--run-dir", str(whole)).code == 0

    def interrupt(told):
        if len(told) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        told = heard(patched, interrupt)
        assert command("fine", "small.toml").code == 130
    tested = command("test", "small.toml")
    assert tested.code == 0, tested.err
    words = f"the best trial of fine so far, trained once for {told[-1].item.until_epoch} of its 40 epochs"
    assert words in as_line(tested.out)
    assert command("fine", "small.toml").code == 0
    assert differences(whole / "fine", run / "fine") == []


def test_a_search_without_a_single_trial_when_the_time_is_over_leaves_the_winner_so_far(finished, command, monkeypatch):
    run = finished / "runs/small"
    shutil.rmtree(run / "fine")
    winner = {**json.loads((run / "winner.json").read_text()), "so_far": "coarse"}
    monkeypatch.setattr(whole_run.WholeRun, "is_over", lambda self, factor=1.0: True)
    monkeypatch.setattr(whole_run.WholeRun, "settings", lambda self, name, say: {})
    best = json.loads((run / "coarse/result.json").read_text())["choice"]["trial"]
    winner |= {"trial": best, "checkpoint": f"coarse/checkpoints/{best}.pt", "score": 0.5}
    (run / "winner.json").write_text(json.dumps(winner))
    done = command("run", "small.toml", "--budget", "20m", "--through", "fine", "--workers", "1")
    assert done.code == 0, done.err
    assert "fine is left unfinished: the time of the run is over; the winner so far stands" in as_line(done.err)
    assert not (run / "fine/manifest.json").exists()
    assert json.loads((run / "winner.json").read_text()) == winner


def test_a_whole_run_takes_a_shorter_search_where_no_sensible_one_fits(finished, command, costs):
    costs(SLOW)
    path = finished / "small.toml"
    session = Session(path, load_recipe(path, settings=stages.settings_models()), Options(finished / "runs/small"))
    settings = stages.load("coarse").Settings(epochs=3, budget="60s")
    with pytest.raises(UsageError, match="too little for coarse"):
        budgets.planned(session, StageRef("coarse"), settings, 1)
    chosen, plan = budgets.planned(session, StageRef("coarse"), settings, 1, within_a_run=True)
    assert (chosen.trials, chosen.epochs) == (plan["trials"], plan["epochs"]) == (1, 1)


@pytest.mark.parametrize(("measured", "given"), [(SLOW, {"confirm": False}), (QUICK, {})])
def test_confirming_runs_are_made_where_there_is_time_for_them(finished, costs, measured, given):
    costs(measured)
    path = finished / "small.toml"
    session = Session(path, load_recipe(path, settings=stages.settings_models()), Options(finished / "runs/small"))
    whole, said = whole_run.WholeRun(session, parse("60s"), workers=1, given={"fine": {}}), []
    assert whole.settings("diagnose", said.append) == given
    assert len(said) == len(given)


def test_repeats_have_a_capped_share_of_a_budget(finished, command, costs):
    costs(Costs(epoch_seconds=1.0, evaluation_seconds=0.0, item_seconds=0.0, workers=1, source="lr-sweep"))
    path = finished / "small.toml"
    path.write_text(path.read_text().replace("finalists = 1\nseeds = 2", "finalists = 2\nseeds = 3"))
    repeats = {}
    for budget in ("60s", "60m"):  # what is left over goes to longer trainings first
        done = command("run", "small.toml", "--budget", budget, "--dry-run", "--json")
        plan = next(plan for plan in json.loads(done.out) if plan["stage"] == "fine")["search"]
        repeats[budget] = plan["repeats"]
        assert plan["repeats"] * plan["epochs"] <= 0.25 * plan["epochs_in_all"]
    assert repeats["60s"] < repeats["60m"] == 4


@pytest.fixture
def early_fine(finished, costs, monkeypatch):
    """Make fine end early: planned for ten seconds per epoch, it measures less, once. Give the plan before that."""
    costs(Costs(epoch_seconds=10.0, evaluation_seconds=0.0, item_seconds=0.0, workers=1, source="lr-sweep"))
    own, enlarge, before = iter([QUICK]), budgets.enlarge, []
    monkeypatch.setattr(budgets, "costs_of_its_own", lambda *_: next(own, None))
    monkeypatch.setattr(budgets, "enlarge", lambda *args: before.append(plan_of(finished, "fine")) or enlarge(*args))
    return before


def test_a_search_that_ends_early_goes_on_with_more_configurations_and_after_an_interruption(
    early_fine, finished, command, monkeypatch
):
    append = StageDir.append

    def append_and_stop(folder, record):
        append(folder, record)
        if early_fine and record.number >= early_fine[0]["trials"]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StageDir, "append", append_and_stop)
        stopped = command("run", "small.toml", "--budget", "400s")
    (first,), plan = early_fine, plan_of(finished, "fine")
    said = f"fine: 4 more configurations of {first['epochs']} epochs: there is time left"
    assert stopped.code == 130 and said in as_line(stopped.out + stopped.err)
    assert (plan["trials"], plan["epochs"]) == (first["trials"] + 4, first["epochs"])
    assert plan["expected_seconds"] < first["expected_seconds"]  # of what it took so far, and of four that take less
    assert command("run", "small.toml", "--budget", "400s").code == 0
    numbers = {item["number"] for item in trials_of(finished, "fine") if item["spec"]["seed"] == 0}
    assert numbers == set(range(first["trials"] + 4)) and len(early_fine) == 1
    metrics = json.loads((finished / "runs/small/fine/result.json").read_text())["metrics"]
    assert metrics["configurations"] == plan["trials"]


@pytest.mark.parametrize(("budget", "said"), [("40trials", "takes a time"), ("soon", "expected a time")])
def test_run_takes_a_time_alone(recipe, command, budget, said):
    done = command("run", "small.toml", "--budget", budget)
    assert done.code == 2 and "--budget" in done.err and said in done.err


def test_a_plan_of_coarse_rests_on_the_times_of_its_own_configurations(finished, command, monkeypatch):
    def append_one(folder, record):
        append(folder, record)
        raise KeyboardInterrupt

    append = StageDir.append
    monkeypatch.setattr(StageDir, "append", append_one)  # the rest of the search would take the 20 s
    done = command("coarse", "small.toml", "--budget", "20s")
    assert done.code == 130, done.err
    assert plan_of(finished)["costs"]["source"] == "timing"
    searched = trials_of(finished)
    assert len(searched) == 3  # two of them from before
    assert not [item for item in searched if item["spec"]["horizon_steps"]]  # none of those that were timed


def test_a_budget_file_that_tuner_did_not_write_is_named(finished, command):
    (finished / "runs/small/budget.json").write_text('{"budget": "20m"}')
    done = command("run", "small.toml", "--budget", "20m", "--dry-run")
    assert done.code == 3
    assert "budget.json: not what tuner wrote (it has no 'spent_seconds')" in done.err and "Delete it" in done.err
