import pytest
from rich.console import Console

from tuner.core.metrics import SearchMetrics
from tuner.view.blocks import Blocks
from tuner.view.page import Page
from tuner.view.reports.coarse import _own, _saved
from tuner.view.terminal import show


@pytest.mark.parametrize(
    ("rungs", "words"), [([1, 2], "after 1 and 2 epochs "), ([1], "after 1 epoch "), ([6], "after 6 epochs "), ([], "")]
)
def test_what_the_rungs_saved_is_said(rungs, words):
    text = _saved(SearchMetrics(epochs_run=28, epochs_full=48, rungs=rungs))
    assert text == f" Stopping the worse {words}saved 42 %: 28 epochs instead of 48."


@pytest.mark.parametrize("metrics", [{}, {"epochs_run": 48, "epochs_full": 48, "rungs": [1]}])
def test_nothing_is_said_where_nothing_was_saved(metrics):
    assert _saved(SearchMetrics(**metrics)) == ""


TRIALS = [
    {"number": "0", "trial": "own", "status": "stopped", "score": "0.7"},
    {"number": "1", "trial": "b", "status": "completed", "score": "0.9"},
    {"number": "2", "trial": "c", "status": "diverged", "score": None},
    {"number": "3", "trial": "d", "status": "stopped", "score": "0.7"},
]


@pytest.mark.parametrize(
    ("trials", "top", "words"),
    [
        (TRIALS, [], "(trial own): #2 of 4."),
        (TRIALS, [{"trial": "b"}, {"trial": "d"}, {"trial": "own"}], "(trial own): #3 of 4."),  # as the table has it
        ([{**TRIALS[0], "status": "diverged", "score": None}], [], "(trial own): diverged."),
        (TRIALS[1:], [], ""),
    ],
)
def test_how_the_recipes_own_configuration_did_is_said(trials, top, words):
    page, blocks = Page(Console(width=80)), Blocks()
    _own(trials, top, blocks)
    show(blocks.items, page)
    text = "".join(part for line in page.lines for part, _ in line).strip()
    assert text == (f"The recipe's own configuration {words}" if words else "")
