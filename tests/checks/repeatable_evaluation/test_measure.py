import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.probe_models import mlp, zero
from tuner.checks.input_use.measure import input_use
from tuner.checks.neighbours.measure import neighbours
from tuner.checks.repeatable_evaluation.measure import repeatable_evaluation


def test_evaluation_is_repeatable_with_dropout_and_batch_norm(setup_of, blobs):
    model = lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10))  # noqa: E731
    found = repeatable_evaluation(setup_of(blobs(), model))
    assert found.outputs_differ == 0
    assert found.statistics_moved == []


def test_evaluation_is_random_with_dropout_that_ignores_the_mode(setup_of, blobs):
    class Always(nn.Linear):
        def forward(self, inputs):
            return F.dropout(super().forward(inputs), 0.5)

    assert repeatable_evaluation(setup_of(blobs(), lambda: Always(20, 10))).outputs_differ > 0.1


def test_evaluation_hook_that_trains_is_seen(setup_of, blobs):
    def evaluate(model, batches, loss):
        model.train()
        (inputs, targets), *_ = batches
        return {"loss": loss(model(inputs), targets)}

    model = lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))  # noqa: E731
    found = repeatable_evaluation(setup_of(blobs(), model, evaluate_hook=evaluate))
    assert found.statistics_moved == ["1.running_mean", "1.running_var"]
    assert found.modes_in_forward == ["train"]


def test_val_that_is_random_is_seen(setup_of, blobs):
    setup = setup_of(blobs(), mlp(), val=blobs(40, seed=1))
    assert repeatable_evaluation(setup).val_reads_differ == 0
    fixed = setup.data.batches
    setup.data.batches = lambda split, size, indices=None: [
        (x + torch.rand_like(x), y) for x, y in fixed(split, size, indices)
    ]
    found = repeatable_evaluation(setup)
    assert (found.val_reads_differ, found.val_reads_times) == (1, None)


@pytest.mark.parametrize(("change", "times"), [(lambda x: x.div_(16), 1 / 16), (lambda x: x.sub_(3).mul_(0.5), 0.5)])
def test_val_that_is_changed_by_reading_it_is_seen(setup_of, blobs, change, times):
    setup = setup_of(blobs(), mlp(), val=blobs(40, seed=1))
    plain = setup.data.batches
    stored = next(iter(plain("val", 40)))

    def batches(split, size, indices=None):
        if split != "val":
            return plain(split, size, indices)
        return [(change(stored[0])[indices].clone(), stored[1][indices])]

    setup.data.batches = batches
    found = repeatable_evaluation(setup)
    assert found.val_reads_differ == 1 and found.val_reads_times == pytest.approx(times)


class Mixes(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(0))


class Reads(nn.Module):
    """Reads the columns four at a time, as steps of a sequence."""

    def __init__(self, forwards=True, **more):
        super().__init__()
        self.lstm, self.head, self.forwards = nn.LSTM(4, 16, **more), nn.Linear(16, 10), forwards

    def forward(self, inputs):
        steps = inputs.unflatten(1, (5, 4))
        if self.forwards:
            return self.head(self.lstm(steps)[0][:, -1])
        return self.head(self.lstm(steps.flip(0))[0].flip(0)[:, -1])


class TimeFirst(nn.Module):
    """Scores of each step, (T, N, C), as ctc_loss takes them; `mixes`: with the mean over the batch taken off."""

    def __init__(self, mixes=False):
        super().__init__()
        self.head, self.mixes = nn.Linear(4, 10), mixes

    def forward(self, inputs):
        steps = inputs.unflatten(1, (5, 4)).transpose(0, 1)
        return self.head(steps - steps.mean(1, keepdim=True) if self.mixes else steps)


@pytest.mark.parametrize(
    ("model", "depends"),
    [
        (mlp(), False),
        (TimeFirst, False),
        (lambda: TimeFirst(mixes=True), True),
        (lambda: nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 10)), False),
        (lambda: Mixes(20, 10), True),
        (lambda: Reads(batch_first=True), False),
        (Reads, True),  # the batch is taken for time: an example sees those before it
        (lambda: Reads(forwards=False), True),  # or those after it
        (mlp(head=zero), False),
    ],
)
def test_neighbours_matter_only_where_examples_are_mixed(setup_of, blobs, model, depends):
    assert (neighbours(setup_of(blobs(), model)).differ > 1e-3) is depends


def test_input_use_is_zero_only_where_the_input_is_multiplied_away(setup_of, blobs):
    class Blind(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs * 0)

    blind, sound = (input_use(setup_of(blobs(), model)) for model in (lambda: Blind(20, 10), mlp(head=zero)))
    assert blind.varies == blind.changes_when_zeroed == 0
    assert sound.varies > 0.01


class Positioned(nn.Module):
    """Adds positions along the steps, or along the rows of the batch."""

    def __init__(self, along_the_batch):
        super().__init__()
        self.places, self.head, self.along_the_batch = torch.randn(64, 1, 4), nn.Linear(20, 10), along_the_batch

    def forward(self, inputs):
        steps = inputs.unflatten(1, (5, 4))
        added = self.places[: len(steps)] if self.along_the_batch else self.places[:5].transpose(0, 1)
        return self.head((steps + added).flatten(1))


@pytest.mark.parametrize(("along_the_batch", "depends"), [(False, False), (True, True)])
def test_the_place_in_the_batch_matters_where_its_rows_are_counted(setup_of, blobs, along_the_batch, depends):
    found = neighbours(setup_of(blobs(), lambda: Positioned(along_the_batch)))
    assert found.differ < 1e-4 and (found.moved > 1e-2) is depends
