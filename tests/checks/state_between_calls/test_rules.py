from tests.checks.asking import built
from tuner.checks.engine import apply_rules


def test_outputs_that_could_not_be_compared_leave_the_check_out_with_a_reason():
    evidence = {"state_between_calls": built("state_between_calls", differ=None)}  # the outputs are not finite
    findings, ran, skipped = apply_rules("check-init", evidence)
    assert not findings and not any(name.startswith("IN160") for name in ran)
    (said,) = [skip.why for skip in skipped if skip.check.startswith("IN160")]
    assert said == "the outputs are not finite"
