"""Re-ranking by k-reciprocal neighbours: those near a query count more where the query is near to them as well."""

from __future__ import annotations

import numpy as np

from tuner.core.errors import UsageError
from tuner.tasks.base import Array

MOST = 8000  # examples: the distances of all pairs are held in memory
AGREE = 2 / 3  # of a neighbour's own neighbours that must be the query's for them to join (Zhong et al., section 3.2)


def reranked_matches(features: Array, targets: Array, k1: int = 20, k2: int = 6, share: float = 0.3) -> list[Array]:
    """Return per query whether each other example, from the nearest on, is of its identity, as `ranked_matches` does.

    The distance is `share` of the plain one (of unit features) and the rest of the Jaccard distance of the two sets of
    `k1` reciprocal neighbours, each the mean over its `k2` nearest.

    Source: Z. Zhong et al. 2017, Re-ranking Person Re-identification with k-reciprocal Encoding; the notes on
    competitions, re-ranking.

    Raises:
        UsageError: there are too many examples.
    """
    if len(features) > MOST:
        raise UsageError(f"after.rerank: {len(features)} examples are more than {MOST}, all pairs of them are compared")
    far = distances(features, k1, k2, share)
    np.fill_diagonal(far, np.inf)
    order = np.argsort(far, axis=1, kind="stable")[:, :-1]
    found = targets[order] == targets[:, None]
    return [matches for matches in found if matches.any()]


def distances(features: Array, k1: int, k2: int, share: float) -> Array:
    """Return the distances of all pairs, (N, N): see `reranked_matches`."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.maximum(lengths, 1e-12)).astype(np.float64)
    plain = np.maximum(2 - 2 * unit @ unit.T, 0)
    plain /= np.maximum(plain.max(axis=1, keepdims=True), 1e-12)
    order = np.argsort(plain, axis=1, kind="stable")
    weights = np.zeros_like(plain)
    for i in range(len(plain)):
        near = _expanded(order, i, k1)
        own = np.exp(-plain[i, near])
        weights[i, near] = own / own.sum()
    if k2 > 1:
        weights = weights[order[:, :k2]].mean(axis=1)
    common = np.stack([np.minimum(row, weights).sum(axis=1) for row in weights])
    return (1 - share) * (1 - common / (2 - common)) + share * plain


def _expanded(order: Array, i: int, k: int) -> Array:
    """Return the reciprocal neighbours of example i, with those of its neighbours that mostly agree."""
    near = _reciprocal(order, i, k)
    found = [near]
    for other in near:
        theirs = _reciprocal(order, other, round(k / 2))
        if len(np.intersect1d(theirs, near)) > AGREE * len(theirs):
            found.append(theirs)
    return np.unique(np.concatenate(found))


def _reciprocal(order: Array, i: int, k: int) -> Array:
    """Return those among the k nearest of example i (itself among them) that have it among their k nearest."""
    near = order[i, : k + 1]
    return near[(order[near, : k + 1] == i).any(axis=1)]
