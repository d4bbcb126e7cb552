"""Commands that are printed to be typed next work as they are printed."""

import io
import shlex
import sys
from types import SimpleNamespace

import pytest

from tests.conftest import tuner
from tests.results import result_of
from tuner.cli.app import _shower
from tuner.cli.exit_codes import exit_codes
from tuner.cli.output import Reporter
from tuner.cli.safe_pipes import make_unbreakable
from tuner.core.stage_ref import StageRef
from tuner.core.store import StageDir
from tuner.workflow.stage_run import Outcome


def test_the_way_to_a_missing_input_is_quoted_and_keeps_overrides_folder_and_device(recipe, tmp_path):
    folder = tmp_path / "my recipes"
    folder.mkdir()
    recipe.rename(folder / "a b.toml")
    given = ["--set", "model.width=8", "--run-dir", "my runs/a", "--device", "cpu"]
    done = tuner("overfit", "my recipes/a b.toml", *given, cwd=tmp_path)
    hint = done.err.partition("hint: Run it first: ")[2].strip()
    assert done.code == 3 and shlex.split(hint) == ["tuner", "check-init", "my recipes/a b.toml", *given]


def test_the_way_out_of_a_stale_input_is_about_the_same_run(finished, command):
    (finished / "runs/small").rename(finished / "elsewhere")
    done = command("coarse", "small.toml", "--set", "model.width=16", "--run-dir", "elsewhere")
    way = "tuner run small.toml --through lr-sweep --set model.width=16 --run-dir elsewhere"
    assert done.code == 3 and f"Run it again: {way} (or" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["coarse", "a b.toml"], "The same command goes on from here: tuner coarse 'a b.toml'"),
        (
            ["coarse", "r.toml", "--fresh"],
            "Without --fresh, which starts over, the same command goes on from here: tuner coarse r.toml\n",
        ),
    ],
)
def test_the_command_that_goes_on_after_an_interruption_does_not_start_over(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["tuner", *arguments])
    monkeypatch.setattr("tuner.cli.exit_codes.listen", lambda: None)
    with pytest.raises(SystemExit) as end, exit_codes(False, False, []):
        raise KeyboardInterrupt
    assert end.value.code == 130 and words in capsys.readouterr().err


def test_a_run_under_another_name_is_looked_at_where_it_is():
    reporter = Reporter("r.toml", ["--set", "name=other", "--set", "seed=1"], as_json=False)
    assert reporter.look("export") == "tuner export r.toml --run-dir runs/other"
    assert reporter.command("test") == "tuner test r.toml --set name=other --set seed=1"


def test_a_report_with_overrides_repeats_them(finished, command):
    done = command("report", "small.toml", "--set", "optimizer.lr=0.1")
    assert done.code == 0 and "Next:  tuner overfit small.toml --set optimizer.lr=0.1\n" in done.out


def test_a_report_of_a_folder_names_it_in_the_next_command(finished, command):
    (finished / "runs/small").rename(finished / "runs/other")
    done = command("report")
    assert done.code == 0 and "Next:  tuner overfit small.toml --run-dir runs/other\n" in done.out


def test_a_stale_result_that_stood_there_says_so_within_a_run_as_well(tmp_path, capsys):
    stood = Outcome(StageRef("test"), result_of("test", {}), StageDir(tmp_path), ran=False, stale=("fine: a -> b",))
    workflow = SimpleNamespace(run=SimpleNamespace(path=tmp_path))
    _shower(Reporter("r.toml", [], as_json=False), workflow)(stood)
    out = capsys.readouterr().out
    assert out.index("This result is stale: fine: a -> b") < out.index("test: PASS, done before.")


def test_a_path_is_not_broken_at_its_dashes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    Reporter("r.toml", [], as_json=False).say("Plots: runs/a-long-name-of-a-run-x/plots")
    assert "runs/a-long-name-of-a-run-x/plots" in capsys.readouterr().out


def test_what_the_encoding_of_stdout_has_no_character_for_ends_no_command(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    make_unbreakable()
    print("class \u732b \u2581\u2588")
    sys.stdout.flush()
    assert written.getvalue() == b"class ? ??\n"


def test_a_result_that_is_shown_names_the_device_again(capsys, tmp_path):
    reporter = Reporter("r.toml", ["--device", "cpu"], as_json=False)
    reporter.show(StageRef("overfit"), result_of("overfit", {}), tmp_path)
    assert "Next:  tuner lr-sweep r.toml --device cpu" in capsys.readouterr().out
