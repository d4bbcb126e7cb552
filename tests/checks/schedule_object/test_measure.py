import pytest
from torch.optim import lr_scheduler

from tests.checks.probe_models import mlp
from tuner.checks.schedule_object.measure import schedule_object


def seen(setup_of, blobs, schedule, every="step"):
    setup = setup_of(blobs(), mlp(), schedule=lambda optimizer, total: schedule(optimizer), schedule_every=every)
    return schedule_object(setup, horizons={"coarse": 2, "fine": 10})  # 200 examples, batches of 32: 6 steps per epoch


@pytest.mark.parametrize(
    ("schedule", "length"),
    [
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=60), 60),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 500), 500),
        (lambda o: lr_scheduler.LinearLR(o, total_iters=30), 30),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.9), None),
        (
            lambda o: lr_scheduler.SequentialLR(
                o, [lr_scheduler.LinearLR(o, total_iters=5), lr_scheduler.CosineAnnealingLR(o, 55)], [5]
            ),
            55,
        ),
    ],
)
def test_the_length_of_a_schedule_is_its_own(setup_of, blobs, schedule, length):
    assert seen(setup_of, blobs, schedule).made_for == length


def test_it_is_stepped_once_per_update_or_once_per_epoch_of_the_longest_run(setup_of, blobs):
    one = lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=60)  # noqa: E731
    assert seen(setup_of, blobs, one).stepped == 60
    assert seen(setup_of, blobs, one, "epoch").stepped == 10


def test_the_mode_of_a_schedule_that_watches_is_read(setup_of, blobs):
    assert seen(setup_of, blobs, lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="max"), "epoch").mode == "max"
    assert seen(setup_of, blobs, lambda o: lr_scheduler.ConstantLR(o)).mode is None
