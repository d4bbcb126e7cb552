"""Rules over what a recipe adds to the loss (check-init): IN192, IN193."""

from __future__ import annotations

from tuner.checks.cards import found, need, number, rule
from tuner.checks.limits import Limit
from tuner.checks.loss_terms.evidence import LossTerms, Term
from tuner.core.result import Finding

OUTWEIGHS = Limit(
    "outweighs", 10.0, "times the loss's gradient", "derived: an update is the loss's own by less than a tenth"
)
PULLED = Limit(
    "pulled", 0.5, "of the weights", "derived: a weight that is pulled harder to 0 than away from it ends there"
)
ENOUGH_ASKED = Limit("enough asked", 3, "examples", "derived: of one the order may keep its place")


@rule(
    "IN192",
    "over-regularised",
    "check-init",
    meaning="A term beside the loss weighs more than the loss.",
    detected="The gradients over the weights, on one batch of the untrained model: after an update by the loss alone a "
    f"term's is {OUTWEIGHS:g} times as long as the loss's ever was, or more. Or a term of the weights alone pulls "
    f"{PULLED:.0%} of them harder than the loss does.",
    why="The weights go where the term sends them: features collapse, weights vanish, or the model stays where it was, "
    "and the labels are hardly heard.",
    fix="Give the term a smaller factor: its gradient is to be of the size of the loss's at most.",
    confused_with="A term that is large before the first updates only.",
    source="derived: the update is along the sum of the gradients; a weight stays 0 where its loss pulls less than the "
    "L1 term (Tibshirani 1996, the condition of optimality)",
)
def a_term_outweighs_the_loss(seen: LossTerms) -> Finding | None:
    own = max(number(item) or 0.0 for item in seen.gradients)
    if own <= 0:
        return None
    for term in seen.terms:
        ratio = (number(term.gradients[-1]) or 0.0) / own
        if ratio >= OUTWEIGHS:
            title = f"the gradient of {term.name} is {ratio:.3g} times the loss's, its value {term.value:.3g}"
            title += f" beside {need(seen.value, 'the loss has no value'):.3g}"
            return found("IN192", "warn", title, evidence={**seen.to_json(), "ratio": ratio})
        if (pulled := number(term.pulled) or 0.0) >= PULLED:
            title = f"{term.name} pulls {pulled:.0%} of the weights harder than the loss does"
            return found("IN192", "warn", title, evidence={**seen.to_json(), "ratio": ratio})
    return None


@rule(
    "IN193",
    "misaligned-labels",
    "check-init",
    meaning="A term beside the loss wants of an example what belongs to another.",
    detected="Single inputs of a batch are exchanged, with the outputs kept as they are: what the term wants of these "
    "examples stays, what it wants of others changes.",
    why="A teacher's answers are labels: those of other examples teach what wrong labels teach.",
    fix="Give the teacher the inputs that the outputs are of, in the same order (and the same augmentation).",
    confused_with="A term that holds pairs of examples together: it changes for both of them.",
    source="derived: an intervention; Beyer et al. 2022, Knowledge distillation: a good teacher is patient and "
    "consistent (the teacher must see what the student sees)",
)
def a_term_speaks_of_other_examples(seen: LossTerms) -> Finding | None:
    for term in seen.terms:
        if _is_elsewhere(term):
            title = f"{term.name} wants of an example what follows from another one's input: {term.elsewhere} of "
            title += f"{term.asked} exchanged inputs changed what it wants of others alone"
            return found("IN193", "error", title, evidence=seen.to_json())
    return None


def _is_elsewhere(term: Term) -> bool:
    return term.asked >= ENOUGH_ASKED and 2 * term.elsewhere > term.asked
