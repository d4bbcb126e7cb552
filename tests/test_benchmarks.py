import json
import math
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    coverage,
    drive,
    equal_data,
    equal_time,
    pages,
    peers,
    peers_said,
    planned,
    pruned,
    pruned_usual,
    report,
    search,
    search_side,
    seconds,
    sweep,
    tables,
)
from benchmarks.equal_space import OWN, RANGES
from benchmarks.lines import Lines
from benchmarks.part import Asked, cifar10_root
from benchmarks.pruned_ours import recipe_of
from benchmarks.task import Task, make_subset
from tests.zoo.case import Case
from tests.zoo.causes import CAUSES, NEWER
from tuner import stages
from tuner.core.result import Record, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.file import load_recipe
from tuner.recipe.space import Dimension, Range, Space
from tuner.search.band import on_grid

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system has no /proc/PID/smaps")
def test_two_workers_share_the_pages_of_the_cache_and_hold_none_of_their_own(tmp_path):
    found = pages.measure(tmp_path)
    assert len(found["processes"]) == 2
    for sizes in found["processes"].values():
        whole = found["file_bytes"] // 1024
        print(sizes)
        assert sizes["Rss"] == pytest.approx(whole, abs=8)
        assert sizes["Private_Dirty"] == sizes["Shared_Dirty"] == 0
        assert sizes["Shared_Clean"] == sizes["Rss"]


def test_every_side_is_given_the_same_rates_and_more_trials_begin_with_them():
    few, many = (Task("digits", "", "", trials, 1).rates for trials in (4, 16))
    assert many[:4] == few and all(1e-3 <= lr <= 3e-1 for lr in many) and len(set(many)) == 16


def test_a_subset_has_four_fifths_to_train_on_and_no_image_twice(tmp_path):
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "train" / name / f"{i:02}.jpg").write_text("x")
    folder = make_subset(tmp_path, 100, tmp_path / "work")
    assert make_subset(tmp_path, 100, tmp_path / "work") == folder, "made once"
    found = {split: sorted(p.name for p in folder.glob(f"{split}/a/*")) for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in found.items()} == {"train": 8, "val": 2, "test": 5}
    assert len({name for names in found.values() for name in names}) == 15


def test_ratios_are_of_runs_side_by_side():
    def outcomes(*rates):
        return [{"rate": rate, "best": 0.5, "note": "n", "apart": {"start-up": 1.0}} for rate in rates]

    rows = report.table("cifar10", {"a": outcomes(100, 200, 300), "d": outcomes(500, 800, 1800)})
    assert rows[2].endswith("| 3 | 200 | 100 | 300 | 5.00 | 4.00 | 6.00 | 4.5 |")
    assert rows[3].endswith("| 3 | 800 | 500 | 1,800 |  |  |  |  |")


def asked(tmp_path, seeds=1):
    said = []
    return Asked(tmp_path, Lines(tmp_path / "lines.jsonl"), seeds, said.append), said


def test_a_finished_piece_is_not_done_again_and_a_torn_line_is(tmp_path):
    path = tmp_path / "results" / "lines.jsonl"
    lines, made = Lines(path), []
    for seed in (0, 1, 0):
        assert lines.once({"part": "p", "seed": seed}, lambda s=seed: made.append(s) or {"s": s}) == {"s": seed}
    assert made == [0, 1]
    path.write_text(path.read_text() + '{"of": {"part": "p", "se')
    again = Lines(path)
    assert again.get({"seed": 1, "part": "p"}) == {"s": 1} and again.get({"part": "p", "seed": 2}) is None
    again.keep({"part": "p", "seed": 2}, [3])
    assert Lines(path).get({"part": "p", "seed": 2}) == [3]
    assert [json.loads(line)["of"]["seed"] for line in path.read_text().splitlines()] == [0, 1, 2]


def heard(trial, until, accuracies):
    """Make the record of a trial up to a rung."""
    spec = TrialSpec({}, {"optimizer.lr": trial}, 0, horizon_epochs=3)
    curve = [{"epoch": i + 1, "split": "val", "accuracy": a, "step": i} for i, a in enumerate(accuracies)]
    return Record(WorkItem(spec, 0, until), TrialResult(spec.id, until, "completed", curve))


