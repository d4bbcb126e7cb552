"""The rules over confirming runs: the answer that helps is the cause; no answer, no cause."""

import pytest

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.confirming import rules as confirmed

CHECKS = {
    confirmed.rate_too_low: "rate x 10",
    confirmed.rate_too_high: "rate / 10, from scratch",
    confirmed.over_regularised: "regularisation off",
    confirmed.smoothing_too_strong: "regularisation off",
    confirmed.augmentation_harms: "regularisation off",
    confirmed.capacity_too_small: "width x 2, from scratch",
    confirmed.gradients_clipped_away: "clipping off",
    confirmed.precision_too_short: "fp32",
}
OFF = {
    confirmed.over_regularised: {"optimizer.weight_decay": 0.0},
    confirmed.smoothing_too_strong: {"loss.label_smoothing": 0.0},
    confirmed.augmentation_harms: {"data.augment": []},
}


def answer(check, **changes):
    found = {"arm": CHECKS[check], "changes": OFF.get(check, {}), "fresh": False, "runs": 2, "accuracy": 0.9,
             "control": 0.7, "gain": 0.2, "noise": 0.01, "helps": True}  # fmt: skip
    return found | changes


def evidence(check, **changes):
    arms = {"control": answer(check, accuracy=0.7, gain=None, helps=False), CHECKS[check]: answer(check, **changes)}
    return {"confirmed": arms, "dropout_in_recipe": True, "val_accuracy": 0.72}


def asked(check, facts):
    runs, why = facts.get("confirmed"), facts.get("unconfirmed")
    confirming = built("confirming", runs=runs, why=why, dropout_in_recipe=facts.get("dropout_in_recipe", False))
    return ask(check, built("curves", epochs=15, val_accuracy=facts.get("val_accuracy")), confirming)


@pytest.mark.parametrize("check", CHECKS)
def test_what_helps_is_the_cause(check):
    finding = asked(check, evidence(check))
    assert finding.severity == "warn" and finding.evidence["gain"] == 0.2
    assert finding.title.endswith("accuracy 0.900 against 0.700 of the same run without it")


@pytest.mark.parametrize("check", CHECKS)
def test_what_does_not_help_or_was_not_asked_is_none(check):
    assert asked(check, evidence(check, helps=False)) is None
    assert asked(check, {"confirmed": {}}) is None


@pytest.mark.parametrize("check", CHECKS)
def test_runs_that_were_not_possible_are_missing_with_the_reason(check):
    with pytest.raises(Missing, match="switched off"):
        asked(check, {"unconfirmed": "confirming runs are switched off"})
    with pytest.raises(Missing, match="gave no accuracy"):
        asked(check, evidence(check, accuracy=None, helps=False, gain=None))


def test_the_largest_gain_explains_the_others():
    both = evidence(confirmed.rate_too_low)
    both["confirmed"]["clipping off"] = answer(
        confirmed.gradients_clipped_away, arm="clipping off", gain=0.1, accuracy=0.8
    )
    assert asked(confirmed.rate_too_low, both).explained_by is None
    assert asked(confirmed.gradients_clipped_away, both).explained_by == "CU614"


@pytest.mark.parametrize(("gain", "fires"), [(0.05, True), (0.049, False)])
def test_augmentation_must_cost_five_points(gain, fires):
    # ending a training without augmentation gains a little with any augmentation
    check = confirmed.augmentation_harms
    assert (asked(check, evidence(check, gain=gain)) is not None) == fires


@pytest.mark.parametrize(
    ("check", "key"),
    [(confirmed.smoothing_too_strong, "loss.label_smoothing"), (confirmed.augmentation_harms, "data.augment")],
)
def test_several_regularisers_are_blamed_by_their_own_runs(check, key):
    given = evidence(check)
    arms = given["confirmed"]
    arms["regularisation off"]["changes"] = {key: 0.0, "optimizer.weight_decay": 0.0}
    arms[f"{key} off"] = answer(check, gain=0.02, helps=False)
    arms["optimizer.weight_decay off"] = answer(check)
    assert asked(check, given) is None
    assert asked(confirmed.over_regularised, given).title.startswith("without optimizer.weight_decay it")


@pytest.mark.parametrize(("gain", "severity"), [(0.1, "warn"), (0.09, "note")])
def test_a_wider_model_must_gain_ten_points_to_be_more_than_advice(gain, severity):
    assert asked(confirmed.capacity_too_small, evidence(confirmed.capacity_too_small, gain=gain)).severity == severity


def test_short_runs_far_from_the_winner_say_nothing_about_width():
    given = evidence(confirmed.capacity_too_small, control=0.5) | {"val_accuracy": 0.72}
    with pytest.raises(Missing, match="far from what the winner reached"):
        asked(confirmed.capacity_too_small, given)
