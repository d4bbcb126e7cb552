import math

import pytest

from tuner.core.result import Record, TrialError, TrialResult
from tuner.recipe.model import Recipe
from tuner.stages import Facts, Inputs, check_init

LOG10 = math.log(10)


@pytest.fixture
def recipe():
    return Recipe.model_validate({"name": "r", "seed": 3, "data": {"source": "digits"}, "model": {"name": "mlp"}})


def record(recipe, settings=None, **evidence):
    settings = settings or check_init.Settings()
    (item,) = check_init.plan(recipe, Inputs(), settings, [])
    return Record(item, TrialResult(item.spec.id, None, "completed", evidence={check_init.MEASURE: evidence}))


INITIAL = {
    "num_classes": 10, "log_c": LOG10, "prior_entropy": 2.2, "init_losses": [2.30, 2.32, 2.31], "init_loss": 2.31,
    "init_loss_std": 0.01, "loss_at_uniform": LOG10, "loss_at_prior": 2.2, "output_shape": [10], "kind": "logits",
    "output_std": 0.1, "init_accuracy": 0.1, "doubled_batch_ratio": 1.0, "batch_size": 128,
    "random_in_train_mode": False,
}  # fmt: skip


def judge(recipe, *records):
    return check_init.judge(recipe, Inputs(), check_init.Settings(), records)


def test_plan_is_one_trial_that_trains_nothing(recipe):
    settings = check_init.Settings(seeds=5, examples=64)
    (item,) = check_init.plan(
        recipe, Inputs(facts=Facts(data_hash="d"), planned_epochs={"coarse": 3, "fine": 15}), settings, []
    )
    assert (item.spec.horizon_epochs, item.spec.horizon_steps) == (None, None)
    assert item.spec.measure == {"init_battery": {"seeds": 5, "examples": 64, "horizons": {"coarse": 3, "fine": 15}}}
    assert (item.spec.seed, item.spec.data_hash, item.spec.precision) == (3, "d", "fp32")
    assert check_init.plan(recipe, Inputs(), settings, [record(recipe, settings)]) == []


def test_headline_gives_the_loss_its_spread_and_what_theory_says(recipe):
    result = judge(recipe, record(recipe, initial_loss=INITIAL))
    assert result.headline == "Loss at init 2.310 +- 0.010 over 3 seeds; expected 2.303 (log C 2.303)."
    assert result.verdict == "pass"


def test_metrics_hold_what_the_design_promises(recipe):
    metrics = judge(recipe, record(recipe, initial_loss=INITIAL)).metrics
    wanted = {"init_loss": 2.31, "init_loss_std": 0.01, "expected_loss": LOG10, "log_c": LOG10, "prior_entropy": 2.2}
    assert {key: getattr(metrics, key) for key in wanted} == wanted
    assert metrics.num_classes == 10
    assert metrics.init_losses == [2.30, 2.32, 2.31]


@pytest.mark.parametrize(
    ("step", "calls"),
    [
        ({"calls": 4, "updates": 4}, 1),
        ({"calls": 32, "updates": 4}, 8),
        ({"calls": 29, "updates": 4}, 7),  # one that counts on from another model
        ({"calls": 64, "updates": 0}, None),
        ({"skipped": "LBFGS calls the loss many times within one step"}, None),
    ],
)
def test_calls_for_an_update_are_what_the_probe_has_counted(step, calls):
    assert check_init._calls_per_update(step) == calls


def test_expected_loss_is_the_loss_functions_own_and_not_log_c(recipe):
    focal = INITIAL | {"loss_at_uniform": 1.8651, "loss_at_prior": 1.8, "init_loss": 1.9, "init_losses": [1.9] * 3}
    result = judge(recipe, record(recipe, initial_loss=focal))
    assert result.metrics.expected_loss == 1.8651
    assert result.verdict == "pass"


def test_loss_far_above_uniform_is_a_warning(recipe):
    high = INITIAL | {"init_loss": 46.0, "init_losses": [46.0] * 3}
    result = judge(recipe, record(recipe, initial_loss=high))
    assert result.verdict == "warn"
    assert [finding.cause for finding in result.findings] == ["bad-init-exploding"]


def test_failed_trial_fails_the_stage_with_its_reason(recipe):
    item = record(recipe).item
    failed = Record(item, TrialResult(item.spec.id, None, "failed", error=TrialError("oom", "out of memory: 3 GB")))
    result = judge(recipe, failed)
    assert result.verdict == "fail"
    assert result.headline == "The check did not finish (oom): out of memory: 3 GB"
    assert [entry.check for entry in result.skipped] == ["every other check"]


def test_loss_that_could_not_be_measured_fails_the_stage(recipe):
    result = judge(recipe, record(recipe, initial_loss={"skipped": "RuntimeError: shapes", "raised": True}))
    assert result.verdict == "fail"
    assert "RuntimeError: shapes" in result.headline


def test_head_that_is_too_narrow_fails_the_stage(recipe):
    narrow = {
        "num_classes": 10,
        "log_c": LOG10,
        "prior_entropy": 2.3,
        "output_shape": [5],
        "kind": "logits",
        "too_narrow": True,
    }
    result = judge(recipe, record(recipe, initial_loss=narrow))
    assert result.verdict == "fail"
    assert result.headline == "The model has 5 outputs for 10 classes."


def test_a_check_that_is_not_about_such_a_model_or_such_data_is_not_listed_as_unchecked(recipe):
    why = "there are no images of several channels"
    missing = judge(recipe, record(recipe, initial_loss=INITIAL, image_layout={"skipped": why}))
    beside = judge(recipe, record(recipe, initial_loss=INITIAL, image_layout={"skipped": why, "applies": False}))
    assert [skipped.check for skipped in missing.skipped if skipped.why == why] == ["DA119 channels reshaped"]
    assert not [skipped for skipped in beside.skipped if skipped.why == why]
    assert "DA119 channels reshaped" not in beside.ran


def test_skipped_probe_and_random_train_mode_are_said(recipe):
    loud = INITIAL | {"random_in_train_mode": True}
    result = judge(recipe, record(recipe, initial_loss=loud, weight_decay={"skipped": "Rprop has none"}))
    said = {entry.check: entry.why for entry in result.skipped}
    assert said["IN115 decay not applied"] == "Rprop has none"
    assert list(said.values()).count("Rprop has none") == 1
    assert "random" in said["the loss at init without dropout"]


def test_loss_that_is_not_finite_can_be_written(recipe):
    nan = INITIAL | {"init_loss": float("nan"), "init_losses": [float("nan")] * 3, "init_loss_std": float("nan")}
    result = judge(recipe, record(recipe, initial_loss=nan))
    assert result.verdict == "fail"
    assert result.to_json()["metrics"]["init_loss"] is None


def test_loss_that_was_read_back_as_null_can_be_judged(recipe):
    nulls = INITIAL | {"init_loss": None, "init_losses": [None] * 3, "init_loss_std": None}
    result = judge(recipe, record(recipe, initial_loss=nulls))
    assert result.verdict == "fail"
    assert "not finite" in result.headline