def test_a_trace_counts_each_epoch_once_and_a_rung_that_is_continued_only_what_is_new():
    trace = drive.Trace()
    for record in (heard(0.1, 1, [0.5]), heard(0.2, 1, [0.6]), heard(0.2, None, [0.6, 0.8, 0.7])):
        trace.hear(record)
    assert [point[1:] for point in trace.points] == [(1, 0.5), (2, 0.6), (3, 0.8), (4, 0.7)] and trace.epochs == 4
    assert drive.reached(trace.points, 0.7, 1) == 3 and drive.reached(trace.points, 0.81, 1) is None
    assert drive.reached([(1.5, 1, 0.5), (2.5, 2, 0.9)], 0.5, 0) == 1.5


def test_the_target_of_a_seed_is_what_both_sides_come_to():
    sides = {
        "a": {"seconds": 60.0, "best": 0.7, "points": [(10.0, 1, 0.5), (40.0, 2, 0.6), (60.0, 3, 0.7)]},
        "d": {"seconds": 12.0, "best": 0.6, "points": [(5.0, 1, 0.4), (10.0, 2, 0.6)]},
    }
    assert pruned.compared(sides) == {"target": 0.6, "a": 40.0, "d": 10.0, "ratio": 4.0}
    for name, extra in (("a", "2 processes"), ("d", "2 workers")):
        sides[name] |= {"epochs": 3, "apart": {"start-up": 1.0}, "note": extra}
    found = {"sizes": {"trials": 2, "epochs": 3, "images": 100}, "ways": {"w": 1000}, "seeds": [sides]}
    page = "\n".join(pruned.section(found))
    assert "| 0 | 0.6000 | 40.0 of 60.0 | 0.7000 | 3 | 10.0 of 12.0 | 0.6000 | 3 | 4.00 |" in page
    assert "tuner is 4.00 (median of 1; 4.00 to 4.00) times as fast" in page and "start-up 1.0 s" in page


def test_both_sides_that_prune_have_one_space_and_begin_in_its_middle():
    recipe = recipe_of(Task("digits", "", "", 2, 1), 3)
    assert recipe.seed == 3 and set(recipe.search) == set(pruned.SPACE)
    for key, (low, high) in pruned.SPACE.items():
        assert recipe.search[key] == {"low": low, "high": high, "log": True}
        assert recipe.value(key) == pruned.OWN[key] == pytest.approx(math.sqrt(low * high))


def test_the_side_that_prunes_with_optuna_spends_its_trials_and_no_more(tmp_path):
    tickets = multiprocessing.get_context("spawn").Value("i", 5)
    journal = tmp_path / "journal.log"
    points = pruned_usual.search(Task("digits", "", "", 5, 4), 0, 0, 0, str(journal), tickets)
    assert tickets.value == -1 and 5 <= len(points) <= 20 and max(accuracy for _, accuracy in points) > 0.5
    assert [seconds for seconds, _ in points] == sorted(seconds for seconds, _ in points)
    study = pruned_usual.search(Task("digits", "", "", 5, 4), 0, 0, 1, str(journal), tickets)
    assert study == [], "no tickets are left for another process"


def test_without_the_images_a_part_is_left_out_and_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNER_DATA", raising=False)
    given, said = asked(tmp_path)
    assert pruned.measure(given, pruned.Sizes()) == {} and cifar10_root(given, "search") is None
    assert said[0] == "pruned: skipped, there is no $TUNER_DATA/cifar10/train/<class>/*.jpg"


