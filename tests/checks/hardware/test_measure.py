import pytest
from torch import nn

from tuner.checks.hardware.measure import hardware


class Data:
    """One batch is all that the probe reads."""

    def __init__(self, data):
        self.data = data

    def __getattr__(self, name):
        return getattr(self.data, name)

    def epoch(self, seed, epoch, batch_size):
        return iter(self.data.batches("train", batch_size))


def test_multiply_adds_are_those_of_one_batch_by_hand(setup_of, blobs):
    setup = setup_of(blobs(), lambda: nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10)), batch_size=16)
    setup.data, setup.batch_size = Data(setup.data), 16
    found = hardware(setup)
    assert found.multiply_adds == 16 * (20 * 30 + 30 * 10)
    assert found.short in (None, "bf16", "fp16") and found.grouped is False


@pytest.mark.parametrize(("groups", "expected"), [(1, False), (4, True)])
def test_convolutions_in_groups_are_seen(setup_of, blobs, groups, expected):
    inputs, targets = blobs()
    model = lambda: nn.Sequential(nn.Conv2d(4, 8, 1, groups=groups), nn.Flatten(), nn.LazyLinear(10))  # noqa: E731
    setup = setup_of((inputs.view(-1, 4, 5, 1), targets), model, batch_size=16)
    setup.data, setup.batch_size = Data(setup.data), 16
    assert hardware(setup).grouped is expected
