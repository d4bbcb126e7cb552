"""Scores by name, against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from tuner.tasks import base, scores
from tuner.tasks.classification import Classification
from tuner.tasks.embedding import Embedding
from tuner.tasks.multilabel import Multilabel
from tuner.tasks.regression import Regression


def classified(classes: int, n: int = 200, seed: int = 0):
    """Class scores that are right more often than not, with ties, and a class that is rare."""
    rng = np.random.default_rng(seed)
    targets = np.minimum(rng.integers(0, classes + 2, n) % (classes + 1), classes - 1)
    outputs = np.round(rng.standard_normal((n, classes)), 1)
    outputs[np.arange(n), targets] += 1.0
    return outputs, targets


def softmax(outputs):
    powers = np.exp(outputs)
    return powers / powers.sum(1, keepdims=True)


OF_CLASSES = {
    "accuracy": lambda o, y: metrics.accuracy_score(y, o.argmax(1)),
    "balanced_accuracy": lambda o, y: metrics.balanced_accuracy_score(y, o.argmax(1)),
    "macro_f1": lambda o, y: metrics.f1_score(y, o.argmax(1), average="macro"),
    "weighted_f1": lambda o, y: metrics.f1_score(y, o.argmax(1), average="weighted"),
    "top_2": lambda o, y: metrics.top_k_accuracy_score(y, o, k=2),
}


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_score_of_classes_is_scikit_learns(name, seed):
    outputs, targets = classified(4, seed=seed)
    ours = Classification().measure((name,), outputs, targets)[name]
    assert ours == pytest.approx(OF_CLASSES[name](outputs, targets), abs=1e-12)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_f_beta_is_of_class_1_among_two_and_the_mean_otherwise(beta):
    for classes, average in ((2, "binary"), (4, "macro")):
        outputs, targets = classified(classes)
        wanted = metrics.fbeta_score(targets, outputs.argmax(1), beta=beta, average=average)
        name = f"f_{beta:g}"
        assert Classification().measure((name,), outputs, targets)[name] == pytest.approx(wanted, abs=1e-12)


def test_auc_is_scikit_learns_for_two_and_for_several_classes():
    outputs, targets = classified(2)
    two = metrics.roc_auc_score(targets, outputs[:, 1] - outputs[:, 0])
    assert scores.roc_auc(outputs, targets) == pytest.approx(two, abs=1e-12)
    outputs, targets = classified(4)
    outputs = outputs + 0.01 * np.random.default_rng(1).standard_normal(outputs.shape)  # no ties but for rounding
    several = metrics.roc_auc_score(targets, softmax(outputs), multi_class="ovr")
    assert scores.roc_auc(outputs, targets) == pytest.approx(several, abs=1e-12)
    assert scores.roc_auc(softmax(outputs), targets) == pytest.approx(several, abs=1e-12)


def test_auc_without_an_example_of_a_class_is_none():
    assert scores.roc_auc(np.zeros((3, 2)), np.zeros(3, dtype=int)) is None


def labelled(seed: int = 0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((150, 5)) < [0.1, 0.3, 0.5, 0.7, 0.9]).astype(np.float32)
    return np.round(rng.standard_normal((150, 5)) + targets, 1), targets


OF_LABELS = {
    "mean_average_precision": lambda o, y: metrics.average_precision_score(y, o, average="macro"),
    "macro_f1": lambda o, y: metrics.f1_score(y, o > 0, average="macro"),
    "f_2": lambda o, y: metrics.fbeta_score(y, o > 0, beta=2, average="macro"),
    "label_accuracy": lambda o, y: 1 - metrics.hamming_loss(y, o > 0),
    "auc": lambda o, y: metrics.roc_auc_score(y, o, average="macro"),
}


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_score_of_labels_is_scikit_learns(name):
    outputs, targets = labelled()
    ours = Multilabel().measure((name,), outputs, targets)[name]
    assert ours == pytest.approx(OF_LABELS[name](outputs, targets), abs=1e-9)


OF_VALUES = {"r2": metrics.r2_score, "mae": metrics.mean_absolute_error, "rmse": metrics.root_mean_squared_error}


@pytest.mark.parametrize("name", OF_VALUES)
@pytest.mark.parametrize("values", [1, 3])
def test_a_score_of_values_is_scikit_learns(name, values):
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((80, values)) * np.arange(1, values + 1)
    outputs = targets + 0.5 * rng.standard_normal((80, values))
    ours = Regression().measure((name,), outputs, targets)[name]
    assert ours == pytest.approx(OF_VALUES[name](targets, outputs), abs=1e-12)


def test_a_map_of_features_is_the_mean_average_precision_of_every_query():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 60)
    features = rng.standard_normal((60, 8)) + 2 * np.eye(8)[targets]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    wanted = [
        metrics.average_precision_score(np.delete(targets == targets[i], i), np.delete(unit @ unit[i], i))
        for i in range(60)
    ]
    found = Embedding().measure(("map", "rank_1", "rank_5"), features, targets)
    assert found["map"] == pytest.approx(np.mean(wanted), abs=1e-9)
    near = (unit @ unit.T) - 9 * np.eye(60)
    assert found["rank_1"] == pytest.approx((targets[near.argmax(1)] == targets).mean())
    assert found["rank_5"] >= found["rank_1"]


def test_a_query_without_a_match_is_left_out():
    targets = np.array([0, 0, 1])
    assert len(Embedding().per_example(np.eye(3), targets)) == 2


@pytest.mark.parametrize(
    ("task", "targets", "name", "wanted"),
    [
        (Classification(), np.array([0] * 7 + [1] * 3), "accuracy", 0.7),
        (Classification(), np.array([0] * 7 + [1] * 3), "balanced_accuracy", 0.5),
        (Multilabel(), np.array([[1, 0], [0, 0], [1, 0], [0, 1]], float), "mean_average_precision", 0.375),
        (Regression(), np.arange(10.0)[:, None], "r2", 0.0),
        (Regression(), np.arange(10.0)[:, None], "mae", 2.5),
    ],
)
def test_the_baseline_is_what_a_constant_answer_scores(task, targets, name, wanted):
    assert base.baseline(task, name, targets) == pytest.approx(wanted)


def test_random_features_find_matches_as_often_as_they_are():
    targets = np.repeat(np.arange(5), 40)
    assert base.baseline(Embedding(), "rank_1", targets) == pytest.approx(39 / 199, abs=0.1)


@pytest.mark.parametrize("name", ["top_5", "f_0.5", "auc", "accuracy"])
def test_names_of_scores_are_known(name):
    assert base.is_known(Classification(), name)


@pytest.mark.parametrize("name", ["top_k", "f_beta", "rank_1", "r2", "top_1.5"])
def test_a_name_without_its_number_or_of_another_task_is_not_known(name):
    assert not base.is_known(Classification(), name)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("accuracy", [0.0, 1.0]),
        ("mean_average_precision", [0.0, 1.0]),
        ("top_5", [0.0, 1.0]),
        ("f_0.5", [0.0, 1.0]),
        ("r2", [-0.2, 1.0]),
        ("rmse", [0.0, 1.042]),
        ("their_own", [-0.2, 1.042]),
    ],
)
def test_an_interval_ends_where_its_score_does(name, kept):
    assert base.clipped(name, [-0.2, 1.042]) == kept and base.clipped(name, None) is None


@pytest.mark.parametrize("columns", [1, 2])
def test_scores_of_many_large_float32_values_are_those_of_exact_sums(columns):
    rng = np.random.default_rng(0)
    targets = (1e4 + rng.standard_normal((300_000, columns))).astype(np.float32)
    outputs = np.full_like(targets, 1e4)  # what knows nothing: R2 is about 0
    found = Regression().measure(tuple(OF_VALUES), outputs, targets)
    for name, of_sklearn in OF_VALUES.items():
        expected = of_sklearn(targets.astype(np.float64), outputs.astype(np.float64))
        assert found[name] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(Regression().constant(targets)[0], targets.mean(0, dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 2])
def test_r2_of_a_float32_target_that_does_not_vary_is_undefined(columns):
    targets = np.full((1000, columns), 0.1, dtype=np.float32)  # whose float32 mean is another number
    assert scores.r2(targets + 0.01, targets) is None