@pytest.mark.slow
def test_a_search_costs_optuna_what_it_cost_tuner(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "ask", lambda module, given: search_side.side(given))
    given, said = asked(tmp_path)
    sizes = search.Sizes(cifar10=0, coarse_trials=4, coarse_epochs=1, fine_trials=3, fine_epochs=2)
    found = search.measure(given, sizes)
    both = found["digits"][0]
    tuner, optuna = both["tuner"], both["optuna"]
    # 4 x 1, 3 x 2, and two finalists with two new seeds
    assert tuner["epochs"] == 4 + 6 + 8 and tuner["trials"] == 11
    assert 18 <= optuna["epochs"] < 18 + 2
    for one in both.values():
        assert max(point[2] for point in one["points"]) == pytest.approx(one["best"])
        assert 0.5 < one["test"] <= 1 and len(one["points"]) == one["epochs"]
    assert len(said) == 2 and search.measure(given, sizes) == found and len(said) == 4
    page = "\n".join(search.section(found))
    assert f"| 0 | {tuner['epochs']} | {optuna['epochs']} | 11 | {optuna['trials']} |" in page


def test_a_search_that_never_reaches_the_target_is_said_so():
    def one(points, best):
        return {"epochs": 3, "trials": 1, "best": best, "test": 0.5, "points": points}

    optuna = one([(1.0, 1, 0.5), (2.0, 4, 0.8)], 0.8)
    pairs = [
        {"tuner": one([(1.0, 1, 0.7)], 0.7), "optuna": optuna},
        {"tuner": one([(1.0, 1, 0.8)], 0.8), "optuna": optuna},
    ]
    page = "\n".join(search.table("digits", pairs))
    assert "| never | 4 |" in page and "| 1 | 4 |" in page and "(0.25 to inf; inf: never)" in page


def test_the_half_width_over_seeds_is_that_of_the_t_interval():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = [0.1, 0.4, 0.2, 0.5]
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert search.t_half(values) == pytest.approx((high - low) / 2) and search.t_half([0.1]) is None


def test_what_the_winner_claims_is_held_against_untouched_data(tmp_path):
    given, _ = asked(tmp_path)
    sizes = coverage.Sizes(1, 80, 60, 500, coarse_trials=3, coarse_epochs=1, fine_trials=2, fine_epochs=2)
    found = coverage.measure(given, sizes)
    one = found["searches"][0]
    assert all(len(one["intervals"][key]) == 2 for key in one["intervals"]) and "interval" in one["intervals"]
    assert one["naive_interval"][0] < one["naive"] < one["naive_interval"][1]
    for key in ("test", "test_mean", "naive_test"):
        assert 0.1 < one[key] < 1
    assert coverage.measure(given, sizes)["searches"] == json.loads(json.dumps(found["searches"]))


def test_repeats_draw_other_examples_of_one_mixture(tmp_path):
    sizes = coverage.Sizes(train=2000)
    drawn = [np.load(coverage.write_data(folder(tmp_path / str(i)), sizes, i)) for i in (0, 1)]
    assert not np.array_equal(drawn[0]["x_val"], drawn[1]["x_val"])
    assert len(drawn[0]["x_val"]) == sizes.val and len(drawn[0]["x_test"]) == sizes.test
    means = [np.stack([d["x_train"][d["y_train"] == k].mean(0) for k in range(coverage.CLASSES)]) for d in drawn]
    assert np.abs(means[0] - means[1]).max() < 0.4 < np.abs(means[0][0] - means[0][1]).max()


def folder(path):
    path.mkdir()
    return path


def test_coverage_counts_the_intervals_that_hold_the_accuracy():
    text = coverage.row("c", "w", [((0.4, 0.6), 0.5), ((0.4, 0.6), 0.6), ((0.4, 0.6), 0.7), ((0.4, 0.6), 0.2)])
    assert text == "| c | w | 4 | 2 of 4: 50.0% (15% to 85%) | 0.200 | +0.0000 |"


def test_planned_and_taken_are_held_against_each_other():
    def stage(planned, took):
        return {"budget": "60s", "trials": 8, "epochs": 3, "planned": planned, "took": took, "command": took + 1}

    found = {"digits": [{"coarse": stage(50.0, 55.0), "fine": stage(50.0, 70.0)}]}
    page = "\n".join(planned.section(found))
    assert "| digits | coarse | 60s | 8 x 3 | 50.0 | 55.0 | +10% | 56.0 |" in page
    assert "1 of 2 within 25%" in page


