"""Curves whose shape betrays a mistake, and healthy ones that look alike."""

import math

import pytest

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.curves.rules import shapes

VAL = [0.5, 0.8, 0.9, 0.93, 0.95, 0.96, 0.961, 0.962]
LOSS = [1.5, 0.8, 0.5, 0.35, 0.3, 0.25, 0.24, 0.23]
SOUND = {
    "val_accuracies": VAL, "train_accuracies": [v + 0.01 for v in VAL], "running_accuracies": [v - 0.02 for v in VAL],
    "val_losses": LOSS, "train_losses": [0.9 * v for v in LOSS], "running_losses": LOSS,
    "lrs": [0.1 * (1 - i / 9) for i in range(8)], "val_n": 1000, "plain_cross_entropy": True,
}  # fmt: skip
ALL = [shapes.schedule_mistake, shapes.flat_then_falls, shapes.gap_from_the_start, shapes.val_is_train,
       shapes.epoch_above_subset, shapes.accuracy_below_bound]  # fmt: skip


def asked(check, facts):
    return ask(check, built("curves", epochs=8, **facts))


@pytest.mark.parametrize("check", ALL)
def test_a_sound_run_is_silent(check):
    assert asked(check, SOUND) is None


@pytest.mark.parametrize("check", ALL)
def test_without_its_curve_a_rule_is_missing(check):
    with pytest.raises(Missing):
        asked(check, dict.fromkeys(SOUND))


@pytest.mark.parametrize(
    ("rates", "fires"),
    [
        ([0.01 * i for i in range(1, 9)], True),  # a warm-up as long as the run
        ([0.1] + [0.0001] * 7, True),  # gone after an epoch
        ([0.1] * 8, False),  # constant by choice
        ([0.02, 0.05, 0.1] + [0.1 * (1 - i / 6) for i in range(1, 6)], False),  # a warm-up, then a decay
        ([0.1, 0.05, 0.001, 0.1, 0.05, 0.001, 0.1, 0.1], False),  # restarts
        ([0.1 * (0.5 * (1 + math.cos(math.pi * i / 8))) for i in range(1, 9)], False),  # cosine ends at 0
        ([0.1] * 4 + [0.01] * 2 + [0.001] * 2, False),  # steps of a tenth
        ([0.1] * 4 + [0.0009] * 4, False),  # half of the epochs: the border
    ],
)
def test_schedule_mistake(rates, fires):
    finding = asked(shapes.schedule_mistake, {**SOUND, "lrs": rates})
    assert (finding is not None) == fires
    assert finding is None or (finding.severity, finding.cause) == ("warn", "schedule-mistake")


STICK = [2.30, 2.301, 2.299, 2.30, 1.5, 0.9, 0.6, 0.5]


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({"running_losses": STICK, "lrs": [0.1] * 8}, True),
        ({"running_losses": STICK, "lrs": [0.001, 0.01, 0.04, 0.1] + [0.1] * 4}, False),  # a warm-up
        ({"running_losses": [2.30, 2.301, 2.0, 1.8, 1.5, 0.9, 0.6, 0.5], "lrs": [0.1] * 8}, False),
        ({"running_losses": [2.30, 2.301, 2.299, 2.3] * 2, "lrs": [0.1] * 8}, False),  # never falls: another matter
    ],
)
def test_flat_then_falls(changes, fires):
    assert (asked(shapes.flat_then_falls, {**SOUND, **changes}) is not None) == fires


@pytest.mark.parametrize(
    ("train", "val", "fires"),
    [
        ([0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9], [0.4, 0.5, 0.6, 0.65, 0.68, 0.7, 0.7, 0.7], True),
        ([0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.0], [0.58, 0.65, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7], False),  # it grows
        ([0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.0, 1.0], [0.5, 0.55, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], False),  # and here
        ([0.99] * 8, [0.85] * 8, False),  # learnt by heart within an epoch
        (
            [0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.95],
            [0.58, 0.7, 0.78, 0.84, 0.87, 0.9, 0.91, 0.91],
            False,
        ),  # closes
    ],
)
def test_a_gap_from_the_start(train, val, fires):
    finding = asked(shapes.gap_from_the_start, {**SOUND, "train_accuracies": train, "val_accuracies": val})
    assert (finding is not None) == fires
    assert finding is None or finding.cause == "train-val-shift"


@pytest.mark.parametrize(("first", "severity"), [(0.48, "note"), (0.68, "warn")])  # val ends at 0.7 of 1000
def test_a_gap_to_a_val_that_learns_more_than_the_first_epoch_is_a_note(first, severity):
    train, val = [0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9], [0.4, 0.5, 0.6, 0.65, 0.68, 0.7, 0.7, 0.7]
    given = {"train_accuracies": train, "val_accuracies": val, "running_accuracies": [first] * 8}
    assert asked(shapes.gap_from_the_start, {**SOUND, **given}).severity == severity


def test_a_gap_within_the_sampling_of_a_small_val_is_none():
    train, val = [0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9], [0.4, 0.5, 0.6, 0.65, 0.68, 0.7, 0.7, 0.7]
    given = {**SOUND, "train_accuracies": train, "val_accuracies": val, "val_n": 60}
    assert asked(shapes.gap_from_the_start, given) is None


@pytest.mark.parametrize(("factor", "fires"), [(1.0, True), (1.0 + 5e-7, True), (1.001, False)])
def test_val_is_train_only_where_the_numbers_are_equal(factor, fires):
    finding = asked(shapes.val_is_train, {**SOUND, "train_losses": [factor * v for v in LOSS]})
    assert (finding is not None) == fires
    assert finding is None or (finding.severity, finding.cause) == ("error", "train-val-overlap")


def test_a_loss_that_never_moves_proves_no_overlap():
    assert asked(shapes.val_is_train, {**SOUND, "train_losses": [2.3] * 8, "val_losses": [2.3] * 8}) is None


@pytest.mark.parametrize(
    ("running", "subset", "fires"),
    [
        ([0.9] * 8, [0.1, 0.2] * 4, True),  # sorted batches: each is easy, the sample is not
        ([0.9] * 8, [0.85] * 8, False),
        ([0.5] * 8, [0.9] * 8, False),  # dropout and augmentation make training harder
        ([0.9] * 8, [0.4] + [0.88] * 7, False),  # at first only
    ],
)
def test_an_epoch_above_its_own_sample(running, subset, fires):
    given = {**SOUND, "running_accuracies": running, "train_accuracies": subset}
    assert (asked(shapes.epoch_above_subset, given) is not None) == fires


@pytest.mark.parametrize(("accuracy", "fires"), [(0.10, True), (0.84, True), (0.851, False), (0.99, False)])
def test_accuracy_against_the_bound_of_its_loss(accuracy, fires):
    # a loss of 0.1 leaves at most 0.1 / log 2 = 14.4 % wrong: at least 85.6 % right, less one point of margin
    given = {**SOUND, "val_losses": [0.1], "val_accuracies": [accuracy]}
    finding = asked(shapes.accuracy_below_bound, given)
    assert (finding is not None) == fires
    assert finding is None or (finding.severity, finding.cause) == ("error", "metric-wrong")


def test_the_bound_holds_for_plain_cross_entropy_alone():
    with pytest.raises(Missing, match="not plain cross-entropy"):
        asked(shapes.accuracy_below_bound, {**SOUND, "plain_cross_entropy": False})
