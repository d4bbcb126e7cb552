"""What a command prints at its end: how to go on."""

from __future__ import annotations

import json

import pytest

from tests.conftest import tuner
from tests.results import result_of
from tuner.cli.output import Reporter
from tuner.core.stage_ref import StageRef
from tuner.recipe.templates import DATA


def test_a_run_that_was_done_before_ends_with_how_to_go_on(finished, command):
    done = command("run", "small.toml")
    assert "diagnose: PASS, done before." in done.out or "diagnose: WARN, done before." in done.out
    assert done.out.rstrip().splitlines()[-1].startswith(" Next:  tuner ")
    assert done.out.count("Next:") == 1


def test_a_long_way_on_is_broken_where_a_shell_takes_it(finished, command):
    folder = finished / ("a" * 60)
    (finished / "runs/small").rename(folder)
    done = command("run", "small.toml", "--run-dir", str(folder))
    end = done.out[done.out.index(" Next:") :]
    assert end.splitlines()[0] == " Next:" and "\\\n" in end and str(folder) in end


@pytest.mark.parametrize("examples, following", [(0, "report"), (40, "test"), (None, "test")])
def test_who_has_no_test_split_is_not_sent_to_the_test(tmp_path, capsys, examples, following):
    folder = tmp_path / "check-init"
    folder.mkdir()
    empty = {"verdict": "pass", "headline": "", "findings": [], "checks": {"ran": [], "skipped": []}, "choice": {}}
    stored = {**empty, "schema": 1, "stage": "check-init", "metrics": {"test_examples": examples}}
    (folder / "result.json").write_text(json.dumps(stored))
    reporter = Reporter("mine.toml", [], as_json=False)
    reporter.show(StageRef("diagnose"), result_of("diagnose", {}), tmp_path, brief=True)
    reporter.finish()
    assert capsys.readouterr().out.rstrip().endswith(f" Next:  tuner {following} mine.toml")
    reporter.after_rounds(None)
    reporter.finish()
    assert capsys.readouterr().out.rstrip().endswith(f" Next:  tuner {following} mine.toml")


@pytest.mark.parametrize("stage", ["overfit", "coarse"])
def test_help_names_no_default_where_there_is_none(command, stage):
    done = command(stage, "--help")
    assert done.code == 0 and "(default:" in done.out and "None" not in done.out


def test_help_of_new_lists_the_sources(command):
    words = " ".join(command("new", "--help").out.split())
    assert f"{', '.join(DATA)} [default: digits]" in words


def test_a_recipe_beside_is_named_with_its_ending(recipe, command):
    done = command("run", "small")
    assert done.code == 2 and "small: no such recipe" in done.err
    assert "A file of this folder is given with its ending: small.toml" in done.err


def test_the_test_ends_with_the_command_that_takes_the_winner_home(finished, command):
    done = command("test", "small.toml")
    last = done.out.rstrip().splitlines()[-1]
    assert last == " Next:  tuner export small.toml --weights winner.safetensors"
    assert command(*last.split()[2:]).code == 0 and (finished / "winner.json").exists()


def test_a_command_that_reads_the_run_repeats_its_folder_alone():
    repeated = ["--set", "seed=1", "--run-dir", "x y", "--seed", "3"]
    assert Reporter("r.toml", repeated, False).look("export") == "tuner export r.toml --run-dir 'x y'"


@pytest.mark.parametrize(
    ("source", "there", "absent", "edit"),
    [
        ("table", "# categorical =", "random_crop", "path and target"),
        ("cifar10", "random_crop", "test_fraction", ""),
        ("image_folder", "test_fraction", "categorical", "root and image_size"),
    ],
)
def test_a_new_recipe_has_the_keys_of_its_source_and_says_what_to_edit(command, tmp_path, source, there, absent, edit):
    done = command("new", "mine", "--source", source)
    text = (tmp_path / "mine.toml").read_text()
    assert there in text and absent not in text
    assert (f"Edit:  {edit}" in done.out) if edit else "Edit:" not in done.out


@pytest.mark.parametrize(("name", "argument"), [("status", "[RECIPE]"), ("diagnose", "[RECIPE]"), ("parts", "[KIND]")])
def test_an_argument_that_may_be_left_out_stands_in_one_pair_of_brackets(name, argument):
    usage = tuner(name, "--help").out.splitlines()[0]
    assert usage.split()[-1] == argument, usage
