"""Plots are drawn beside what comes after them, and are there when the command ends, whatever ended the last one."""

import shutil
import threading

import pytest

from tests.conftest import tuner as command
from tests.results import result_of
from tuner.core.errors import EnvironmentProblem
from tuner.core.store import StageDir
from tuner.view import plots
from tuner.workflow.drawing import Drawing


@pytest.fixture
def drawn(monkeypatch):
    """Stand in for what draws: it notes the thread, and makes the folder."""
    threads = []

    def draw(result, folder):
        threads.append(threading.current_thread())
        (folder / "plots").mkdir(parents=True)

    monkeypatch.setattr(plots, "draw", draw)
    return threads


@pytest.mark.parametrize("beside", [True, False])
def test_plots_are_drawn_in_a_thread_only_where_trials_run_elsewhere(tmp_path, drawn, beside):
    drawing = Drawing(pytest.fail, beside)
    drawing.draw(result_of("coarse", {}), StageDir(tmp_path))
    drawing.finish()
    drawing.close()
    assert [thread is threading.main_thread() for thread in drawn] == [not beside]


def test_plots_that_are_there_are_not_drawn_again(tmp_path, drawn):
    (tmp_path / "plots").mkdir()
    drawing = Drawing(pytest.fail, beside=False)
    drawing.draw(result_of("coarse", {}), StageDir(tmp_path))
    assert drawn == []


def test_a_plot_that_cannot_be_drawn_is_said_once_and_one_that_cannot_be_written_ends_the_command(
    tmp_path, monkeypatch
):
    notes = []

    def fails(result, folder):
        raise ValueError("no such font")

    monkeypatch.setattr(plots, "draw", fails)
    for _ in range(2):
        Drawing(notes.append, beside=False).draw(result_of("coarse", {}), StageDir(tmp_path))
    assert notes == ["the plots of coarse could not be drawn: ValueError: no such font"]

    def full(result, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "draw", full)
    (tmp_path / "plots").rmdir()
    drawing = Drawing(notes.append, beside=True)
    drawing.draw(result_of("coarse", {}), StageDir(tmp_path))
    with pytest.raises(EnvironmentProblem, match="cannot write .*plots.*No space left"):
        drawing.finish()
    drawing.close()


def test_a_command_draws_what_a_killed_one_has_left_undrawn(finished):
    folder = finished / "runs" / "small" / "coarse"
    names = sorted(path.name for path in (folder / "plots").iterdir())
    shutil.rmtree(folder / "plots")
    assert command("coarse", "small.toml", "--workers", "0", cwd=finished).code == 0
    assert sorted(path.name for path in (folder / "plots").iterdir()) == names
