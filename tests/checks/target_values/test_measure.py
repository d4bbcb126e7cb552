import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from tests.checks.asking import ask, built
from tuner.checks.target_values.measure import target_values
from tuner.checks.target_values.rules import column_gives_value_away, values_are_of_another_size
from tuner.checks.tools.frame import DoesNotApply
from tuner.tasks.regression import Regression


def rows(n=400, seed=0, leak=None):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 6, generator=generator)
    targets = inputs[:, 0] + inputs[:, 1] ** 2 + 0.3 * torch.randn(n, generator=generator)
    if leak is not None:
        inputs[:, 5] = leak(targets)
    return inputs, targets


def measured(setup_of, train, val=None):
    return target_values(setup_of(train, lambda: nn.Linear(6, 1), val=val, num_classes=1, data={"task": Regression()}))


def test_values_of_one_world_are_no_finding_and_the_distance_is_scipys(setup_of):
    train, val = rows(), rows(150, seed=1)
    found = measured(setup_of, train, val)
    expected = ks_2samp(train[1].numpy(), val[1].numpy())
    assert (found.distance, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.medians == pytest.approx([float(part[1].median()) for part in (train, val)], abs=0.05)
    assert ask(values_are_of_another_size, found) is None and ask(column_gives_value_away, found) is None


def test_values_in_another_unit_are_named_with_both_medians(setup_of):
    inputs, targets = rows(150, seed=1)
    finding = ask(values_are_of_another_size, measured(setup_of, rows(), (inputs, targets * 10 + 40)))
    assert (finding.cause, finding.severity) == ("train-val-shift", "warn")
    assert "their medians are" in finding.title


@pytest.mark.parametrize(
    "leak",
    [lambda y: y, lambda y: 32 - 1.8 * y, lambda y: y.exp()],
    ids=["itself", "in another unit", "on another scale"],
)
def test_a_column_that_holds_the_value_is_named(setup_of, leak):
    found = measured(setup_of, rows(leak=leak))
    assert found.name == "value 5" and found.best > 0.98
    finding = ask(column_gives_value_away, found)
    assert (finding.cause, finding.severity) == ("target-leak", "warn")
    assert finding.title.startswith("value 5 alone explains")


def test_two_columns_that_do_not_go_together_and_say_as_much_are_no_leak():
    close = built("target_values", quantities=1, n=400, best=0.99, second=0.97, name="a", features=6)
    assert ask(column_gives_value_away, close) is None


def test_several_quantities_are_asked_one_by_one(setup_of):
    inputs, targets = rows(leak=lambda y: y)
    both = torch.stack([torch.randn(400, generator=torch.Generator().manual_seed(3)), targets], 1)
    shifted = (inputs[:150], both[:150] + torch.tensor([0.0, 30.0]))
    found = measured(setup_of, (inputs, both), shifted)
    assert (found.quantities, found.name) == (2, "value 5")
    assert found.distance == 1.0


def test_classes_are_no_quantities(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="no quantities"):
        target_values(setup_of(blobs(), lambda: nn.Linear(20, 10)))


def windows(length=10, includes_the_value=False, noise=0.05, features=1):
    """Return windows of one long series that wanders, or of several, and the value that follows each."""
    generator = torch.Generator().manual_seed(0)
    series = (noise * torch.randn(600 + length, features, generator=generator)).cumsum(0)
    inputs = torch.stack([series[at : at + length] for at in range(600)])
    targets = series[length - 1 if includes_the_value else length :][:600, 0]
    return (inputs[:, :, 0] if features == 1 else inputs), targets


@pytest.mark.parametrize("features", [1, 3])
def test_the_last_value_of_a_series_is_no_leak(setup_of, features):
    found = measured(setup_of, windows(features=features))
    assert found.in_a_row and found.best > 0.95
    assert ask(column_gives_value_away, found) is None


@pytest.mark.parametrize("features", [1, 3])
def test_a_window_that_ends_with_the_value_itself_is_a_leak(setup_of, features):
    found = measured(setup_of, windows(features=features, includes_the_value=True))
    assert found.in_a_row and ask(column_gives_value_away, found).severity == "warn"


def test_a_column_of_a_table_is_in_no_row(setup_of):
    assert not measured(setup_of, rows(leak=lambda y: y)).in_a_row