@pytest.mark.slow
def test_a_search_with_a_budget_says_what_it_planned_and_took(tmp_path):
    given, said = asked(tmp_path)
    sizes = planned.Sizes(repeats=1, cifar10=0, coarse_seconds=5, fine_seconds=10)
    stages = planned.measure(given, sizes)["digits"][0]
    for name, most in (("coarse", 5), ("fine", 10)):
        assert 0 < stages[name]["planned"] <= most and 0 < stages[name]["took"] < stages[name]["command"]
    assert len(said) == 2 and said[0].startswith("planned: digits, coarse: ")


@pytest.mark.slow
def test_two_processes_prune_in_one_study(tmp_path):
    found = pruned_usual.study(Task("digits", "", str(tmp_path), 5, 4), 0, {"processes": 2, "workers": 0})
    seconds, epochs, accuracies = zip(*found["points"], strict=True)
    assert epochs == tuple(range(1, found["epochs"] + 1)) and 5 <= found["epochs"] <= 20
    assert list(seconds) == sorted(seconds) and seconds[-1] <= found["seconds"]
    assert found["best"] == max(accuracies) > 0.5


@pytest.mark.slow
def test_the_side_that_prunes_with_tuner_keeps_to_the_same_budget(tmp_path):
    from benchmarks import pruned_ours

    task = {"kind": "digits", "folder": "", "work": str(tmp_path), "trials": 6, "epochs": 3}
    found = pruned_ours.side({"task": task, "seed": 0})
    assert 6 <= found["epochs"] <= 18 and found["best"] == max(point[2] for point in found["points"])


@pytest.mark.slow
def test_a_short_run_writes_its_page_and_its_numbers():
    command = "--only digits a c d --trials 1 --epochs 1 --repeats 1 --name test-of-the-benchmarks"
    files = [report.RESULTS / f"test-of-the-benchmarks.{kind}" for kind in ("json", "md", "jsonl")]
    files[2].unlink(missing_ok=True)  # what it holds would not be done again
    try:
        subprocess.run([sys.executable, "-m", "benchmarks", *command.split()], cwd=ROOT, check=True)
        assert set(json.loads(files[0].read_text())["digits"]) == {"a", "c", "d"}
        assert "Digits, mlp" in files[1].read_text()
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def test_equal_time_data_keeps_its_test_split_whatever_the_seed(tmp_path):
    splits = [dict(np.load(equal_data.make("digits", tmp_path, seed))) for seed in (0, 1)]
    sizes = [{name: len(array) for name, array in arrays.items() if name[0] == "y"} for arrays in splits]
    assert sizes[0] == sizes[1] == {"y_train": 1150, "y_val": 288, "y_test": 359}
    assert np.array_equal(splits[0]["y_test"], splits[1]["y_test"])
    assert not np.array_equal(splits[0]["y_train"], splits[1]["y_train"])
    assert splits[0]["x_train"].mean() == pytest.approx(0, abs=1e-5)
    assert splits[0]["x_train"].std() == pytest.approx(1, abs=1e-5)


def test_equal_time_gives_tuner_the_space_of_the_others(tmp_path):
    path = tmp_path / "equal.toml"
    path.write_text(equal_time.recipe_text({"set": "letters", "seed": 3, "data": "/x/letters-3.npz"}))
    recipe = load_recipe(path, settings=stages.settings_models())
    assert set(recipe.search) == set(OWN["letters"]) == {*RANGES, "model.width"}
    assert {key: recipe.value(key) for key in OWN["letters"]} == OWN["letters"]
    assert recipe.search["optimizer.momentum"] == {"low": 0.5, "high": 0.99, "log": False}


def test_equal_time_compares_the_winners_of_the_same_seconds():
    sides = {"d": {"test": 0.9, "claim": [0.85, 0.95], "wall": 66, "load": 2}}
    sides["c"] = {"test": 0.8, "claim": 0.88, "wall": 66, "load": 2}
    lines = equal_time.section({"runs": [{"set": "digits", "seconds": 60, "seed": 0, "sides": sides}]})
    assert any(line.endswith("| 0.9000 / 0.850-0.950 | 0.8000 / 0.8800 | +10.0 |") for line in lines)
    assert "tuner's interval held the test accuracy in 1 of 1." in lines
    assert "It took +10% more than the budget (median; at most +10%)." in lines


