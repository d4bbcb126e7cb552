"""The rules of overfit: each names what stopped the fit, and none speaks where the fit succeeded."""

import pytest

from tests.checks.asking import built
from tuner.checks.engine import apply_rules

FITTED = {
    "status": "floor", "lr": 0.01, "steps": 60, "examples": 32, "classes": 10, "distinct_inputs": 32,
    "initial_loss": 2.31, "first_loss": 2.31,
    "final_loss": 0.04, "final_accuracy": 1.0, "train_mode_loss": 0.04, "eval_loss": 0.05, "eval_accuracy": 1.0,
    "kind": "logits", "loss_floor": 0.0, "own_floor": 0.0, "unbounded": False, "loss_at_uniform": 2.3026,
    "constant_floor": 2.3, "label_entropy": 2.3, "span": 2.3026, "target": 0.046,
    "squashed_floors": {"probabilities": 1.4612, "unit": 1.4612, "signed": 0.7966},
    "random_in_train_mode": False, "moved": True, "cut_off": None, "outputs_low": -8.0,
    "outputs_high": 9.0, "outputs_vary": 9.0,
    "loss_zeroed": 3.0, "loss_rolled": 8.0, "norm_layers": 0, "smallest_momentum": None, "recalibrated_loss": 0.05,
    "recalibrated_accuracy": 1.0, "own_statistics_loss": 0.05, "own_statistics_accuracy": 1.0, "lowest_loss": 0.04,
    "last_objective": 0.04,
}  # fmt: skip

STUCK = {"status": "plateau", "final_loss": 1.0, "final_accuracy": 0.6, "eval_loss": 1.0, "train_mode_loss": 1.0,
         "last_objective": 1.0}  # fmt: skip
WARNED = {"code": "IN121", "cause": "dead-units", "severity": "warn", "title": "60 % of layer 2 is dead",
          "remedy": "x", "confidence": 0.9, "accepted": False}  # fmt: skip
SOFTMAX = {"final_loss": 1.47, "final_accuracy": 1.0, "outputs_low": 0.0, "outputs_high": 1.0}
BLIND = {"final_loss": 2.3, "final_accuracy": 0.12, "outputs_vary": 0.0}
DIVERGED = {"status": "diverged", "final_loss": None, "final_accuracy": None}


def evidence(*changes, **best):
    attempt = FITTED | {key: value for change in changes for key, value in change.items()} | best
    return {"failures": [], "best": attempt, "attempts": [attempt]}


def judged(facts):
    """Return the findings, what ran and what was skipped, of attempts, failures and what step 1 found."""
    attempts = built("attempts", **{key: facts[key] for key in ("best", "attempts", "clip_norm") if key in facts})
    trials, earlier = built("trials", failures=facts["failures"]), built("earlier", findings=facts.get("earlier", []))
    return apply_rules("overfit", {item.measurement(): item for item in (attempts, trials, earlier)})


def found(facts):
    return {finding.code: finding for finding in judged(facts)[0]}


def test_fitted_subset_gives_no_finding_and_skips_no_rule():
    findings, ran, skipped = judged(evidence())
    assert not findings
    assert not skipped
    assert len(ran) == 17


FIRES = [
    ("OV216", "error", evidence(STUCK, unbounded=True, target=None, final_loss=-1e6, final_accuracy=0.0)),
    ("OV217", "warn", evidence(reference=True) | {"attempts": [FITTED | STUCK], "clip_norm": 1e-4}),
    ("OV218", "error", evidence(STUCK, distinct_inputs=1)),
    ("OV200", "error", {"failures": [{"kind": "oom", "message": "out of memory"}]}),
    ("OV201", "error", evidence(STUCK, SOFTMAX)),
    ("OV201", "error", evidence(STUCK, SOFTMAX, kind="probabilities", final_loss=1.9, final_accuracy=0.8)),
    ("OV201", "error", evidence(STUCK, final_loss=0.8, final_accuracy=1.0, outputs_low=-1.0, outputs_high=1.0)),
    ("OV202", "error", evidence(STUCK, BLIND)),
    ("OV203", "error", evidence(STUCK, final_loss=2.31, moved=False)),
    ("OV204", "error", evidence(DIVERGED)),
    ("OV205", "error", evidence(STUCK)),
    ("OV206", "warn", evidence(STUCK, status="steps", final_accuracy=1.0, final_loss=0.1)),
    ("OV207", "warn", evidence(recalibrated_loss=5.0, recalibrated_accuracy=0.2, norm_layers=3)),
    ("OV208", "error", evidence(STUCK, final_loss=0.03, final_accuracy=0.1)),
    ("OV209", "error", evidence(STUCK, unbounded=True, target=None, loss_floor=None, final_loss=-1e6)),
    ("OV210", "warn", evidence(reference=True) | {"attempts": [FITTED | STUCK, FITTED | {"reference": True}]}),
    ("OV210", "error", evidence(reference=True) | {"attempts": [FITTED | STUCK | {"final_loss": 2.29}]}),
    ("OV212", "error", evidence(STUCK) | {"earlier": [WARNED]}),
    ("OV212", "error", evidence(STUCK, BLIND, status="floor", final_loss=0.1) | {"earlier": [WARNED], "attempts": [
        FITTED | DIVERGED], "best": FITTED | DIVERGED}),
    ("OV214", "error", evidence(STUCK, last_objective=5.0)),
    ("OV214", "error", evidence(STUCK, initial_loss=3.47)),
    ("OV214", "error", evidence(STUCK, random_in_train_mode=True)),
    ("OV215", "error", evidence(STUCK, cut_off=0.5, outputs_low=0.0)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "severity", "given"), FIRES, ids=[f"{c}-{i}" for i, (c, _, _) in enumerate(FIRES)])
