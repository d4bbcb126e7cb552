"""What no value of a recipe can be is said with its key, before anything copies, compares or prints it."""

import datetime

import pytest

from tuner import stages
from tuner.core.errors import UsageError
from tuner.recipe.file import load_recipe, parse_assignment
from tuner.recipe.values import value_problems

RECIPE = 'name = "r"\n[data]\nsource = "digits"\n[model]\nname = "mlp"\n'


def load(tmp_path, more, overrides=()):
    path = tmp_path / "r.toml"
    path.write_text(RECIPE + more)
    return load_recipe(path, overrides, settings=stages.settings_models())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("width = nan", r"r\.toml:6: model\.width: input should be a finite number \(got nan\)"),
        ("args = { width = inf }", r"r\.toml:6: model\.args\.width: input should be a finite number \(got inf\)"),
        ("[optimizer]\nbetas = [0.9, nan]", r"r\.toml:7: optimizer\.betas\.1: input should be a finite number"),
        ('[search]\n"model.width" = { choices = [1, [{ a = -inf }]] }', r"choices\.1\.0\.a: input should be a finite"),
        (f"width = {'9' * 400}", r"model\.width: a whole number has 64 bits at most \(got 999.* \.\.\. .*9\)"),
        (f'[search]\n"model.width" = {{ low = 1, high = {"9" * 400} }}', r"width\.high: a whole number has 64 bits"),
        (f"width = {'9' * 5000}", r"r\.toml:6: cannot be read: a number of thousands of digits"),
        (f"width = {'[' * 100}{']' * 100}", r"tables and lists may be nested 20 levels deep at most"),
        (f"width = {'[' * 500}{']' * 500}", r"r\.toml:6: cannot be read: lists and tables nested without end"),
        (f"{'.'.join(['a'] * 1000)} = 1", r"tables and lists may be nested 20 levels deep"),
        (f"[{'.'.join(['a'] * 1000)}]\nb = 1", r"tables and lists may be nested 20 levels deep"),
        (f'"{"k" * 5000}" = 1', r"a key has 100 characters at most \(this one has 5,000\)"),
        (f'init = "{"k" * 20_000}"', r"a text has 10,000 characters at most \(got 20,000\)"),
        ('init = "a\\u0000b"', r"a text cannot hold the character 0"),
        ("width = 2026-01-01", r"a date or a time is no value of a recipe \(got 2026-01-01\)"),
        ('[search]\n"model.width" = { choices = [12:00:00, 3] }', r"a date or a time is no value"),
    ],
    ids=lambda text: text[:40],
)
def test_a_value_that_cannot_be_one_is_refused_with_its_place(tmp_path, more, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, more)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ('"optimizer.lr.x" = { low = 0.1, high = 1.0 }', r"search\.optimizer\.lr\.x: optimizer\.lr is 0\.01, no table"),
        ('"model.name.0" = { low = 1, high = 3 }', r"search\.model\.name\.0: model\.name is 'mlp', no table"),
        (f'"model.{".".join("abcdefgh")}" = {{ low = 1, high = 3 }}', "a key of a recipe has 6 parts at most"),
        ('"model..a" = { low = 1, high = 3 }', "not a dotted key of the recipe"),
        (
            '"model.args.a" = { choices = [1, 2] }\n"model.args.a.b" = { choices = [1, 2] }',
            r"search\.model\.args\.a\.b: it lies inside model\.args\.a, which is searched as well",
        ),
    ],
)
def test_a_search_key_that_leads_nowhere_is_refused(tmp_path, search, message):
    with pytest.raises(UsageError, match=message):
        load(tmp_path, f"[search]\n{search}\n")


@pytest.mark.parametrize("text", [f"model.width={'9' * 5000}", f"model.width={'[' * 2000}"])
def test_an_override_that_no_parser_reads_is_refused(text):
    with pytest.raises(UsageError, match=r"^--set model\.width=.* \.\.\. .*: (cannot be read|.* is not a TOML value)"):
        parse_assignment(text)


def test_a_long_list_of_problems_is_cut(tmp_path):
    with pytest.raises(UsageError, match=r"\n\.\.\. and 30 more\n") as caught:
        load(tmp_path, "[train]\n" + "".join(f"key{i} = 1\n" for i in range(50)))
    assert caught.value.message.count("\n") == 20


def test_ordinary_values_are_no_problem():
    table = {"a": {"b": [1, 2.5, True, "text", {"c": [[]]}]}, "big": 2**63 - 1, "small": -(2**63 - 1)}
    assert value_problems(table) == []
    assert value_problems({"a": {"at": datetime.date(2026, 1, 1)}})[0][0] == "a.at"


def test_a_recipe_that_is_another_file_is_refused(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(5 << 20))
    with pytest.raises(UsageError, match=r"weights\.bin: no recipe: it has 5,242,880 bytes"):
        load_recipe(path, settings=stages.settings_models())


def test_a_path_that_no_disk_holds_is_refused(tmp_path):
    text = RECIPE.replace('source = "digits"', f'source = "npz"\npath = "{"a" * 5000}.npz"')
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=r"r\.toml:4: data\.path: no disk has a path of this length"):
        load_recipe(tmp_path / "r.toml", settings=stages.settings_models())
