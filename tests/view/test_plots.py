from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.view.seen import STAGES, bare, measured, read, write_csv
from tuner.core.metrics import ConfirmingRun, KeyImportance
from tuner.view.artifacts import is_log
from tuner.view.plots import check_init, draw, importance, style
from tuner.view.plots.coarse import curves_sheet
from tuner.view.plots.keys import by_importance, key_axis

EXPECTED = {
    "check-init": {"init", "layers", "rates"},
    "overfit": {"overfit"},
    "lr-sweep": {"lr-sweep"},
    "coarse": {"search", "curves", "importance", "map", "parallel"},
    "fine": {"search", "curves", "finalists", "map", "parallel"},  # of four trials no key's importance can be told
    "diagnose": {"curves"},
    "test": {"test"},
}


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5_000


@pytest.fixture
def copied(run_dir, tmp_path):
    """The run, in a folder of its own: drawing writes into it."""
    return shutil.copytree(run_dir, tmp_path / "run")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_its_plots(run_dir, stage):
    paths = list((run_dir / stage / "plots").iterdir())
    assert {path.stem for path in paths} == EXPECTED[stage]
    assert all(is_png(path) for path in paths)


def test_the_plots_of_the_searched_stages_are_drawn_without_warnings(searched):
    assert searched.warned == ()


@pytest.mark.parametrize("stage", STAGES[:3])  # which the searched run takes over from the finished one
def test_draw_writes_the_plots_of_the_stages_before_without_warnings(copied, stage):
    shutil.rmtree(copied / stage / "plots")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw(read(copied, stage), copied / stage)
    assert {path.stem for path in paths} == EXPECTED[stage] and all(is_png(path) for path in paths)
    assert sorted((copied / stage / "plots").iterdir()) == sorted(paths)


@pytest.mark.parametrize("stage", STAGES)
def test_draw_gives_at_least_one_plot_of_an_empty_result(run_dir, tmp_path, stage):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw(bare(read(run_dir, stage)), tmp_path / stage)
    assert paths and all(is_png(path) for path in paths)