def test_rule_fires_and_is_the_only_one_that_names_a_cause(code, severity, given):
    findings = found(given)
    assert findings[code].severity == severity
    assert findings[code].title and findings[code].remedy and findings[code].evidence
    assert set(findings) - {"OV205", "OV204"} == {code} - {"OV205", "OV204"}


def test_every_rule_of_overfit_has_a_case_that_fires():
    _, ran, _ = judged(evidence())
    assert {code for code, _, _ in FIRES} == {name.split()[0] for name in ran}


@pytest.mark.parametrize(
    "given",
    [
        evidence(loss_floor=0.5003, target=0.536, final_loss=0.53),
        evidence(SOFTMAX, status="floor", loss_floor=1.44, target=1.48),
        evidence(norm_layers=3, eval_loss=4.0, eval_accuracy=0.2),
        evidence(final_loss=0.0459, random_in_train_mode=True),
        evidence(recalibrated_loss=0.046 + 0.1 * 2.3026, recalibrated_accuracy=0.95),
        evidence(final_accuracy=None, eval_accuracy=None, recalibrated_accuracy=None, own_statistics_accuracy=None),
    ],
    ids=["smoothing", "a floor that is high", "stale statistics", "functional dropout", "border", "no accuracy"],
)
def test_rules_stay_silent_where_the_subset_is_fitted(given):
    assert not found(given)


def test_other_levels_and_free_outputs_are_no_double_softmax():
    assert set(found(evidence(STUCK, SOFTMAX, final_loss=1.2, final_accuracy=1.0))) == {"OV205"}
    assert set(found(evidence(STUCK, SOFTMAX, outputs_high=4.0))) == {"OV205"}
    assert set(found(evidence(STUCK, SOFTMAX, final_accuracy=0.5))) == {"OV205"}


@pytest.mark.parametrize(
    "given",
    [
        {"cut_off": 0.49},
        {"cut_off": None},
        {"outputs_low": -1e-6},
        {"kind": "unit", "outputs_high": 0.9999},
    ],
    ids=["most are not cut", "not known", "an output below 0", "a sigmoid, which gives 0 as well"],
)
def test_what_is_no_rectifier_at_the_end(given):
    assert "OV215" not in found(evidence(STUCK, {"cut_off": 1.0, "outputs_low": 0.0}, given))


def test_outputs_that_are_all_cut_ignore_the_input():
    given = evidence(STUCK, BLIND, cut_off=1.0, outputs_low=0.0, outputs_high=0.0)
    assert set(found(given)) == {"OV202"}


def test_divergence_at_some_rates_only_is_no_finding_of_its_own():
    given = evidence()
    given["attempts"] = [*given["attempts"], FITTED | DIVERGED]
    assert not found(given)


def test_modes_that_disagree_name_batch_norm_only_where_its_statistics_explain_it():
    norm = found(evidence(recalibrated_loss=5.0, recalibrated_accuracy=0.2, norm_layers=3))["OV207"]
    other = found(
        evidence(recalibrated_loss=5.0, recalibrated_accuracy=0.2, own_statistics_accuracy=0.2, norm_layers=3)
    )
    assert "running statistics" in norm.title
    assert "depends on the mode" in other["OV207"].title


def test_rules_say_what_they_miss_without_an_attempt():
    findings, ran, skipped = judged({"failures": []})
    assert [finding.code for finding in findings] == ["OV200"]
    assert len(ran) == 1
    assert {entry.why for entry in skipped} == {"no attempt finished"}
    assert len(skipped) == 16


def ranked_causes(given):
    return [finding.cause for finding in judged(given)[0]]


def test_what_step_1_has_measured_comes_first():
    assert ranked_causes(evidence(STUCK) | {"earlier": [WARNED]}) == ["known-from-step-1", "capacity-too-small"]
    assert ranked_causes(evidence(STUCK, BLIND) | {"earlier": [WARNED]}) == ["known-from-step-1", "input-ignored"]


@pytest.mark.parametrize("change", [{"severity": "note"}, {"accepted": True}, {"cause": "too-little-data"}])
def test_what_step_1_has_found_is_no_reason_where_it_is_none(change):
    assert ranked_causes(evidence(STUCK) | {"earlier": [WARNED | change]}) == ["capacity-too-small"]


def test_what_step_1_has_found_is_silent_where_the_subset_is_fitted():
    assert ranked_causes(evidence() | {"earlier": [WARNED]}) == []


def test_one_input_for_all_labels_is_constant_input():
    assert ranked_causes(evidence(STUCK, distinct_inputs=1)) == ["constant-input"]


def test_clipping_is_named_where_only_adam_fits_through_it():
    given = evidence(reference=True) | {"attempts": [FITTED | STUCK, FITTED | {"reference": True}]}
    given["clip_norm"] = 1e-4
    assert ranked_causes(given) == ["gradient-clipped-away"]


@pytest.mark.parametrize(("accuracy", "cause"), [(0.0, "sign-flipped-loss"), (0.5, "loss-mismatch")])
def test_a_loss_without_a_floor_is_sign_flipped_where_no_answer_is_right(accuracy, cause):
    given = evidence(STUCK, unbounded=True, target=None, loss_floor=None, final_loss=-1e6, final_accuracy=accuracy)
    assert ranked_causes(given)[0] == cause


def test_a_small_penalty_is_not_what_holds_a_model_back():
    assert ranked_causes(evidence(STUCK, last_objective=2.1, initial_loss=3.46)) == ["capacity-too-small"]
