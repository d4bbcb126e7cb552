"""Recipes that nobody would write, and what must hold for each: a clear end, in bounded words and time."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from tests.conftest import RECIPE, Done

ALLOWED_CODES = {0, 1, 2, 3, 4, 5}
MAX_MESSAGE_BYTES = 2000
KEYS = {
    "data": "source root path target normalize augment test_fraction val_fraction split_seed num_classes cache "
    "loader_workers image_size task sampler collate fill args",
    "model": "name init width depth dropout activation batch_norm weights args",
    "loss": "name label_smoothing weight gamma args",
    "optimizer": "name lr momentum weight_decay betas nesterov groups args",
    "schedule": "name every step_size gamma T_max warmup_epochs max_lr args",
    "train": "batch_size precision monitor monitor_mode step evaluate metric clip_norm accumulate",
    "accept": "codes reason",
}
SHORT = (
    "a.b torch torch.nn torch.nn.Module torch.nn.Linear torch.optim.Adam digits mlp convnet resnet8 cross_entropy "
    "focal mse bce sgd adam lbfgs sparseadam cosine step one_cycle plateau constant auto bf16 fp64 hflip random_crop "
    "mixup u.py:f u.py no.py:f ../u.py:f $HOME $NO_SUCH_VARIABLE ~ / . .. small.toml val_accuracy val_loss "
    "=1+1 balanced relu train"
)
LONG = ["", " ", "\x1b[2J", "\u043a\u043b\u044e\u0447", "\u202e", "a" * 300, "a" * 20_000, "9" * 400, "'", '"', "\n"]
WORDS = [*SHORT.split(), *LONG]
NUMBERS = [0, 1, -1, 2, 3, 7, 64, 2**31, -(2**31), 2**63 - 1, 2**64, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1.0]
NUMBERS += [math.nan, math.inf, -math.inf]

NAMES = ["name", "low", "high", "choices", "a"]

wild = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.integers(), st.floats())
mild = st.one_of(st.sampled_from(SHORT.split()), st.booleans(), st.integers(-3, 70), st.floats(-1, 2))
leaves = st.one_of(mild, mild, wild)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["name", "low", "high", "choices", "a"]), inner, max_size=4),
    ),
    max_leaves=6,
)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


any_value = st.one_of(leaves, leaves, values, st.sampled_from([25, 90]).map(deep))
table_and_key = st.sampled_from(
    [(table, key) for table, keys in KEYS.items() for key in (*keys.split(), "unknown", "a" * 200)]
)
settings_of_search = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("low", "high", "step"), leaves),
        **dict.fromkeys(("log", "int"), st.one_of(st.booleans(), leaves)),
        "choices": st.one_of(st.lists(values, max_size=3), leaves),
        "when": st.dictionaries(st.sampled_from(["optimizer.name", "model.width", "a.b", "x"]), values, max_size=2),
    },
)
search_keys = st.one_of(
    table_and_key.map(".".join),
    st.sampled_from(["optimizer.lr.x", "model.width.0", "lr", "", "model.", "a" * 200, "model" + ".a" * 1000]),
)
changes = st.lists(
    st.one_of(
        st.tuples(table_and_key, any_value),
        st.tuples(st.tuples(st.just("search"), search_keys), st.one_of(settings_of_search, any_value)),
        st.tuples(st.tuples(st.just("stages"), st.sampled_from(["coarse", "overfit", "fine", "corse"])), values),
        st.tuples(st.tuples(st.sampled_from(["name", "seed", "data", "model", "train", "extra"])), any_value),
    ),
    min_size=1,
    max_size=3,
)


def recipe_text(changed: list[tuple[tuple[str, ...], Any]]) -> str:
    """Return the recipe of the test suite with some keys replaced."""
    import tomllib

    raw: dict[str, Any] = tomllib.loads(RECIPE)
    for path, value in changed:
        *above, last = path
        table = raw
        for part in above:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                break
            table = inner
        else:
            table[last] = value
    return "".join(f"{quoted(key)} = {toml(value)}\n" for key, value in raw.items())


def toml(value: Any) -> str:
    """Write a value as TOML, inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "{" + ", ".join(f"{quoted(key)} = {toml(item)}" for key, item in value.items()) + "}"


def quoted(text: str) -> str:
    special = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(special.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def assert_ends_well(done: Done) -> None:
    """Assert a documented exit code other than a bug's, no traceback of ours, no message that floods a terminal."""
    assert done.code in ALLOWED_CODES, f"{done.code}: {done.err}"
    assert "bug of tuner" not in done.err and "Traceback" not in done.err, done.err
    if done.code > 1:
        assert len(done.err.encode()) < MAX_MESSAGE_BYTES, done.err
        assert "\x1b" not in done.err
