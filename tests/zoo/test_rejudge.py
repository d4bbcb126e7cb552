"""The stored evidence: what the rules say of it now is what they said, and it is of the cases as they are."""

import subprocess
import sys

import pytest

from tests.zoo.case import HERE
from tests.zoo.evidence import case_of, stored
from tests.zoo.rejudge import judged_again, rates_text
from tests.zoo.remeasure import measured_again

RUNS = stored()


def test_there_is_evidence_of_bugs_and_of_look_alikes():
    assert len(RUNS) > 30
    assert {run["about"]["healthy"] for run in RUNS} == {True, False}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["case"])
def test_every_step_of_a_stored_run_can_be_judged_again(run):
    again = judged_again(run)
    assert [step["step"] for step in again["steps"]] == [step["step"] for step in run["steps"]][: len(again["steps"])]
    assert case_of(run).healthy == run["about"]["healthy"]


def test_a_step_that_fails_now_ends_the_run():
    run = next(run for run in RUNS if len(run["steps"]) == 6)
    first = run["steps"][0]
    broken = {**first["evidence"], "trials": {"failures": [{"kind": "crash", "message": "gone"}]}}
    again = judged_again({**run, "steps": [{**first, "evidence": broken}, *run["steps"][1:]]})
    assert [step["step"] for step in again["steps"]] == ["check-init"]
    assert again["steps"][0]["verdict"] == "fail"


def test_rates_are_written_as_the_formatter_writes():
    text = rates_text(RUNS[::6])
    command = [sys.executable, "-m", "ruff", "format", "--config", str(HERE.parent.parent / "pyproject.toml"), "-"]
    assert subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout == text


def test_a_measurement_that_is_made_again_is_what_it_was_and_the_others_are_left(tmp_path):
    run = next(run for run in RUNS if run["case"] == "plain_digits_mlp")
    before = run["steps"][0]["evidence"]
    spoilt = {**run["steps"][0], "evidence": {**before, "labels_shifted": None, "linearity": None}}
    again = measured_again({**run, "steps": [spoilt, *run["steps"][1:]]}, ["labels_shifted"], tmp_path / "work")
    seen = again["steps"][0]["evidence"]
    assert seen["labels_shifted"] == pytest.approx(before["labels_shifted"])
    assert seen == {**before, "linearity": None, "labels_shifted": seen["labels_shifted"]}
    assert again["steps"][1:] == run["steps"][1:]


def test_a_refused_program_has_nothing_to_measure(tmp_path):
    run = next(run for run in RUNS if not run["steps"][0].get("evidence"))
    assert measured_again(run, ["labels_shifted"], tmp_path) == run


def test_judging_loads_no_torch():
    code = "import sys; from tests.zoo.evidence import stored; from tests.zoo.rejudge import judged_again"
    code += "; [judged_again(run) for run in stored()[::6]]"
    code += "; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent.parent, capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stderr
