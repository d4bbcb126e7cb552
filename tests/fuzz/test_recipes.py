"""A slice of the fuzzer for every day; `tests/slow/test_fuzz.py` has the whole."""

from hypothesis import HealthCheck, given, settings

from tests.conftest import tuner
from tests.fuzz.recipes import assert_ends_well, changes, recipe_text


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes)
def test_no_recipe_is_a_bug_of_tuner(tmp_path, changed):
    (tmp_path / "small.toml").write_text(recipe_text(changed))
    assert_ends_well(tuner("check-init", "small.toml", "--dry-run", "--workers", "0", cwd=tmp_path))
