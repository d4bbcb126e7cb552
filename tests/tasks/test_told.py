"""Which task a recipe has, told from its targets where there is one reading only."""

import numpy as np
import pytest

from tuner.core.errors import UsageError
from tuner.tasks.classification import Positions
from tuner.tasks.told import task_of

CLASSES = np.arange(6) % 3


@pytest.mark.parametrize(
    ("targets", "name", "kind"),
    [
        (CLASSES, "classification", "Classification"),
        (CLASSES[:, None], "classification", "Classification"),
        (np.zeros((4, 8, 8), int), "classification", "Positions"),
        (CLASSES / 2, "regression", "Regression"),
        (np.ones((4, 2)) / 3, "regression", "Regression"),
    ],
)
def test_targets_with_one_reading_tell_the_task(targets, name, kind):
    task = task_of(None, targets, "data.source", {})
    assert (task.name, type(task).__name__) == (name, kind)


@pytest.mark.parametrize(
    ("targets", "line"),
    [
        (np.array([[1, 1], [0, 1]]), 'data.task = "multilabel"'),
        (np.array([[3, 1], [0, 2]]), 'data.task = "classification"'),
    ],
)
def test_targets_with_several_readings_are_refused_with_the_line_that_says_which(targets, line):
    with pytest.raises(UsageError, match="more than one way") as raised:
        task_of(None, targets, "data.source", {})
    assert line in raised.value.hint


def test_the_recipe_says_which_task_it_is():
    assert task_of("multilabel", np.array([[1, 1], [0, 1]]), "", {}).name == "multilabel"
    assert task_of("embedding", CLASSES, "", {}).name == "embedding"
    assert task_of("regression", CLASSES, "", {}).name == "regression"
    assert isinstance(task_of("classification", np.array([[3, 1], [0, 2]]), "", {}), Positions)


def test_the_ignored_class_is_the_losss_own():
    assert task_of(None, np.zeros((2, 3, 3), int), "", {"ignore_index": 255}).ignore_index == 255
    assert task_of(None, np.zeros((2, 3, 3), int), "", {}).ignore_index == -100
