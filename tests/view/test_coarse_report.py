import pytest

from tuner.view.reports.coarse import _saved


@pytest.mark.parametrize(
    ("rungs", "words"), [([1, 2], "after 1 and 2 epochs "), ([1], "after 1 epoch "), ([6], "after 6 epochs "), ([], "")]
)
def test_what_the_rungs_saved_is_said(rungs, words):
    text = _saved({"epochs_run": 28, "epochs_full": 48, "rungs": rungs})
    assert text == f" Stopping the worse {words}saved 42 %: 28 epochs instead of 48."


@pytest.mark.parametrize("metrics", [{}, {"epochs_run": 48, "epochs_full": 48, "rungs": [1]}])
def test_nothing_is_said_where_nothing_was_saved(metrics):
    assert _saved(metrics) == ""
