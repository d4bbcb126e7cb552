"""Re-ranking by k-reciprocal neighbours, held against sets and loops."""

import math

import numpy as np
import pytest

from tuner.core.errors import UsageError
from tuner.tasks import reranking
from tuner.tasks.reranking import distances, reranked_matches
from tuner.tasks.scores import ranked_matches, retrieval_map


def features(n=40, kinds=4, noise=0.9, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % kinds
    return draw.standard_normal((kinds, 6))[labels] + noise * draw.standard_normal((n, 6)), labels


def by_sets(x, k1, k2, share):
    """The paper's definitions with Python sets: R(p, k), R*(p, k), the weights, the minimum over the maximum."""
    n = len(x)
    unit = [row / math.sqrt(float(row @ row)) for row in x]
    plain = [[max(0.0, float((a - b) @ (a - b))) for b in unit] for a in unit]
    plain = [[value / max(row) for value in row] for row in plain]

    def near(i, k):
        return sorted(range(n), key=lambda j: (plain[i][j], j))[: k + 1]

    def reciprocal(i, k):
        return {j for j in near(i, k) if i in near(j, k)}

    weights = []
    for i in range(n):
        own = reciprocal(i, k1)
        wide = set(own)
        for j in own:
            theirs = reciprocal(j, round(k1 / 2))
            if len(theirs & own) > 2 / 3 * len(theirs):
                wide |= theirs
        row = [math.exp(-plain[i][j]) if j in wide else 0.0 for j in range(n)]
        weights.append([value / sum(row) for value in row])
    mean = [[sum(weights[m][j] for m in near(i, k2 - 1)) / k2 for j in range(n)] for i in range(n)]
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            least = sum(min(a, b) for a, b in zip(mean[i], mean[j], strict=True))
            most = sum(max(a, b) for a, b in zip(mean[i], mean[j], strict=True))
            found[i, j] = (1 - share) * (1 - least / most) + share * plain[i][j]
    return found


@pytest.mark.parametrize(("k1", "k2", "share"), [(8, 3, 0.3), (12, 1, 0.0), (5, 4, 0.6)])
def test_distances_are_those_of_the_papers_sets(k1, k2, share):
    x, _ = features()
    np.testing.assert_allclose(distances(x, k1, k2, share), by_sets(x, k1, k2, share), atol=1e-9)


def test_a_share_of_one_leaves_the_order_as_it_is():
    x, y = features()
    assert retrieval_map(reranked_matches(x, y, share=1.0)) == pytest.approx(retrieval_map(ranked_matches(x, y)))


def test_noisy_features_are_ranked_better():
    x, y = features(n=120)
    plain, moved = (np.mean(retrieval_map(found)) for found in (ranked_matches(x, y), reranked_matches(x, y)))
    assert moved > plain + 0.02


def test_more_examples_than_memory_holds_pairs_of_are_refused(monkeypatch):
    monkeypatch.setattr(reranking, "MOST", 39)
    with pytest.raises(UsageError, match="after.rerank: 40 examples are more than 39"):
        reranked_matches(*features())
