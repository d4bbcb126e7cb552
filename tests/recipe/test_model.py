"""The recipe: what is read, and every message about what is wrong."""

import pytest

from tuner import stages
from tuner.core.errors import UsageError
from tuner.recipe import file
from tuner.recipe.file import key_lines, parse_assignment
from tuner.recipe.model import expand_path


def load_recipe(path, overrides=()):
    return file.load_recipe(path, overrides, settings=stages.settings_models())


GOOD = """\
name = "r"

[data]
source = "digits"
augment = ["hflip", { name = "random_crop", padding = 2 }]

[model]
name = "mlp"
width = 64
"""


def write(tmp_path, text=GOOD):
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


def problem(tmp_path, text, overrides=()):
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return caught.value.message


def test_defaults_are_filled_in(tmp_path):
    recipe = load_recipe(write(tmp_path))
    assert recipe.tables()["loss"]["name"] == "cross_entropy"
    assert recipe.tables()["model"]["width"] == 64
    assert recipe.value("optimizer.lr") == 0.01
    assert recipe.value("model.depth") is None


def test_unknown_key_is_named_with_line_and_guess(tmp_path):
    text = GOOD + "\n[train]\nbatchsize = 3\n"
    assert problem(tmp_path, text).startswith(
        f"{tmp_path}/r.toml:12: train.batchsize: unknown key - did you mean 'batch_size'?"
    )


def test_all_problems_come_at_once(tmp_path):
    text = (
        GOOD
        + '\n[train]\nbatch_size = 0\nprecision = "fp8"\n[optimizer]\nlr = -1\n'
        + "[stages.coarse]\nepocs = 3\n[stages.corse]\n"
    )
    lines = problem(tmp_path, text).splitlines()
    assert len(lines) == 5
    assert any(":12: train.batch_size:" in line and "(got 0)" in line for line in lines)
    assert any(":15: optimizer.lr:" in line and "(got -1)" in line for line in lines)
    assert any("stages.coarse.epocs: unknown key - did you mean 'epochs'?" in line for line in lines)
    assert any("stages.corse: unknown stage - did you mean 'coarse'?" in line for line in lines)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_val_fraction_outside_0_1_is_refused(tmp_path, fraction):
    assert "data.val_fraction: input should be" in problem(tmp_path, GOOD, [f"data.val_fraction={fraction}"])


def test_missing_tables_are_named(tmp_path):
    message = problem(tmp_path, 'name = "r"\n')
    assert "data: this table is missing" in message
    assert "model: this table is missing" in message


def test_wrong_type_says_what_was_found(tmp_path):
    assert "train.batch_size: input should be a valid integer" in problem(
        tmp_path, GOOD + '[train]\nbatch_size = "many"\n'
    )


def test_syntax_error_names_the_line(tmp_path):
    assert f"{tmp_path}/r.toml:2: not valid TOML" in problem(tmp_path, 'name = "r"\nseed = \n')


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such recipe"):
        load_recipe(tmp_path / "absent.toml")


def test_set_overrides_and_is_parsed_as_toml(tmp_path):
    recipe = load_recipe(
        write(tmp_path),
        ["optimizer.lr=1e-3", "train.batch_size=32", "loss.name=focal", "search.model.width={choices=[1,2]}"],
    )
    assert (recipe.optimizer.lr, recipe.train.batch_size, recipe.loss.name) == (1e-3, 32, "focal")
    assert recipe.search == {"model.width": {"choices": [1, 2]}}


def test_set_problem_points_at_the_flag(tmp_path):
    assert problem(tmp_path, GOOD, ["train.batch_size=0"]).startswith("--set: train.batch_size:")


@pytest.mark.parametrize("text", ["optimizer.lr", "=3"])
def test_set_without_key_and_value_is_refused(text):
    with pytest.raises(UsageError, match="expected key=value"):
        parse_assignment(text)


@pytest.mark.parametrize(
    "path",
    ["/usr/share/images", "~/images", "$HOME/images", "./my.py:load", "../a-b", r"C:\images", r".\a", "\u00e4pfel"],
)
def test_a_path_needs_no_quotes(path):
    assert parse_assignment(f"data.root={path}") == ("data.root", path)


@pytest.mark.parametrize("broken", ["1e-", ".5", "/a path", "[1", "'a"])
def test_set_of_broken_value_is_refused(broken):
    with pytest.raises(UsageError, match="is not a TOML value"):
        parse_assignment(f"optimizer.lr={broken}")


def test_unset_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    text = GOOD.replace('source = "digits"', 'source = "image_folder"\nroot = "$NOWHERE/x"')
    assert ":5: data.root: the environment variable NOWHERE is not set" in problem(tmp_path, text)


def test_paths_start_from_the_recipe_and_expand(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "/data")
    assert expand_path("$SOMEWHERE/a", tmp_path) == "/data/a"
    assert expand_path("a/../b", tmp_path) == str(tmp_path / "b")


def test_accepted_codes_need_a_reason(tmp_path):
    assert "accept: accepted codes need a reason" in problem(tmp_path, GOOD + '[accept]\ncodes = ["LR301"]\n')


@pytest.mark.parametrize("value", ['"standardise"', "{ mean = [0.5] }", "{ mean = [0.5], std = [0.0] }"])
def test_bad_normalisation_is_refused(tmp_path, value):
    assert "data.normalize" in problem(tmp_path, GOOD, [f"data.normalize={value}"])


def test_key_lines_follow_tables_and_quoted_keys(tmp_path):
    path = write(tmp_path, 'name = "r"\n[search]\n"optimizer.lr" = "auto"\n[stages.fine]\nepochs = 3\n')
    lines = key_lines(path)
    assert (lines["search.optimizer.lr"], lines["stages.fine"], lines["stages.fine.epochs"]) == (3, 4, 5)
