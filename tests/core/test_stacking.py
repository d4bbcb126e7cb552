"""Which trials share a stack, by their tables alone."""

import pytest

from tuner.core.stacking import Stacking, in_words, stacks_of, why_single
from tuner.core.trial import TrialSpec, WorkItem, apply_overrides
from tuner.recipe.model import Recipe

TABLES = Recipe.model_validate({"name": "t", "data": {"source": "digits"}, "model": {"name": "mlp"}}).tables()


def item(number, changes=None, **fields):
    fields = {"horizon_epochs": 3, **fields}
    changes = {"optimizer.lr": 0.01 * (number + 1), **(changes or {})}
    return WorkItem(TrialSpec(apply_overrides(TABLES, changes), changes, seed=0, **fields), number)


def numbers(stacks):
    return [[one.number for one in stack] for stack in stacks]


@pytest.mark.parametrize(
    ("count", "size", "places", "sizes"),
    [
        (64, 8, 2, [8] * 8),
        (16, 8, 2, [8, 8]),
        (5, 8, 2, [3, 2]),  # both places have work
        (2, 8, 2, [1, 1]),
        (20, 8, 2, [5, 5, 5, 5]),  # as large as one another, rather than 8, 8, 4
        (9, 4, 1, [3, 3, 3]),
        (3, 1, 2, [1, 1, 1]),
    ],
)
def test_stacks_are_about_equal_and_fill_all_places(count, size, places, sizes):
    stacks = stacks_of([item(number) for number in range(count)], size, places)
    assert sorted(map(len, stacks), reverse=True) == sizes
    assert sorted(number for stack in numbers(stacks) for number in stack) == list(range(count))


def test_trials_of_other_shapes_or_batches_do_not_share_a_stack():
    wide = {"model.width": 64}
    large = {"train.batch_size": 32}
    items = [item(0), item(1, wide), item(2), item(3, wide), item(4, large), item(5, {"model.init": "orthogonal"})]
    assert numbers(stacks_of(items, 8, 1)) == [[0, 2, 5], [1, 3], [4]]


def test_what_no_stack_takes_is_by_itself_and_the_order_is_that_of_the_first_items():
    items = [item(0, {"train.ema": 0.9}), item(1), item(2, precision="bf16"), item(3)]
    assert numbers(stacks_of(items, 8, 1)) == [[0], [1, 3], [2]]


@pytest.mark.parametrize(
    ("changes", "fields", "why"),
    [
        ({}, {"horizon_epochs": None, "horizon_steps": 9}, "it is not trained in epochs"),
        ({}, {"device": "cuda"}, "it runs on cuda"),
        ({}, {"precision": "bf16"}, "its precision is bf16"),
        ({"train.devices_per_trial": 2}, {}, "it has several devices"),
        ({"train.threads_per_trial": 2}, {}, "it has several threads"),
        ({"train.accumulate": 2}, {}, "its batches are accumulated"),
        ({"data.augment": ["hflip"]}, {}, "its examples are augmented"),
        ({"model.name": "mine.py:build"}, {}, "it has code of the user's own"),
        ({"model.activation": "mine.py:Act"}, {}, "it has code of the user's own"),
        ({"optimizer.groups": ["no_decay_on_norms", "mine.py:groups"]}, {}, "it has code of the user's own"),
        ({"loss.name": "center"}, {}, "loss 'center'"),
        ({"optimizer.name": "sam"}, {}, "optimizer 'sam'"),
        ({"finetune": {"way": "all"}}, {}, r"\[finetune\]"),
        ({"train.l1": 1e-4}, {}, "train.l1"),
        ({"train.step": "mine.py:step"}, {}, "train.step"),
    ],
)
def test_the_reason_for_training_a_trial_by_itself_is_said(changes, fields, why):
    assert why_single(item(0, changes, **fields).spec) == why.replace("\\", "")


def test_a_trial_on_data_of_the_users_own_may_be_stacked():
    assert why_single(item(0, {"data.source": "mine.py:load"}).spec) is None


def test_the_line_says_how_many_and_whether_it_was_measured():
    assert in_words("64 trials", 8, Stacking(8, 2.71)) == "64 trials in stacks of up to 8: 2.7 times as fast (measured)"
    assert in_words("64 trials", 4, Stacking(8, 2.71)) == "64 trials in stacks of up to 4: as --stack says"
