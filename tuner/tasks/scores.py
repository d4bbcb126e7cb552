"""Scores of a whole split by name, from outputs and targets as arrays. The definitions are scikit-learn's.

Classification: outputs (M, C) class scores (logits or probabilities), targets (M,) class numbers. Multi-label: outputs
(N, C), above 0 where the label is said to be there, targets (N, C) of 0 and 1. Regression: both (N, D).
Embedding: outputs (N, D) features, targets (N,) identities.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
CHUNK = 512  # queries that are compared with the gallery at a time


# --- classification ---------------------------------------------------------------------------------------------


def confusion(predicted: Array, targets: Array, classes: int) -> Array:
    """Return counts: entry (i, j) is the number of examples of class i that are taken for class j."""
    return np.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def confusion_of(outputs: Array, targets: Array) -> Array:
    """Return the confusion of the largest outputs."""
    classes = max(outputs.shape[1], int(targets.max()) + 1)
    return confusion(outputs.argmax(1), targets, classes)


def balanced_accuracy(counts: Array) -> float:
    """Return the mean recall over the classes that have examples."""
    present = counts.sum(1) > 0
    return float((counts.diagonal()[present] / counts.sum(1)[present]).mean())


def f_scores(counts: Array, beta: float = 1.0) -> tuple[Array, Array]:
    """Return the F score of every class that has examples or answers, and its number of examples."""
    there = (counts.sum(0) + counts.sum(1)) > 0
    hits, answers, examples = counts.diagonal()[there], counts.sum(0)[there], counts.sum(1)[there]
    return _f(hits, answers, examples, beta), examples


def _f(hits: Array, answers: Array, examples: Array, beta: float) -> Array:
    """Return (1 + b^2) hits / (b^2 examples + answers), 0 where there is neither an example nor an answer."""
    below = beta**2 * examples + answers
    return np.divide((1 + beta**2) * hits, below, out=np.zeros(np.shape(hits)), where=below > 0)


def macro_f(counts: Array, beta: float = 1.0) -> float:
    return float(f_scores(counts, beta)[0].mean())


def weighted_f1(counts: Array) -> float:
    values, examples = f_scores(counts)
    return float((values * examples).sum() / examples.sum())


def f_beta(counts: Array, beta: float) -> float:
    """Return the F score of class 1 where there are two classes, the mean over the classes otherwise."""
    if len(counts) == 2:
        return float(_f(counts[1, 1], counts[:, 1].sum(), counts[1].sum(), beta))
    return macro_f(counts, beta)


def top_k(outputs: Array, targets: Array, k: int) -> float:
    """Return the share of examples whose class is among the k largest outputs (ties: the later class first)."""
    best = np.argsort(outputs, axis=1, kind="stable")[:, ::-1][:, :k]
    return float((best == targets[:, None]).any(1).mean())


def probabilities(outputs: Array) -> Array:
    """Return the outputs where each row is a distribution already, their softmax otherwise."""
    outputs = outputs.astype(np.float64)
    if (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3):
        return outputs
    powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def roc_auc(outputs: Array, targets: Array) -> float | None:
    """Return the area under the ROC curve: of class 1 among two, else the mean of each class against the rest.

    None where a class has no example, or all of them.
    """
    classes = outputs.shape[1]
    if classes == 2:
        return area(outputs[:, 1].astype(np.float64) - outputs[:, 0], targets == 1)
    shares = probabilities(outputs)
    return _mean([area(shares[:, label], targets == label) for label in range(classes)])


def area(values: Array, positive: Array) -> float | None:
    """Return the probability that a positive example has the larger value, ties counted half; None without a pair."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return None
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _mean(values: list[float | None]) -> float | None:
    return None if any(value is None for value in values) else float(np.mean(values))  # type: ignore[arg-type]


# --- multi-label -------------------------------------------------------------------------------------------------


