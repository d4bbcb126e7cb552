from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from tests.view.seen import plain_console, text_of
from tuner.core.result import TrialResult
from tuner.core.trial import Progress
from tuner.view import progress as progress_module
from tuner.view.progress import Epochs, ProgressView


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def finished(accuracy=None, status="completed"):
    curve = [{"step": 9, "epoch": 1, "split": "val", "loss": 1.0, "accuracy": accuracy}]
    return TrialResult("abc", None, status, curve, best_epoch=1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def view(clock):
    console, _ = plain_console()
    with ProgressView(console=console, clock=clock) as view:
        yield view


def test_line_says_share_time_left_and_best(view, clock):
    view.start("coarse", 16)
    for number, accuracy in enumerate([0.5, 0.812, None, 0.7]):
        view.update(Progress(number, 1.0))
        view.finish(finished(accuracy))
    view.update(Progress(4, 0.5, "epoch 2 of 4"))
    view.update(Progress(5, 0.94))
    clock.now += 80
    assert view.line() == (
        "coarse: 4/16 trials, 34 % done, 1m20s elapsed, at least 2m35s left; best val accuracy 0.812"
    )


def test_line_counts_what_diverged_and_failed(view):
    view.start("coarse", 3)
    view.finish(finished(status="diverged"))
    view.finish(finished(status="failed"))
    assert view.line().endswith("; 1 diverged; 1 failed")


def test_time_left_counts_only_the_work_of_this_command(view, clock):
    view.start("coarse", 10, done=5)
    view.finish(finished(0.5))
    clock.now += 10
    assert view.fraction == pytest.approx(0.6)
    assert view.seconds_left == pytest.approx(40.0)


def test_no_time_left_is_guessed_at_the_start(view):
    view.start("coarse", 10)
    assert view.seconds_left is None and "left" not in view.line()


def test_finish_forgets_the_running_trial_even_when_it_ended_early(view):
    view.start("coarse", 2)
    view.update(Progress(0, 0.3))
    view.finish(finished(status="diverged"))
    assert view.fraction == pytest.approx(0.5)


def test_quick_work_shows_nothing():
    console, file = plain_console()
    with ProgressView(console=console) as view:
        view.start("coarse", 2)
        view.finish(finished(0.5))
    assert text_of(file) == ""


def test_lines_appear_at_intervals_off_a_terminal(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.02)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.06)
    console, file = plain_console()
    with ProgressView(console=console) as view:
        view.start("coarse", 2)
        deadline = time.monotonic() + 5
        while text_of(file).count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert text_of(file).startswith("coarse: 0/2 trials, 0 % done")
    assert text_of(file).count("\n") >= 2 and "\x1b" not in text_of(file)


def test_a_terminal_that_can_only_write_lines_gets_lines(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.02)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.04)
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None, _environ={"TERM": "dumb"})
    with ProgressView(console=console) as view:
        view.start("coarse", 2)
        deadline = time.monotonic() + 5
        while "\n" not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert file.getvalue().startswith("coarse: 0/2 trials, 0 % done") and "\x1b" not in file.getvalue()


def test_quiet_prints_nothing_at_all(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.01)
    console, file = plain_console()
    with ProgressView(quiet=True, console=console) as view:
        view.start("coarse", 2)
        time.sleep(0.05)
        view.note("a note")
    assert text_of(file) == ""


def test_live_bar_on_a_terminal_shows_running_trials_and_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.01)
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    with ProgressView(console=console) as view:
        view.start("coarse", 4)
        view.update(Progress(1, 0.5, "epoch 2 of 4, val accuracy 0.61"))
        deadline = time.monotonic() + 5
        while "epoch 2 of 4" not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    text = file.getvalue()
    assert "trial 1: epoch 2 of 4, val accuracy 0.61" in text and "0/4 trials" in text
    assert text.rstrip().endswith("\x1b[2K")  # the bar's last line is erased
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is shown again


def test_stop_twice_is_harmless(view):
    view.start("coarse", 1)
    view.stop()
    view.stop()


def test_work_without_trials_shows_its_time_and_its_note(view, clock):
    view.start("checking the recipe", 0)
    view.update(Progress(0, 0.3, "reading images"))
    clock.now += 12
    assert view.line() == "checking the recipe: 12s elapsed; reading images"


def test_best_accuracy_lives_through_the_generations_of_a_stage(view):
    view.start("coarse", 2)
    view.finish(finished(0.7))
    view.start("coarse", 4, done=2)
    assert view.line().endswith("; best val accuracy 0.700")
    view.start("fine", 4)
    assert "best" not in view.line()


def test_a_search_counts_epochs_of_all_its_generations(view, clock):
    view.start("coarse", 4, epochs=Epochs(0, 9, {0: (0, 3), 1: (0, 1), 2: (0, 1), 3: (0, 1)}))
    view.update(Progress(0, 1 / 3))
    for number in (1, 2, 3):
        view.finish(finished(0.5), number)
    clock.now += 8
    assert view.line().startswith("coarse: 3/9 epochs, 44 % done, 8s elapsed, about 10s left")
    view.finish(finished(0.7), 0)
    view.start("coarse", 6, done=4, epochs=Epochs(6, 9, {1: (1, 3), 2: (1, 2)}))
    view.update(Progress(1, 1 / 3))  # of its three epochs, the one that it had
    clock.now += 4
    assert view.line().startswith("coarse: 6/9 epochs, 67 % done, 12s elapsed, about 6s left")
    view.update(Progress(1, 2 / 3))
    assert view.fraction == pytest.approx(7 / 9)


def test_time_left_of_a_search_that_goes_on_counts_the_work_of_this_command(view, clock):
    view.start("coarse", 10, done=5, epochs=Epochs(5, 10, dict.fromkeys(range(5, 10), (0, 1))))
    view.finish(finished(0.5), 5)
    clock.now += 10
    assert view.seconds_left == pytest.approx(40.0)


def test_another_round_of_a_stage_begins_its_time_anew(view, clock):
    view.start("fine", 2)
    clock.now += 50
    view.finish(finished(0.9))
    view.start("fine", 4)
    clock.now += 3
    assert "3s elapsed" in view.line() and "best" not in view.line()


@pytest.mark.parametrize(
    ("scores", "row", "words"),
    [
        ((0.2, 0.4), {"mae": 0.5, "r2": 1.0}, "best val r2 0.400"),
        ((-3.0, -2.0), {"rmse": -1.0, "r2": 0.1}, "best val rmse 2.000"),  # less is better: the score is turned
    ],
)
def test_the_best_so_far_is_said_of_the_score_that_the_run_maximises(view, scores, row, words):
    view.start("coarse", 3)
    for score in scores:
        values = {name: sign * score for name, sign in row.items()}
        curve = [{"step": 9, "epoch": 1, "split": "val", "loss": 1.0, **values}]
        view.finish(TrialResult("abc", None, "completed", curve, score=score, best_epoch=1))
    assert view.line().endswith(f"; {words}")
