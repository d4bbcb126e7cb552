"""Foreseeing memory on a machine that takes a fixed part, copies of the weights, and something per example."""

import pytest

from tuner.core.memory import Measured, MemoryModel, Needs, gigabytes, too_large

GB = 10**9


def measured(weights, saved, per_example, sizes=(16, 32), fixed=1 * GB, copies=4):
    """What steps take of memory on a machine where everything is proportional."""
    return Measured(
        Needs(weights, saved), copies, tuple((n, round(fixed + copies * weights + per_example * n)) for n in sizes)
    )


def test_a_line_through_two_batch_sizes_gives_what_an_example_adds_and_the_rest():
    one = measured(weights=100_000, saved=500, per_example=2_000)
    assert one.per_example == pytest.approx(2_000)
    assert one.fixed == pytest.approx(1 * GB)


def test_a_trial_keeps_another_copy_of_the_weights_than_a_step():
    model = MemoryModel([measured(GB // 10, 500, 10_000_000)])
    assert model.predict(Needs(GB // 10, 500), 100) == pytest.approx(1 * GB + 5 * GB / 10 + 1 * GB)


def test_keeping_weights_counts_where_it_takes_more_than_a_step():
    model = MemoryModel([measured(GB, 500, 1_000)])
    assert model.predict(Needs(GB, 500), 100) == pytest.approx(1 * GB + 5 * GB + 2 * GB)


def test_one_configuration_predicts_another_in_proportion_to_what_is_saved():
    model = MemoryModel([measured(0, 500, 1_000_000)])
    assert model.predict(Needs(0, 1_500), 200) == pytest.approx(1 * GB + 3_000_000 * 200)


def test_two_configurations_predict_a_third_by_what_they_take_together():
    model = MemoryModel([measured(0, 100, 300_000), measured(0, 300, 500_000)])  # 2,000 per byte saved
    assert model.predict(Needs(0, 1_000), 500) == pytest.approx(1 * GB + 2_000_000 * 500)


@pytest.mark.parametrize(("limit", "largest"), [(3 * GB, 200), (1 * GB, 0), (int(1.99 * GB), 99)])
def test_the_largest_batch_is_the_last_that_fits(limit, largest):
    model = MemoryModel([measured(0, 500, 10_000_000)])
    assert model.largest_batch(Needs(0, 500), limit) == largest


def test_what_does_not_fit_is_said_with_the_models_keys():
    overrides = {"model.width": 512, "optimizer.lr": 0.1}
    assert too_large(overrides, 256, 31 * GB, 24 * GB) == "width 512 at batch 256 needs 31 GB of 24 GB"
    assert too_large({}, 8, GB // 2, GB // 4) == "the model at batch 8 needs 0.5 GB of 0.25 GB"


@pytest.mark.parametrize(("count", "text"), [(31e9, "31 GB"), (1.43e9, "1.4 GB"), (4e8, "0.4 GB"), (1e9, "1 GB")])
def test_bytes_are_said_in_gigabytes(count, text):
    assert gigabytes(count) == text