def average_precision(values: Array, positive: Array) -> float:
    """Return the mean precision at the positive examples, equal values taken together: no interpolation."""
    order = np.argsort(-values, kind="stable")
    values, positive = values[order], positive[order].astype(bool)
    last_of_ties = np.r_[values[1:] != values[:-1], True]
    hits, asked = np.cumsum(positive)[last_of_ties], (np.flatnonzero(last_of_ties) + 1)
    return float((np.diff(np.r_[0, hits]) * hits / asked).sum() / positive.sum())


def mean_average_precision(outputs: Array, targets: Array) -> float | None:
    """Return the average precision, a mean over the labels that have a positive example."""
    there = [label for label in range(targets.shape[1]) if targets[:, label].any()]
    values = [average_precision(outputs[:, label], targets[:, label] > 0) for label in there]
    return float(np.mean(values)) if values else None


def label_counts(outputs: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Return per label how many answers are right hits, how many are given, and how many examples have the label."""
    given, wanted = outputs > 0, targets > 0
    return (given & wanted).sum(0), given.sum(0), wanted.sum(0)


def multilabel_f(outputs: Array, targets: Array, beta: float = 1.0) -> float:
    return float(_f(*label_counts(outputs, targets), beta).mean())


def label_accuracy(outputs: Array, targets: Array) -> float:
    """Return the share of all (example, label) pairs that are right."""
    return float(((outputs > 0) == (targets > 0)).mean())


def multilabel_auc(outputs: Array, targets: Array) -> float | None:
    """Return the area under the ROC curve, a mean over labels; None where a label has no pair of examples."""
    return _mean([area(outputs[:, label], targets[:, label] > 0) for label in range(targets.shape[1])])


# --- regression --------------------------------------------------------------------------------------------------


def errors(outputs: Array, targets: Array) -> Array:
    """Return outputs minus targets in float64: numpy sums columns of float32 without care for what is rounded off."""
    return np.asarray(outputs, dtype=np.float64) - np.asarray(targets, dtype=np.float64)


def r2(outputs: Array, targets: Array) -> float | None:
    """Return 1 - residual over total sum of squares, a mean over the values; None where a value does not vary."""
    total = (errors(targets, targets.mean(0, dtype=np.float64)) ** 2).sum(0)
    if not (total > 0).all():
        return None
    return float((1 - (errors(outputs, targets) ** 2).sum(0) / total).mean())


def mae(outputs: Array, targets: Array) -> float:
    return float(np.abs(errors(outputs, targets)).mean())


def rmse(outputs: Array, targets: Array) -> float:
    """Return the root of the mean squared error, a mean over the values."""
    return float(np.sqrt((errors(outputs, targets) ** 2).mean(0)).mean())


# --- embedding ---------------------------------------------------------------------------------------------------


def ranked_matches(features: Array, targets: Array) -> list[Array]:
    """Return per query whether each other example, from the most similar on (cosine), is of the query's identity.

    Every example of the split is a query, and all others are its gallery; one without a match is left out.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.maximum(lengths, 1e-12)).astype(np.float64)
    found = []
    for start in range(0, len(unit), CHUNK):
        similar = unit[start : start + CHUNK] @ unit.T
        own = np.arange(start, start + len(similar))
        similar[np.arange(len(similar)), own] = -np.inf
        order = np.argsort(-similar, axis=1, kind="stable")[:, :-1]
        found += list(targets[order] == targets[own][:, None])
    return [matches for matches in found if matches.any()]


def retrieval_map(matches: list[Array]) -> list[float]:
    """Return each query's average precision: the mean, over its matches, of the share of matches up to each."""
    return [float((np.cumsum(hit)[hit] / (np.flatnonzero(hit) + 1)).mean()) for hit in matches]


def rank_k(matches: list[Array], k: int) -> float:
    """Return the share of queries with a match among the k most similar."""
    return float(np.mean([hit[:k].any() for hit in matches]))
