import pytest

from tests.results import inputs_of as result_inputs
from tuner.core.result import Record, TrialError, TrialResult
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, overfit


def recipe_with(**optimizer):
    tables = {"data": {"source": "digits"}, "model": {"name": "mlp"}, "optimizer": optimizer}
    return Recipe.model_validate({"name": "r", "seed": 0, **tables})


@pytest.fixture
def recipe():
    return recipe_with(name="sgd", lr=0.05)


ANSWER = {
    "status": "plateau", "steps": 400, "examples": 32, "classes": 10, "distinct_inputs": 32, "initial_loss": 2.31,
    "final_loss": 1.0, "final_accuracy": 0.6, "train_mode_loss": 1.0, "eval_loss": 1.0, "eval_accuracy": 0.6,
    "kind": "logits", "loss_floor": 0.0, "own_floor": 0.0, "unbounded": False, "loss_at_uniform": 2.3026,
    "constant_floor": 2.3, "label_entropy": 2.3, "span": 2.3026, "target": 0.046,
    "squashed_floors": {"probabilities": 1.4612, "unit": 1.4612, "signed": 0.7966}, "random_in_train_mode": False,
    "moved": True, "outputs_low": -8.0, "outputs_high": 9.0, "outputs_vary": 9.0, "loss_zeroed": 3.0,
    "loss_rolled": 8.0,
    "norm_layers": 0, "smallest_momentum": None, "recalibrated_loss": 0.05, "recalibrated_accuracy": 1.0,
    "own_statistics_loss": 0.05, "own_statistics_accuracy": 1.0, "lowest_loss": 1.0,
}  # fmt: skip
FLOOR = {"status": "floor", "final_loss": 0.04, "final_accuracy": 1.0, "steps": 60}
DIVERGED = {"status": "diverged", "final_loss": None, "final_accuracy": None, "steps": 3}


def play(recipe, *answers, settings=None):
    """Answer every work item that is planned with the next script; return the records and what is planned after."""
    settings, records = settings or overfit.Settings(), []
    for answer in answers:
        (item,) = overfit.plan(recipe, Inputs(), settings, records)
        evidence = {overfit.MEASURE: ANSWER | {"lr": item.spec.overrides["optimizer.lr"]} | answer}
        records.append(Record(item, TrialResult(item.spec.id, None, "completed", evidence=evidence)))
    return records, overfit.plan(recipe, Inputs(), settings, records)


def rates(records):
    return [record.params["optimizer.lr"] for record in records]


def test_first_rate_is_the_recipes_and_a_floor_ends_the_stage(recipe):
    records, rest = play(recipe, FLOOR)
    assert rates(records) == [0.05]
    assert rest == []


def test_rates_go_on_by_decades_until_one_fits(recipe):
    records, rest = play(recipe, DIVERGED, {}, FLOOR)
    assert rates(records) == [0.05, 0.01, 0.1]
    assert [record.number for record in records] == [0, 1, 2]
    assert rest == []


def test_rates_of_adam_are_smaller_and_the_recipes_is_not_tried_twice():
    records, _ = play(recipe_with(name="adam", lr=0.001), {}, {}, {}, {})
    assert rates(records) == [0.001, 0.01, 0.0001, 0.1]


def test_best_rate_gets_five_times_the_steps_when_none_fits(recipe):
    answers = [{}, {"final_loss": 0.5}, DIVERGED, {}, DIVERGED, {}]
    _, (last,) = play(recipe, *answers)
    assert last.spec.overrides == {"optimizer.lr": 0.01}
    measure = last.spec.measure["overfit"]
    assert (measure["max_steps"], measure["give_up_early"]) == (2000, False)


def test_adam_is_the_last_attempt(recipe):
    records, rest = play(recipe, *[{}] * 8)
    assert records[-1].item.spec.measure["overfit"]["reference"]
    assert rates(records)[-1] == 1e-3
    assert rest == []


def test_patience_is_not_wasted_on_outputs_that_do_not_vary(recipe):
    records, rest = play(recipe, *[{"outputs_vary": 0.0}] * 7)
    assert records[-1].item.spec.measure["overfit"]["reference"]
    assert rest == []


