"""Which of the searched keys mattered, and whether the trials can tell.

A forest of trees learns the score from the configuration. A key's importance is the share of the scores' variance that
the forest can no longer explain, on trials that a tree has not seen, when the key's values are shuffled: effects
that need another key count as well. The interval comes from drawing the trials again. What a key gets by chance is what
forests give that learn scores which were shuffled: only a key that beats all of those, for every key, is told.

Source: Breiman 2001 (importance by permutation, out of bag); Sobol 1993 (total effect); Hutter et al. 2014.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuner.core.result import Record
from tuner.core.trial import canonical_json
from tuner.recipe.space import Choices, Dimension, Range, Space

LEAST = 10  # trials: of fewer no key ever beat chance, however much it mattered
MOST = 256  # trials that are looked at; more cost time and tell no more
TREES = 50
CHANCE = 19  # forests that learn nothing: beating all of them has a chance of 1 in 20
DRAWS = 1000
LEAF = 2


def importance(records: Sequence[Record], space: Space, seed: int) -> dict[str, Any]:
    """Return `importance`: {key, importance, low, high, enough} per key, the greatest first, and what it rests on.

    `enough` is False where the trials cannot tell the key from one that does nothing. All trials are compared at the
    epoch that each of them reached, so that stopping the worse early does not bend the comparison.
    """
    epoch, scored = at_common_epoch(records)
    kept = scored[:: math.ceil(len(scored) / MOST)] if scored else []
    keys = [dimension for dimension in space.dimensions if _varies(dimension.key, [record for record, _ in kept])]
    scores = [score for _, score in kept]
    if len(kept) < LEAST or max(scores, default=0.0) == min(scores, default=0.0):
        found = [{"key": d.key, "importance": None, "low": None, "high": None, "enough": False} for d in keys]
    else:
        found = _measured(keys, [record.params for record, _ in kept], scores, seed)
    return {"importance": found, "importance_epoch": epoch, "importance_trials": len(kept)}


def at_common_epoch(records: Sequence[Record]) -> tuple[int | None, list[tuple[Record, float]]]:
    """Return the last epoch that all trials with a score have reached, and the best score of each up to it.

    A trial that diverged counts as the worst: that is what its configuration is worth.
    """
    curves = [(record, record.scores()) for record in records if record.result.status in ("completed", "stopped")]
    reached = [max(curve) for _, curve in curves if curve]
    if not reached:
        return None, []
    epoch = min(reached)
    best = {id(record): _best(curve, epoch) for record, curve in curves}
    worst = min((score for score in best.values() if score is not None), default=None)
    scored = []
    for record in records:
        score = worst if record.result.status == "diverged" else best.get(id(record))
        if score is not None:
            scored.append((record, score))
    return epoch, scored


def _best(curve: Mapping[int, float], epoch: int) -> float | None:
    return max((value for at, value in curve.items() if at <= epoch), default=None)


def _varies(key: str, records: Iterable[Record]) -> bool:
    return len({canonical_json(record.params[key]) for record in records if key in record.params}) > 1


def _measured(
    keys: Sequence[Dimension], params: Sequence[Mapping[str, Any]], scores: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    import numpy as np

    columns, owners, active = _table(keys, params)
    random = np.random.default_rng(seed)
    dealt = [random.permutation(scores) for _ in range(CHANCE)]
    targets = np.stack([np.asarray(scores, dtype=float), *dealt])
    more = _more_error(columns, owners, active, targets, random)  # (targets, keys, trials)
    shares = more / targets.var(axis=1)[:, None, None]
    chance = float(shares[1:].mean(axis=2).max())
    drawn = random.integers(len(scores), size=(DRAWS, len(scores)))
    found = []
    for place, dimension in enumerate(keys):
        value = float(shares[0, place].mean())
        low, high = (float(end) for end in np.quantile(shares[0, place][drawn].mean(axis=1), [0.025, 0.975]))
        told = {"importance": _share(value), "low": _share(low), "high": _share(high)}
        found.append({"key": dimension.key, **told, "enough": value > max(chance, 0.0)})
    return sorted(found, key=lambda entry: (not entry["enough"], -float(entry["importance"])))


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)


def _table(keys: Sequence[Dimension], params: Sequence[Mapping[str, Any]]) -> tuple[Any, Any, Any]:
    """Return the columns that a tree splits on, which key each belongs to, and which trials have each key.

    Ranges in the scale that they were sampled in; one column per choice, unless all are numbers. A trial without a key
    (its condition is not met) gets the middle of the others.
    """
    import numpy as np

    columns, owners = [], []
    active = np.array([[dimension.key in trial for trial in params] for dimension in keys])
    for place, dimension in enumerate(keys):
        for column in _columns(dimension, [trial.get(dimension.key) for trial in params]):
            known = [value for value in column if value is not None]
            middle = float(np.median(known))
            columns.append([middle if value is None else value for value in column])
            owners.append(place)
    return np.asarray(columns, dtype=np.float32).T, np.asarray(owners), active


def _columns(dimension: Dimension, values: Sequence[Any]) -> list[list[float | None]]:
    domain = dimension.domain
    if isinstance(domain, Range):
        inside = [domain.low if domain.log and value is not None and value <= 0 else value for value in values]
        return [[None if value is None else domain.scaled(float(value)) for value in inside]]
    numeric = all(isinstance(value, (int, float)) for value in values if value is not None)
    if numeric:
        return [[None if value is None else float(value) for value in values]]
    options = domain.options if isinstance(domain, Choices) else ()
    texts = [None if value is None else canonical_json(value) for value in values]
    wanted = [canonical_json(option) for option in options]
    return [[None if text is None else float(text == option) for text in texts] for option in wanted]


def _more_error(columns: Any, owners: Any, active: Any, targets: Any, random: Any) -> Any:
    """Return, per target, key and trial, the squared error that shuffling the key adds, out of bag."""
    import numpy as np
    from sklearn import config_context
    from sklearn.tree import ExtraTreeRegressor

    trials, keys = len(columns), len(active)
    total = np.zeros((len(targets), keys + 1, trials))
    count = np.zeros(trials)
    for _ in range(TREES):
        bag = random.integers(trials, size=trials)
        outside = np.ones(trials, dtype=bool)
        outside[bag] = False
        count += outside
        asked = np.concatenate([columns, *(_dealt(columns, owners == k, active[k], random) for k in range(keys))])
        state = int(random.integers(2**31))
        with config_context(skip_parameter_validation=True):  # which takes longer than the tree
            for place, target in enumerate(targets):
                tree = ExtraTreeRegressor(min_samples_leaf=LEAF, random_state=state)
                tree.fit(columns[bag], target[bag], check_input=False)
                said = tree.tree_.predict(asked).reshape(keys + 1, trials)
                total[place] += np.where(outside, said, 0.0)
    mean = total / np.maximum(count, 1)
    error = np.where(count > 0, (targets[:, None, :] - mean) ** 2, 0.0)
    return error[:, 1:] - error[:, :1]


def _dealt(columns: Any, of_key: Any, active: Any, random: Any) -> Any:
    """Return the table with one key's values shuffled among the trials that have it."""
    import numpy as np

    places = np.flatnonzero(active)
    copy = columns.copy()
    copy[np.ix_(places, of_key)] = columns[np.ix_(random.permutation(places), of_key)]
    return copy
