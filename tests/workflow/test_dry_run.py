"""`--dry-run`: what a stage would do next, and what it has done, without doing it."""

from __future__ import annotations

import json
import re

import pytest

from tuner.core.trial import WorkItem
from tuner.search.costs import Costs
from tuner.workflow import budgets

SLOW = Costs(epoch_seconds=30.0, evaluation_seconds=1.0, item_seconds=0.1, workers=1, source="lr-sweep")


def counts(done):
    plan = json.loads(done.out)
    finished = [trial for trial in plan["trials"] if trial["finished"]]
    return len(plan["trials"]) - len(finished), len(finished)


def test_a_finished_step_has_all_its_trials_and_nothing_to_run(finished, command):
    lines = (finished / "runs/small/fine/trials.csv").read_text().splitlines()
    done = command("fine", "small.toml", "--dry-run")
    assert f" fine: nothing to run, {len(lines) - 1} finished" in done.out
    assert counts(command("fine", "small.toml", "--dry-run", "--json")) == (0, len(lines) - 1)
    assert counts(command("fine", "small.toml", "--dry-run", "--fresh", "--json")) == (2, 0)


def test_an_interrupted_step_shows_what_comes_next(finished, command):
    folder = finished / "runs/small/fine"
    lines = (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["item"]["spec"]["seed"] == 0]
    (folder / "trials.jsonl").write_text("".join(kept))
    (folder / "manifest.json").unlink()
    done = command("fine", "small.toml", "--dry-run")
    assert " fine: 1 trial to run first, 2 finished" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert re.search(r"^ +2  seed 1  3 epochs", done.out, re.MULTILINE)


def test_run_with_a_budget_before_anything_has_been_timed(recipe, command):
    done = command("run", "small.toml", "--budget", "2m", "--dry-run")
    assert done.code == 0, done.err
    words = " ".join(done.out.split())
    waits = r"{}: waits for the steps before it; planned for its (\d+)s when lr-sweep has measured its steps"
    coarse, fine = (int(re.search(waits.format(stage), words)[1]) for stage in ("coarse", "fine"))
    assert coarse + fine < 120 and fine == pytest.approx(3 * coarse, abs=2)
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_budget_of_run_that_is_too_little_for_both_searches_says_what_is_left_out(finished, command, monkeypatch):
    monkeypatch.setattr(budgets, "of_sweep", lambda *_: SLOW)
    monkeypatch.setattr(budgets, "of_search", lambda *_: SLOW)
    done = command("run", "small.toml", "--budget", "1m", "--dry-run")
    assert done.code == 0, done.err
    assert " fine: left out: the budget is too short for it" in done.out


def test_a_search_with_too_small_a_budget_of_its_own_is_planned_within_a_time_for_the_whole_run(
    finished, command, monkeypatch
):
    monkeypatch.setattr(budgets, "of_sweep", lambda *_: SLOW)
    own = ("--set", "stages.coarse.budget='40s'", "--dry-run")
    alone = command("coarse", "small.toml", *own)
    assert alone.code == 2 and "--budget 40s: too little for coarse" in alone.err
    whole = command("run", "small.toml", "--budget", "2h", *own)
    assert whole.code == 0, whole.err
    assert re.search(r"coarse: .* to run first", " ".join(whole.out.split()))


def test_auto_means_the_kind_of_device_that_the_finished_trials_ran_on(finished, command):
    folder = finished / "runs/small/fine"
    lines = (folder / "trials.jsonl").read_text().splitlines()
    (folder / "trials.jsonl").write_text("".join(map(elsewhere, lines)))
    (folder / "manifest.json").unlink()
    assert counts(command("fine", "small.toml", "--dry-run", "--json")) == (0, 3)
    assert counts(command("fine", "small.toml", "--dry-run", "--json", "--device", "cpu"))[1] == 0


def elsewhere(line):
    """A line of trials.jsonl, as a GPU would have written it."""
    value = json.loads(line)
    value["item"]["spec"]["device"] = "cuda"
    value["result"]["id"] = WorkItem.from_json(value["item"]).spec.id
    return json.dumps(value) + "\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule={name='cosin'}", "schedule.name: unknown schedule 'cosin' - did you mean 'cosine'?"),
        ("loss={name='no.such.loss'}", "loss.name: 'no.such.loss': there is no module 'no'"),
        ("model.widht=3", "model.widht: mlp() takes no such argument - did you mean 'width'?"),
        ("train.monitor='val_acuracy'", "train.monitor: 'val_acuracy' is not measured - did you mean 'val_accuracy'?"),
        ("optimizer.name='sparseadam'", "optimizer"),
        ("data={source='npz', path='no.npz'}", "no.npz"),
    ],
)
@pytest.mark.parametrize("stage", ["check-init", "run"])
def test_what_the_command_would_refuse_is_refused(recipe, command, tmp_path, stage, override, message):
    done = command(stage, "small.toml", "--dry-run", "--set", override)
    real = command(stage, "small.toml", "--set", override)
    assert (done.code, done.err) == (real.code, real.err) and done.code in (2, 3)
    assert message in done.err
    assert not list((tmp_path / "runs").rglob("trials.jsonl"))