def test_what_mattered_is_drawn_of_trials_that_were_stopped_or_failed(run_dir, tmp_path):
    keys = {"optimizer.lr": [1e-3, 0.01, 0.1, 1.0], "model.dropout": [0.0, 0.1, None, 0.3], "loss.name": list("abab")}
    ends = [("completed", 0.9), ("stopped", 0.5), ("completed", 0.8), ("diverged", None)]
    rows = [
        {
            "number": i,
            "trial": f"t{i}",
            **{key: values[i] for key, values in keys.items()},
            "status": end,
            "score": score,
        }
        for i, (end, score) in enumerate(ends)
    ]
    write_csv(tmp_path / "coarse" / "trials.csv", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw(bare(read(run_dir, "coarse")), tmp_path / "coarse")
    assert {path.stem for path in paths} == {"search", "curves", "map", "parallel"}  # no importance was measured
    assert all(is_png(path) for path in paths)


@pytest.mark.parametrize(
    ("values", "log", "labels"),
    [
        ([1e-4, 1e-2, 1.0], True, ["0.0001", "0.01", "1"]),
        ([1e-6, 1e-4, 1e-2], True, ["1e-6", "1e-4", "1e-2"]),
        ([0.0, 0.1, 0.5], False, ["0", "0.1", "0.5"]),
        ([0.0, 0.01, 0.5, 0.51, 0.9, 1.0], False, ["0", "0.5", "1"]),
        (["sgd", "adam", None], False, ["adam", "sgd"]),
    ],
)
def test_an_axis_of_a_key_is_labelled_where_its_values_are(values, log, labels):
    axis = key_axis("optimizer.x", [{"optimizer.x": value} for value in values])
    assert axis.log == log and [text for _, text in axis.labels()] == labels
    places = [axis.share(place) for place in axis.known]
    assert places == sorted(places) and all(0 < place < 1 for place in places)


@pytest.mark.parametrize(
    ("key", "values", "log"),
    [
        ("optimizer.lr", [0.01, 0.021], True),  # of a rate ratios matter
        ("optimizer.lr", [0.01, 0.02], False),
        ("model.width", [16, 128], False),
        ("model.width", [16, 129, None], True),
        ("optimizer.weight_decay", [0.0, 0.1], False),
        ("optimizer.name", ["sgd", "adam"], False),
    ],
)
def test_a_key_is_drawn_in_the_logarithm_in_plots_and_reports_alike(key, values, log):
    assert is_log(key, values) == log
    assert key_axis(key, [{key: value} for value in values]).log == log


def test_keys_are_ordered_by_their_importance(run_dir):
    found = read(run_dir, "coarse")
    entries = [KeyImportance("b"), KeyImportance("a")]
    assert by_importance(measured(found, importance=entries), ["c", "a", "b"]) == ["b", "a", "c"]
    assert by_importance(measured(found, importance=()), ["c", "a"]) == ["c", "a"]


def test_of_equal_trials_the_one_with_the_lower_val_loss_is_marked_as_the_best(tmp_path):
    trials = [
        {"trial": name, "val_score": accuracy, "best_val_loss": loss, "status": "completed"}
        for name, accuracy, loss in (("low", 0.8, 0.1), ("best", 0.9, 0.3), ("tied", 0.9, 0.4), ("none", None, None))
    ]
    for row in trials:
        curve = [{"step": 1, "epoch": 1, "split": "val", "loss": 0.5, "accuracy": 0.5}]
        write_csv(tmp_path / "curves" / f"{row['trial']}.csv", curve)

    def named(**chosen):
        lines = curves_sheet(trials, tmp_path, **chosen).axes[0].get_lines()
        return [line.get_label() for line in lines if " trial, " in line.get_label()]

    assert named() == ["best trial, best"] and named(chosen="low") == ["chosen trial, low"]


def test_draw_survives_names_that_matplotlib_would_read_as_mathematics(run_dir, tmp_path):
    found = bare(read(run_dir, "test"), confusion=[[3, 1], [0, 4]], class_names=["$x_{", "中文 class"], accuracy=0.875)
    paths = draw(replace(found, headline="cost $5 or $6"), tmp_path)
    assert is_png(paths[0])


def test_draw_of_a_round_uses_the_stage(copied):
    (copied / "diagnose-2").mkdir()
    drawn = draw(read(copied, "diagnose"), copied / "diagnose-2")
    assert [path.parent.parent.name for path in drawn] == ["diagnose-2"]


def test_drawing_touches_no_pyplot_and_no_torch(copied):
    code = (
        "import pathlib, sys; from tuner import stages; from tuner.view.plots import draw;"
        "run = pathlib.Path(sys.argv[1]);"
        "draw(stages.read_result(run / 'test/result.json'), run / 'test');"
        "print([name for name in ('matplotlib.pyplot', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(copied)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and done.stderr == ""


def test_confirming_runs_are_drawn_with_their_noise(copied):
    answered = ConfirmingRun("rate x 10", runs=2, accuracy=0.9, control=0.7, gain=0.2, noise=0.01, helps=True)
    control = replace(answered, arm="control", gain=None, noise=None, helps=False)
    useless = replace(answered, arm="fp32", gain=0.0, helps=False)
    found = measured(read(copied, "diagnose"), confirming=[control, answered, useless])
    assert {path.stem for path in draw(found, copied / "diagnose")} == {"curves", "confirming"}


@pytest.mark.parametrize(
    ("limits", "texts"),
    [
        ((0.011, 1.1), ["0.03", "0.1", "0.3", "1"]),
        ((0.03, 0.12), ["0.05", "0.1"]),
        ((8e-5, 2.0), ["0.0001", "0.001", "0.01", "0.1", "1"]),
        ((8e-7, 2.0), ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1"]),
    ],
)
def test_a_log_axis_has_ticks_of_one_form(limits, texts):
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.add_subplot()
    ax.set_xscale("log")
    ax.set_xlim(*limits)
    style.log_axis(ax.xaxis)
    figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels() if tick.get_text()] == texts


def test_the_layers_need_no_legend_that_could_cover_them(run_dir):
    figure = check_init.figures(read(run_dir, "check-init"), run_dir / "check-init")["layers"]
    top, bottom = figure.axes
    assert top.get_legend() is None and bottom.get_legend() is None
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("activation, mean +- std", "norm of the gradient")


def test_of_trials_at_one_place_the_best_is_drawn_on_top():
    trials = [{"val_score": score, "status": "completed"} for score in (0.99, 1.0, 0.98)]
    points = importance._points([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], trials, stopped=False)
    assert [score for _, _, score in points] == [0.98, 0.99, 1.0]


@pytest.mark.parametrize("count", [4, 6, 7, 10])
def test_the_rates_of_a_sweep_leave_their_legend_room(run_dir, count):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from tuner.view.plots import lr_sweep

    found = read(run_dir, "lr-sweep")
    rates = [replace(found.metrics.rates[0], lr=lr) for lr in np.geomspace(1e-4, 1, count).tolist()]
    trials = dict.fromkeys((str(entry.lr) for entry in rates), next(iter(found.metrics.trials.values())))
    figure = lr_sweep.figures(measured(found, rates=rates, trials=trials), run_dir / "lr-sweep")["lr-sweep"]
    FigureCanvasAgg(figure).draw()
    ax = figure.axes[1]
    low = ax.transData.inverted().transform(ax.get_legend().get_window_extent().min)[1]
    assert low > max(line.get_ydata()[0] for line in ax.lines)  # what does not fall stays where it began
