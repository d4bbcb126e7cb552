import pytest

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.curves.rules import first_epoch

SHIFTED = {"running_accuracies": [0.55, 0.99], "val_accuracies": [0.3, 0.28], "val_n": 700}


def judged(facts):
    return ask(first_epoch.below_the_first_epoch, built("curves", epochs=2, **facts))


def test_val_below_what_new_train_batches_scored_is_said():
    finding = judged(SHIFTED)
    assert (finding.code, finding.cause, finding.severity) == ("CU645", "train-val-shift", "warn")


def test_a_gap_that_opens_after_the_first_epoch_is_overfitting_and_not_said():
    assert judged({**SHIFTED, "running_accuracies": [0.3, 0.99]}) is None


def test_a_difference_within_sampling_is_not_said():
    assert judged({**SHIFTED, "val_accuracies": [0.45, 0.44], "val_n": 200}) is None


def test_copies_within_train_are_known_before_the_epoch_ends():
    with pytest.raises(Missing, match="near copies of its own"):
        judged({**SHIFTED, "copies_in_train": 0.2})


def test_without_accuracies_of_training_it_says_what_it_misses():
    with pytest.raises(Missing, match="not measured while training"):
        judged({**SHIFTED, "running_accuracies": None})
