"""Evidence for tests of rules, and asking a rule with it as the engine does."""

from dataclasses import fields

from tuner.checks.cards import RULES
from tuner.checks.engine import apply_rules, given
from tuner.checks.evidence import evidence_class, read_all


def built(measurement, **values):
    """Return the evidence of a measurement; a value that its class has no field for is an error."""
    kind = evidence_class(measurement)
    unknown = set(values) - {field.name for field in fields(kind)}
    assert not unknown, f"{kind.__name__} has no {', '.join(sorted(unknown))}"
    return kind.from_json(values)


def ask(check, *evidence):
    """Return what a rule finds in this evidence; it raises Missing where the rule needs more."""
    card = next(card for card in RULES.values() if card.check is check)
    return check(**given(card, {item.measurement(): item for item in evidence}))


def judged(stage, evidence, accepted=()):
    """Return what the rules of a stage find in evidence, given as it is or as JSON, and what ran and was skipped."""
    return apply_rules(stage, {"trials": built("trials"), **read_all(evidence)}, accepted)