def test_judge_says_that_only_adam_fits(recipe):
    records, rest = play(recipe, *[{}] * 7, FLOOR | {"reference": True})
    assert rest == []
    result = overfit.judge(recipe, Inputs(), overfit.Settings(), records)
    assert result.verdict == "warn"
    assert [finding.cause for finding in result.findings] == ["optimizer-unsuited"]
    assert "with Adam, not with the recipe's optimizer" in result.headline


@pytest.mark.parametrize("answer", [DIVERGED, {"moved": False}, {"target": None}, {"own_floor": 1.4612}])
def test_more_steps_are_not_tried_where_they_cannot_help(recipe, answer):
    _, rest = play(recipe, *[answer] * 6)
    assert rest == []


def test_settings_choose_the_rates(recipe):
    records, _ = play(recipe, {}, FLOOR, settings=overfit.Settings(rates=(0.5, 0.25)))
    assert rates(records) == [0.5, 0.25]


def test_settings_take_rates_as_text_and_refuse_nonsense():
    assert overfit.Settings(rates="0.1, 0.01").rates == (0.1, 0.01)
    with pytest.raises(ValueError, match="greater than 0"):
        overfit.Settings(rates=(0.1, 0))


def test_another_rate_does_not_mend_the_users_code(recipe):
    (item,) = overfit.plan(recipe, Inputs(), overfit.Settings(), [])
    error = TrialError("user-code", "my_model.py:3: NameError: x")
    records = [Record(item, TrialResult(item.spec.id, None, "failed", error=error))]
    assert overfit.plan(recipe, Inputs(), overfit.Settings(), records) == []
    result = overfit.judge(recipe, Inputs(), overfit.Settings(), records)
    assert result.verdict == "fail"
    assert result.headline == "No attempt finished (user-code): my_model.py:3: NameError: x"


def test_judge_passes_with_the_numbers_when_a_rate_fits(recipe):
    records, _ = play(recipe, DIVERGED, FLOOR)
    result = overfit.judge(recipe, Inputs(), overfit.Settings(), records)
    assert result.verdict == "pass"
    assert result.headline == "Fits 32 examples: loss 0.040 (floor 0), accuracy 100%, in 60 steps at lr 0.01."
    wanted = {"final_loss": 0.04, "loss_floor": 0.0, "final_accuracy": 1.0, "steps": 60, "lr": 0.01}
    assert {key: getattr(result.metrics, key) for key in wanted} == wanted
    assert (result.metrics.eval_loss, result.metrics.eval_loss_at_once) == (0.05, 1.0)
    assert result.metrics.trial == records[1].result.id
    assert [(tried.lr, tried.status) for tried in result.metrics.rates] == [(0.01, "floor"), (0.05, "diverged")]


def test_judge_names_the_softmax_when_the_loss_is_stuck_at_its_floor(recipe):
    stuck = {"final_loss": 1.47, "final_accuracy": 1.0, "outputs_low": 0.0, "outputs_high": 1.0}
    records, _ = play(recipe, *[stuck] * 6)
    result = overfit.judge(recipe, Inputs(), overfit.Settings(), records)
    assert result.verdict == "fail"
    assert [finding.cause for finding in result.findings] == ["double-softmax"]


def test_judge_fails_when_every_rate_diverges(recipe):
    records, _ = play(recipe, *[DIVERGED] * 6)
    result = overfit.judge(recipe, Inputs(), overfit.Settings(), records)
    assert result.verdict == "fail"
    assert [finding.cause for finding in result.findings] == ["unstable"]
    assert result.headline == "The loss is not finite at any of 6 rates, on 32 examples."


def test_judge_says_that_functional_dropout_stayed_on(recipe):
    records, _ = play(recipe, FLOOR | {"random_in_train_mode": True})
    result = overfit.judge(recipe, Inputs(), overfit.Settings(), records)
    assert [entry.check for entry in result.skipped] == ["dropout off"]


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (None, "in 60 steps at lr 0.05."),
        (1, "in 60 steps at lr 0.05."),
        (4, "in 60 steps (15 updates) at lr 0.05."),
    ],
)
def test_the_updates_of_a_step_that_accumulates_are_said(recipe, calls, said):
    records, _ = play(recipe, FLOOR)
    inputs = result_inputs({"check-init": {"metrics": {"calls_per_update": calls}, "findings": []}})
    assert overfit.judge(recipe, inputs, overfit.Settings(), records).headline.endswith(said)
