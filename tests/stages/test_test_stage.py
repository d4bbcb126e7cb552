import subprocess
import sys

import pytest

from tests.replay import failure, replay
from tests.results import inputs_of as result_inputs
from tests.search.search_cases import recipe_of
from tuner.core.errors import InputError
from tuner.core.result import TrialResult
from tuner.core.statistics import wilson
from tuner.stages import test as stage

WINNER = {"round": 2, "trial": "abc", "checkpoint": "fine-2/checkpoints/abc.pt", "params": {"optimizer.lr": 0.02}}
EVIDENCE = {"accuracy": 0.9, "loss": 0.3, "n": 1000, "confusion": [[480, 20], [80, 420]], "class_names": ["a", "b"]}
EVIDENCE |= {"non_finite": 0, "first_non_finite": None}
SETTINGS = stage.Settings()


def inputs_of(promised=0.91, n=1000, winner=WINNER):
    fine = {"choice": {}, "metrics": {"monitor": "val_accuracy", "expected": {"value": promised}, "val_n": n}}
    return result_inputs({"fine": fine}, extra={"winner": winner})


def evaluate(answer, inputs=None):
    inputs = inputs or inputs_of()
    records = replay(stage, recipe_of(), inputs, SETTINGS, lambda item: answer)
    return stage.judge(recipe_of(), inputs, SETTINGS, records)


def measured(**evidence):
    return TrialResult("", None, "completed", evidence={"test_evaluation": {**EVIDENCE, **evidence}})


def codes(result):
    return [finding.code for finding in result.findings]


def test_it_plans_one_evaluation_of_the_winners_checkpoint():
    (item,) = stage.plan(recipe_of(), inputs_of(), SETTINGS, [])
    assert item.spec.measure == {"test_evaluation": {"checkpoint": "fine-2/checkpoints/abc.pt"}}
    assert item.spec.overrides == {"optimizer.lr": 0.02}
    assert item.spec.horizon_epochs is None and item.spec.horizon_steps is None


def test_it_reports_accuracy_interval_and_classes():
    result = evaluate(measured())
    assert result.metrics.interval == pytest.approx(wilson(0.9, 1000))
    assert result.metrics.per_class == [0.96, 0.84]
    assert (result.metrics.stage_of_checkpoint, result.metrics.confusion) == ("fine-2", EVIDENCE["confusion"])
    assert codes(result) == [] and result.verdict == "pass"
    assert result.headline.startswith("Test accuracy 0.9000, 95 % interval 0.8798 to 0.9171")


@pytest.mark.parametrize(("promised", "expected"), [(0.97, ["TE801"]), (0.91, []), (0.80, ["TE802"]), (0.92, [])])
def test_it_compares_with_what_fine_expects(promised, expected):
    assert codes(evaluate(measured(), inputs_of(promised))) == expected


def test_an_unknown_size_of_val_skips_the_comparison():
    result = evaluate(measured(), inputs_of(n=None))
    assert {entry.check.split()[0] for entry in result.skipped} == {"TE801", "TE802"}


def test_a_small_test_split_is_a_note():
    assert codes(evaluate(measured(n=100, confusion=[[45, 5], [5, 45]]))) == ["TE803"]


def test_a_model_at_the_baseline_fails():
    result = evaluate(measured(accuracy=0.5, n=2000, confusion=[[1000, 0], [1000, 0]]), inputs_of(0.5))
    assert codes(result) == ["TE804"] and result.verdict == "fail"


def test_classes_that_are_weighed_against_accuracy_are_a_note():
    result = evaluate(measured(accuracy=0.89, n=2000, confusion=[[1620, 180], [40, 160]]), inputs_of(0.89))
    finding = next(finding for finding in result.findings if finding.code == "TE807")
    assert (finding.cause, finding.severity) == ("class-imbalance", "note") and result.verdict == "pass"


def test_answers_that_are_not_finite_are_a_warning_that_names_the_first():
    result = evaluate(measured(non_finite=2, first_non_finite="row 6 (line 8)", loss=None))
    assert codes(result) == ["TE806"] and result.verdict == "warn"
    assert result.findings[0].title == "2 of 1000 test examples get no finite answer, first row 6 (line 8)"


def test_a_failed_evaluation_is_an_error_with_its_message():
    result = evaluate(failure("data", "test split: cannot read x.png"))
    assert "TE805" in codes(result) and "cannot read x.png" in result.findings[0].title
    assert result.metrics.accuracy is None


def test_without_a_winner_it_says_so():
    with pytest.raises(InputError, match=r"winner\.json names no checkpoint"):
        stage.plan(recipe_of(), inputs_of(winner=None), SETTINGS, [])


def test_no_stage_or_rule_loads_torch():
    code = (
        "import sys; from tuner import stages; from tuner.checks.engine import all_rules; "
        "from tuner.search import samplers, narrow, band, scores, knobs; "
        "[stages.load(name) for name in stages.NAMES]; all_rules(); "
        "heavy = {'torch', 'numpy', 'scipy', 'optuna', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
