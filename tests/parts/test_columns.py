"""Missing cells filled as scikit-learn's SimpleImputer does, fitted on the train rows alone; columns of identifiers."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from tuner.core.errors import InputError
from tuner.parts.columns import Columns, fill_missing, numbers_rows

NAMES = ("a", "b", "c")


def values():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 5, (40, 3)).astype(np.float32)
    x[generator.random((40, 3)) < 0.2] = np.nan
    x[:, 2] = np.arange(40)
    return x


@pytest.mark.parametrize(
    ("fill", "strategy"), [("median", "median"), ("most_frequent", "most_frequent"), (-1.5, "constant")]
)
def test_cells_are_filled_as_scikit_learn_fills_them_from_train_alone(fill, strategy):
    x, train = values(), np.arange(25)
    ours, names, done = fill_missing(x, train, NAMES, Columns(fill=fill))
    oracle = SimpleImputer(strategy=strategy, fill_value=fill if strategy == "constant" else None, add_indicator=True)
    assert np.allclose(ours, oracle.fit(x[train]).transform(x))
    assert names == ("a", "b", "c", "a missing", "b missing")
    assert done.missing == {"a": int(np.isnan(x[train, 0]).sum()), "b": int(np.isnan(x[train, 1]).sum())}


def test_a_column_that_is_whole_in_train_gets_no_indicator():
    x = np.array([[1.0], [2.0], [5.0], [np.nan]], dtype=np.float32)
    ours, names, done = fill_missing(x, np.arange(3), ("a",), Columns(fill="median"))
    assert ours.tolist() == [[1], [2], [5], [2]] and names == ("a",) and done.missing == {} and done.filled == {"a": 2}


def test_a_column_without_a_value_in_train_is_named():
    x = np.array([[np.nan], [np.nan], [1.0]], dtype=np.float32)
    with pytest.raises(InputError, match="column 'a' has no value in train"):
        fill_missing(x, np.arange(2), ("a",), Columns(fill="median"))


@pytest.mark.parametrize(
    ("column", "name", "is_id"),
    [
        (np.random.default_rng(0).permutation(40) + 7, "number", True),  # consecutive
        (np.arange(40) * 3, "taken", True),  # in order
        (np.random.default_rng(0).permutation(400)[:40], "user_id", True),  # called so
        (np.random.default_rng(0).permutation(400)[:40], "price", False),
        (np.arange(40) + 0.5, "order", False),
        (np.arange(40) % 20, "order", False),
        (np.arange(10), "id", False),  # too few rows
        (np.r_[np.arange(39.0), np.nan], "id", False),
    ],
)
def test_a_column_that_numbers_the_rows_is_told_from_a_quantity(column, name, is_id):
    assert numbers_rows(np.asarray(column, float), name) is is_id
