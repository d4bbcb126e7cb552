"""`tuner diagnose --log`: report, exit codes, JSON, and what does not go with it."""

import json
from pathlib import Path

import pytest

from tests.conftest import tuner

LIGHTNING = Path(__file__).parents[1] / "api" / "logs" / "lightning.csv"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_log_is_judged_without_a_recipe_and_kept_under_its_name(folder):
    code, out, _ = tuner("diagnose", "--log", str(LIGHTNING))
    assert code == 0 and "STEP 6" in out and "runs/lightning/diagnose/plots/curves.png" in out
    code, out, _ = tuner("diagnose", "--log", str(LIGHTNING))
    assert code == 0 and "the log is the same" in out
    code, out, _ = tuner("diagnose", "--log", str(LIGHTNING), "--fresh")
    assert code == 0 and "the log is the same" not in out
    code, out, _ = tuner("status")
    assert code == 0 and f"log {LIGHTNING}" in out and "finished" in out
    code, out, _ = tuner("report", "--run-dir", "runs/lightning")
    assert code == 0 and "STEP 6" in out and "tuner test" not in out


def test_a_lost_loss_is_exit_code_1_and_a_finding_in_json(folder):
    (folder / "log.csv").write_text("epoch,loss\n1,2.3\n2,nan\n3,nan\n")
    code, out, _ = tuner("diagnose", "--log", "log.csv", "--json")
    found = json.loads(out)
    assert code == 1 and found["stage"] == "diagnose" and [item["code"] for item in found["findings"]] == ["CU650"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--log", "none.csv"], 3, "none.csv: no such file"),
        (["--log", "text.csv"], 3, "no row has a number in it"),
        (["--log", "other.csv"], 2, r"the log has no column of a loss (it has: epoch, reward)"),
        (["--log", "other.csv", "--workers", "2"], 2, "--log: goes without --workers"),
        (["digits", "--log", "other.csv"], 2, "--log: goes without the recipe 'digits'"),
        ([], 2, "neither a recipe nor a log is given"),
    ],
)
def test_what_cannot_be_judged_says_why(folder, arguments, code, words):
    (folder / "text.csv").write_text("a,b\nc,d\n")
    (folder / "other.csv").write_text("epoch,reward\n1,2\n")
    ended, _, err = tuner("diagnose", *arguments)
    assert ended == code and words in err
