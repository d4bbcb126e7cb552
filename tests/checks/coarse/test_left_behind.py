import pytest

from tests.checks.asking import built
from tuner.checks.engine import apply_rules

BEST = {"best_val_accuracy": 0.95, "val_n": 500, "own_accuracy": 0.5}


def found(key, own, best, **more):
    evidence = {**BEST, "left_behind": {key: {"own": own, "best": best}}, **more}
    findings, _, _ = apply_rules("coarse", {"coarse": built("coarse", trials=8, completed=8, **evidence)})
    return {finding.code: finding for finding in findings if finding.code in ("CO407", "CO408", "CO409", "CO410")}


@pytest.mark.parametrize(
    ("code", "cause", "key", "own", "best"),
    [
        ("CO407", "over-regularised", "optimizer.weight_decay", 0.3, 1e-4),
        ("CO407", "over-regularised", "model.dropout", 0.9, 0.2),
        ("CO408", "smoothing-too-strong", "loss.label_smoothing", 0.9, 0.0),
        ("CO409", "loss-mismatch", "loss.margin", 50.0, 1.0),
        ("CO410", "capacity-too-small", "model.width", 2, 64),
    ],
)
def test_the_key_that_was_left_behind_names_the_cause(code, cause, key, own, best):
    (finding,) = found(key, own, best).values()
    assert (finding.code, finding.cause, finding.severity) == (code, cause, "warn")
    assert finding.title.startswith(f"the recipe's {key} = ")


def test_a_difference_within_sampling_is_no_fault():
    assert not found("model.dropout", 0.9, 0.2, own_accuracy=0.82)


def test_a_smaller_model_that_won_is_no_fault():
    assert not found("model.width", 64, 32)


def test_a_key_of_no_known_kind_is_passed_over():
    assert not found("optimizer.momentum", 0.0, 0.9)


def test_without_an_own_configuration_the_rule_says_what_it_misses():
    evidence = {**BEST, "own_accuracy": None, "left_behind": {"model.dropout": {"own": 0.9, "best": 0.1}}}
    _, _, skipped = apply_rules("coarse", {"coarse": built("coarse", trials=8, completed=8, **evidence)})
    assert any("no val accuracy" in entry.why for entry in skipped if entry.check.startswith("CO407"))
