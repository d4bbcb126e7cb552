"""Which questions can be asked of a task: what is about classes, identities or positions."""

from types import SimpleNamespace

import pytest

from tuner.tasks.classification import Classification, Positions
from tuner.tasks.embedding import Embedding
from tuner.tasks.regression import Regression
from tuner.train.applicable import why_not


def setup_of(task, is_one=True):
    return SimpleNamespace(
        data=SimpleNamespace(task=task, one_class_each=isinstance(task, Classification), is_one=is_one)
    )


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        (Classification(), "labels_fit", None),
        (Positions(), "labels_fit", "every position has a class"),
        (Regression(), "augmentation", "the task is regression"),
        (Embedding(), "augmentation", None),  # an identity says what its inputs have in common, as a class does
        (Embedding(), "label_order", None),
        (Embedding(), "labels_fit", "the task is embedding"),  # val has identities that train has not
        (Embedding(), "loss_function", "examples are compared with each other"),
    ],
)
def test_what_is_not_asked_of_a_task_has_its_reason(task, name, words):
    why = why_not(setup_of(task), name)
    assert (why is None) if words is None else words in why


def test_inputs_of_several_parts_are_asked_what_needs_no_change_of_them():
    assert why_not(setup_of(Classification(), is_one=False), "one_step") is None
    assert "one tensor of one shape" in why_not(setup_of(Classification(), is_one=False), "layers")


def test_a_model_that_was_handed_over_is_not_asked_what_another_seed_would_draw():
    recipes = setup_of(Classification())
    handed_over = SimpleNamespace(data=recipes.data, objects=object())
    assert why_not(recipes, "seeds") is None
    assert "no seed draws its weights again" in why_not(handed_over, "seeds")
