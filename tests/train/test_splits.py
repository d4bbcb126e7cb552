"""Splits: disjoint, stratified, stable, and clear about what cannot be split."""

import numpy as np
import pytest

from tuner.core.errors import InputError, UsageError
from tuner.train.splits import Cutting, counts_of, split, take

BOTH = {"test": 0.2, "val": 0.2}


def labels(*sizes: int) -> np.ndarray:
    values = np.concatenate([np.full(size, label) for label, size in enumerate(sizes)])
    return np.random.default_rng(5).permutation(values)


def test_split_is_disjoint_and_whole():
    found = split(labels(50, 30, 20), BOTH, Cutting(0, None, "x"))
    together = np.concatenate([found["train"], found["val"], found["test"]])
    assert sorted(together) == list(range(100))


def test_split_keeps_the_shares_of_the_classes():
    targets = labels(500, 300, 200)
    found = split(targets, BOTH, Cutting(0, None, "x"))
    assert np.bincount(targets[found["test"]]).tolist() == [100, 60, 40]
    assert np.bincount(targets[found["val"]]).tolist() == [80, 48, 32]


def test_split_depends_on_the_split_seed_alone():
    targets = labels(40, 40)
    np.random.seed(1)
    once = split(targets, BOTH, Cutting(0, None, "x"))
    np.random.seed(2)
    again = split(targets, BOTH, Cutting(0, None, "x"))
    other = split(targets, BOTH, Cutting(1, None, "x"))
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert not np.array_equal(once["test"], other["test"])


def test_test_split_does_not_move_when_val_fraction_changes():
    targets = labels(40, 40)
    a = split(targets, {"test": 0.2, "val": 0.2}, Cutting(0, None, "x"))
    b = split(targets, {"test": 0.2, "val": 0.5}, Cutting(0, None, "x"))
    assert np.array_equal(a["test"], b["test"])
    assert not np.array_equal(a["val"], b["val"])


def test_split_gives_every_split_a_rare_class_when_it_has_just_enough_examples():
    targets = labels(97, 3)
    found = split(targets, BOTH, Cutting(0, None, "x"))
    assert [int((targets[found[name]] == 1).sum()) for name in ("train", "val", "test")] == [1, 1, 1]


def test_split_names_the_class_when_it_has_too_few_examples():
    with pytest.raises(InputError, match=r"train, val, test: class 'cat' has 2 \(needed: 3\)"):
        split(labels(20, 2), BOTH, Cutting(0, ("dog", "cat"), "x"))
    with pytest.raises(InputError, match=r"class -1 has 1 \(needed: 2\)"):
        split(np.array([0, 0, 0, 1, 1, 1, -1]), {"val": 0.3}, Cutting(0, None, "x"))


def test_split_needs_nothing_of_a_class_when_nothing_is_cut():
    assert split(labels(20, 1), {}, Cutting(0, None, "x"))["train"].tolist() == list(range(21))


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"val": 0.01}, "data.val_fraction: 0.01 of 20 examples leaves none for val"),
        ({"val": 0.99}, "data.val_fraction: 0.99 of 20 examples leaves none for train"),
        ({"test": 0.01, "val": 0.2}, "data.test_fraction: 0.01 of 20 examples leaves none for test"),
    ],
)
def test_split_says_which_fraction_leaves_nothing(fractions, message):
    with pytest.raises(UsageError, match=message):
        split(labels(10, 10), fractions, Cutting(0, None, "x"))


def test_take_draws_exactly_the_total():
    targets = labels(7, 7, 7)
    for total in (1, 2, 10, 20, 21):
        rest, taken = take(targets, total, 0)
        assert len(taken) == total and len(rest) == 21 - total
        assert not set(rest) & set(taken)


def test_counts_follow_the_largest_remainder():
    assert counts_of(np.array([5, 3, 2]), 4).tolist() == [2, 1, 1]
    assert counts_of(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]


def test_whole_identities_are_set_aside_where_strata_are_whole():
    found = split(labels(*[6] * 10), BOTH, Cutting(0, None, "x", whole_strata=True))
    kept = labels(*[6] * 10)
    of = {name: set(kept[places]) for name, places in found.items()}
    assert len(of["test"]) == 2 and len(of["val"]) == 2 and len(of["train"]) == 6
    assert sorted(of["test"] | of["val"] | of["train"]) == list(range(10))


def test_too_few_identities_are_refused():
    with pytest.raises(InputError, match="3 identities are too few for splits that share none"):
        split(labels(5, 5, 5), BOTH, Cutting(0, None, "x", whole_strata=True))
