import re
from dataclasses import replace

import pytest

from tests.view.seen import bare, measured, plain_console, read, text_of
from tuner.core.metrics import ExpectedScore, KeyImportance
from tuner.view.artifacts import marked
from tuner.view.blocks import Blocks
from tuner.view.importance import map_keys
from tuner.view.page import Page
from tuner.view.reports import coarse, fine
from tuner.view.reports.importance import what_mattered
from tuner.view.terminal import show

TRIALS = [
    {"optimizer.lr": 10.0**-n, "model.width": 16 * (1 + n % 2), "val_score": 0.9 - n / 10, "trial": f"t{n}"}
    for n in range(6)
]
KEYS = [
    KeyImportance("optimizer.lr", importance=0.5, low=0.25, high=0.75, enough=True),
    KeyImportance("model.width", importance=0.01, low=0.0, high=0.1),
]


@pytest.fixture
def printed(run_dir):
    """A function that prints what mattered in a coarse search with these metrics."""

    def printed(trials=TRIALS, encoding="utf-8", **metrics):
        console, file = plain_console(encoding=encoding)
        page, blocks = Page(console), Blocks()
        what_mattered(bare(read(run_dir, "coarse"), **metrics), trials, blocks)
        show(blocks.items, page)
        page.print()
        return text_of(file)

    return printed


def test_a_key_that_is_told_has_a_bar_and_the_map_is_drawn(printed):
    text = printed(importance=KEYS, importance_epoch=2, importance_trials=6)
    assert "What mattered (6 trials, compared at epoch 2)" in text
    assert re.search(r"lr +0\.50 +0\.25 to 0\.75", text) and text.count("\u2588") == 12  # half of 24
    assert "Not distinguishable from chance with this many trials: width." in text
    assert "best third" in text and "worst third" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "############" in printed(importance=KEYS, encoding="ascii")


def test_where_nothing_can_be_told_there_is_no_map(printed):
    text = printed(importance=[KeyImportance(entry.key) for entry in KEYS])
    assert "Not distinguishable from chance with this many trials: lr, width." in text and "third" not in text


def test_without_an_importance_nothing_is_said(printed):
    assert printed() == ""


def test_the_map_is_of_the_first_key_and_of_the_last_that_has_more_than_two_values():
    trials = [{"a": n, "b": n % 3, "c": n % 2} for n in range(6)]
    assert map_keys(["a", "b", "c"], trials) == ("a", "b")
    assert map_keys(["a", "c"], trials) == ("a", "c")


def test_a_key_of_words_has_no_map(printed):
    trials = [{**row, "model.width": "wide"} for row in TRIALS]
    assert "third" not in printed(trials, importance=KEYS)


def body(stage, run_dir, name, **changed):
    console, file = plain_console()
    page, blocks = Page(console), Blocks()
    stage.body(measured(read(run_dir, name), **changed), run_dir / name, blocks)
    show(blocks.items, page)
    page.print()
    return " ".join(text_of(file).split())


def test_coarse_says_what_mattered(run_dir):
    metrics = read(run_dir, "coarse").metrics
    said = f"What mattered (12 trials, compared at epoch {metrics.importance_epoch})"
    assert metrics.importance_trials == 12 and said in body(coarse, run_dir, "coarse")


def test_fine_says_what_to_expect_and_what_that_is_made_of(run_dir):
    made = ExpectedScore(0.95, 0.9535, 2, selection=0.0024, epochs=0.0011, examples_half=0.0085, seeds_half=0.003)
    preferred = "it cannot be distinguished from lr 0.02, width 32 and has 40 % fewer parameters"
    text = body(fine, run_dir, "fine", expected=made, preferred=preferred)
    assert "of the 2 runs with new seeds, less 0.0024 for choosing among configurations, less 0.0011 for" in text
    assert "The interval: +- 0.009 from the val examples and +- 0.003 from the seed of the weights beyond that" in text
    assert "Taken because it cannot be distinguished from lr 0.02, width 32 and has 40 % fewer parameters." in text


@pytest.mark.parametrize(
    ("p", "gap", "error", "said"),
    [
        (0.21, None, None, "p = 0.210; cannot be distinguished from #2."),
        (0.003, None, None, "p = 0.003; more than noise."),
        (0.003, 0.02, 0.005, "p = 0.003, 0.0200 +- 0.0050 over the seeds; more than noise."),
        (0.003, 0.004, 0.005, "p = 0.003, 0.0040 +- 0.0050 over the seeds; cannot be distinguished from #2."),
        (None, 0.02, 0.005, "0.0200 +- 0.0050 over the seeds; more than noise."),
    ],
)
def test_fine_says_whether_the_winner_can_be_told_as_the_headline_does(run_dir, p, gap, error, said):
    told = {"runner_up_p": p, "runner_up_gap": gap, "runner_up_error": error}
    assert f"Against the second: {said}" in body(fine, run_dir, "fine", **told)
    assert "Against the second" not in body(fine, run_dir, "fine", **dict.fromkeys(told))


def test_fine_says_nothing_of_new_data_without_an_interval(run_dir):
    assert "on new data" not in body(fine, run_dir, "fine", interval=None)


def test_fine_says_what_the_rungs_saved(run_dir):
    text = body(fine, run_dir, "fine", epochs_run=80, epochs_full=120, rungs=[8])
    assert "Stopping the worse after 8 epochs saved 33 %: 80 epochs instead of 120." in text


@pytest.mark.parametrize(("chosen", "expected"), [("t3", (3, "chosen")), ("gone", (0, "best")), (None, (0, "best"))])
def test_the_chosen_trial_is_pointed_out_else_the_best(run_dir, chosen, expected):
    assert marked(replace(read(run_dir, "fine"), choice={"trial": chosen}), TRIALS) == expected