def test_the_seconds_of_a_run_are_medians_of_each_part_and_of_the_whole():
    runs = [{"start": 1.0, "test": 2.0}, {"start": 3.0, "test": 2.5}, {"start": 2.0, "test": 9.0}]
    lines = seconds.table(runs)[2:]
    assert lines == ["| start | 2.0 (1.0-3.0) |", "| test | 2.5 (2.0-9.0) |", "| all | 5.5 (3.0-11.0) |"]
    assert seconds.table(runs[:1])[2] == "| start | 1.0 |"


def test_a_search_on_a_table_is_judged_by_the_mean_of_what_it_saw_the_best_run_of():
    space = Space((Dimension("a", Range(0, 1, integer=True)),))
    table = tables.Table(space, {(0,): [1.0, 0.0], (1,): [0.7, 0.7]}, best=0.7, least_gap=0.2)
    assert table.regret({"a": 0}) == pytest.approx(0.2)
    assert table.regret({"a": 1}) == pytest.approx(0.1), "half of the least gap: nothing smaller can be told"
    for search_name in ("tuner", "random"):
        found = tables.run(search_name, table, 0, tables.Sizes(evaluations=8, seeds=1))
        assert found == pytest.approx(0.2), "run 0 of a = 0 looked better than it is"


def test_both_ways_of_a_sweep_are_played_from_the_same_runs_and_held_against_brute_force():
    runs = []
    for lr in (on_grid(1e-4, place) for place in sweep.PLACES):
        drop = 1.5 * math.exp(-((math.log10(lr / 1e-2) / 0.7) ** 2))
        losses = [2.3 - drop * min(1.0, i / 80) + 0.01 * (-1) ** i for i in range(100)]
        runs += [{"lr": lr, "seed": seed, "steps": 100, "losses": losses, "score": None} for seed in range(3)]
        runs += [{"lr": lr, "seed": seed, "steps": None, "losses": [], "score": 0.5 + drop / 5} for seed in range(2)]
    full, race = (sweep.played(runs, way) for way in ("full", "race"))
    assert full["lr"] == race["lr"] == full["best"] == 1e-2 and race["lost"] == pytest.approx(0)
    assert full["iterations"] == 1800 and race["iterations"] < 900


def test_what_other_tools_say_is_said_in_causes_of_the_zoo():
    for checks in peers_said.CAUSES.values():
        assert checks
        assert not [cause for causes in checks.values() for cause in causes if cause not in CAUSES | NEWER]


def a_case(name, causes=()):
    return Case(name, "", "digits-mlp", "", Path("x/bugs/y.py"), healthy=not causes, causes=tuple(causes))


def test_a_tool_is_counted_by_what_it_says_first_and_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(peers.importlib.metadata, "version", lambda name: "1.0")
    said = {
        "named": (["gradients-accumulate"], ["TG003"]),
        "second": (["gradients-accumulate"], ["TG005", "TG003"]),
        "other": (["lr-too-high"], ["TG005"]),
        "missed": (["lr-too-high"], []),
        "sound": ((), []),
        "alarmed": ((), ["TG005"]),
        "refused": (["lr-too-high"], None),
    }
    asked = []
    for name, (causes, found) in said.items():
        path = tmp_path / f"{name}.json"
        status = "not built" if found is None else "done"
        path.write_text(json.dumps({"status": status, "said": found or [], "seconds": 2.0}))
        asked.append((a_case(name, causes), path))
    asked.append((a_case("later", ["lr-too-high"]), tmp_path / "later.json"))  # not run yet
    row = peers.row("torch-preflight", asked)
    assert row[1:] == ("4", "3 (75 %)", "1 (25 %)", "2 (50 %)", "2", "1 (50 %)", "0", "2.0")
    assert len(row) == len(peers.HEAD)
