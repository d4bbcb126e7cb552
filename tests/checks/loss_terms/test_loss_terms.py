"""What is added to the loss: how much it weighs beside the loss, and of which example it speaks."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.checks.probe_models import mlp
from tuner.checks.loss_terms.evidence import LossTerms, Term
from tuner.checks.loss_terms.measure import loss_terms
from tuner.checks.loss_terms.rules import a_term_outweighs_the_loss, a_term_speaks_of_other_examples
from tuner.checks.tools.frame import CannotProbe, DoesNotApply
from tuner.train.points import Points


def with_penalty(setup, penalty):
    """Return the setup of a recipe with that train.penalty."""
    setup.parts = (SimpleNamespace(where="train.penalty", fn=penalty),)
    setup.points = lambda model: Points(
        [{"penalty": lambda model, outputs, inputs, targets: penalty(model, inputs, outputs)}]
    )
    return setup


def teacher(inputs, outputs, shift=0):
    """Pull each example's answer to one that is made of the input `shift` places before."""
    return functional.mse_loss(outputs, inputs.roll(shift, 0)[:, :10])


def squares(factor):
    return lambda model, inputs, outputs: factor * sum(item.square().sum() for item in model.parameters())


def test_the_length_of_a_terms_gradient_is_that_of_its_closed_form(setup_of, blobs):
    setup = with_penalty(setup_of(blobs(), mlp()), squares(0.5))
    found = loss_terms(setup)
    weights = torch.cat([item.detach().flatten() for item in setup.model().parameters()])
    (term,) = found.terms
    assert term.name == "train.penalty (<lambda>)"
    assert term.value == pytest.approx(0.5 * float(weights.square().sum()), rel=1e-5)
    assert term.gradients[0] == pytest.approx(float(weights.norm()), rel=1e-5)


def test_a_penalty_that_pulls_most_weights_harder_than_the_loss_outweighs_it_and_a_small_one_does_not(setup_of, blobs):
    strong = loss_terms(with_penalty(setup_of(blobs(), mlp()), squares(5.0)))
    weak = loss_terms(with_penalty(setup_of(blobs(), mlp()), squares(1e-4)))
    assert strong.terms[0].pulled > 0.9 and weak.terms[0].pulled < 0.1
    assert a_term_outweighs_the_loss(strong).cause == "over-regularised"
    assert a_term_outweighs_the_loss(weak) is None


def test_two_terms_of_one_function_are_two(setup_of, blobs):
    setup = with_penalty(setup_of(blobs(), mlp()), squares(1e-4))
    setup.parts = 2 * setup.parts
    twice = Points(2 * setup.points(None).parts)
    setup.points = lambda model: twice
    assert [term.name for term in loss_terms(setup).terms] == [
        "train.penalty (<lambda>)",
        "train.penalty (<lambda>), number 2",
    ]


def test_a_teacher_that_answers_the_example_itself_is_not_elsewhere(setup_of, blobs):
    own = loss_terms(with_penalty(setup_of(blobs(), mlp()), lambda model, inputs, outputs: teacher(inputs, outputs)))
    assert own.terms[0].asked >= 5 and own.terms[0].elsewhere == 0
    assert a_term_speaks_of_other_examples(own) is None


def test_a_teacher_that_answers_the_example_before_is_named(setup_of, blobs):
    other = loss_terms(
        with_penalty(setup_of(blobs(), mlp()), lambda model, inputs, outputs: teacher(inputs, outputs, 1))
    )
    assert other.terms[0].elsewhere == other.terms[0].asked >= 5
    finding = a_term_speaks_of_other_examples(other)
    assert (finding.severity, finding.cause) == ("error", "misaligned-labels")


def test_a_teacher_in_an_order_drawn_at_random_is_named(setup_of, blobs):
    def shuffled(model, inputs, outputs):
        return teacher(inputs[torch.randperm(len(inputs))], outputs)

    assert a_term_speaks_of_other_examples(loss_terms(with_penalty(setup_of(blobs(), mlp()), shuffled))) is not None


def test_a_term_that_holds_pairs_together_speaks_of_both(setup_of, blobs):
    def pairs(model, inputs, outputs):
        alike = -(inputs - inputs.roll(1, 0)).square().sum(1)
        return (alike.exp() * (outputs - outputs.roll(1, 0)).square().sum(1)).mean()

    assert a_term_speaks_of_other_examples(loss_terms(with_penalty(setup_of(blobs(), mlp()), pairs))) is None


def test_a_recipe_that_adds_nothing_to_the_loss_is_not_asked(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="nothing is added to the loss"):
        loss_terms(setup_of(blobs(), mlp()))


def test_an_optimizer_that_asks_for_the_loss_itself_is_left_out(setup_of, blobs):
    with pytest.raises(CannotProbe, match="LBFGS evaluates the loss more than once"):
        loss_terms(with_penalty(setup_of(blobs(), mlp(), optimizer=torch.optim.LBFGS), squares(1.0)))


def test_a_penalty_on_inputs_of_another_kind_than_tensors_never_raises(setup_of, blobs):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(20, 10)

        def forward(self, inputs):
            return {"out": self.head(inputs)}

    setup = with_penalty(
        setup_of(blobs(), Pair, loss=lambda outputs, targets: functional.cross_entropy(outputs["out"], targets)),
        lambda model, inputs, outputs: outputs["out"].square().mean(),
    )
    assert (loss_terms(setup).terms[0].asked, loss_terms(setup).terms[0].pulled) == (0, None)


@pytest.mark.parametrize(("gradient", "pulled", "fires"), [(9.9, 0.49, False), (10.0, None, True), (0.1, 0.5, True)])
def test_a_term_outweighs_the_loss_at_ten_times_its_gradient_or_on_half_of_the_weights(gradient, pulled, fires):
    seen = LossTerms(2.3, (1.0, 0.8), [Term("train.l1 (l1)", 5.0, (0.0, gradient), pulled=pulled)])
    assert (a_term_outweighs_the_loss(seen) is not None) == fires


@pytest.mark.parametrize(("asked", "elsewhere", "fires"), [(2, 2, False), (3, 2, True), (4, 2, False)])
def test_answers_are_of_others_where_most_of_three_or_more_are(asked, elsewhere, fires):
    seen = LossTerms(2.3, (1.0, 0.8), [Term("t", 1.0, (1.0, 1.0), asked, elsewhere)])
    assert (a_term_speaks_of_other_examples(seen) is not None) == fires
