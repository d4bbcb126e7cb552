import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.probe_models import mlp
from tuner.checks.loss_calls.measure import loss_calls
from tuner.checks.tools.frame import CannotProbe
from tuner.checks.unheard_mistakes.measure import unheard_mistakes
from tuner.parts.losses.classification import arcface


def calls(setup_of, blobs, loss, model=None):
    return loss_calls(setup_of(blobs(), model or mlp(), loss=loss)).calls


def test_probabilities_that_kl_div_is_given_are_seen(setup_of, blobs):
    def loss(outputs, targets):
        return F.kl_div(outputs.softmax(1), F.one_hot(targets, 10).float(), reduction="batchmean")

    (call,) = calls(setup_of, blobs, loss)
    assert call.function == "kl_div" and call.wants == "log-probabilities"
    assert call.are_shares and call.high > 0


def test_log_probabilities_are_not_taken_for_shares(setup_of, blobs):
    (call,) = calls(setup_of, blobs, lambda outputs, targets: F.nll_loss(outputs.log_softmax(1), targets))
    assert not call.are_shares and call.high <= 0


def test_a_softmax_is_seen_behind_outputs_in_a_pair(setup_of, blobs):
    class Pair(nn.Linear):
        def forward(self, inputs):
            scores = super().forward(inputs)
            return scores.softmax(1), inputs

    (call,) = calls(
        setup_of, blobs, lambda outputs, targets: F.cross_entropy(outputs[0], targets), lambda: Pair(20, 10)
    )
    assert call.function == "cross_entropy" and call.are_shares


def test_a_loss_module_of_torch_is_seen_too(setup_of, blobs):
    (call,) = calls(setup_of, blobs, nn.CrossEntropyLoss())
    assert call.function == "cross_entropy" and not call.are_shares


def test_targets_of_zero_are_listed(setup_of, blobs):
    def loss(outputs, targets):
        return F.soft_margin_loss(outputs, F.one_hot(targets, 10).float())

    (call,) = calls(setup_of, blobs, loss)
    assert call.target_values == [0.0, 1.0] and call.wants == "both signs"


def test_a_likelihood_that_is_clamped_too_high_is_silent_about_mistakes(setup_of, blobs):
    def clamped(at):
        return lambda outputs, targets: -outputs.softmax(1).gather(1, targets[:, None]).clamp(at, 1).log().mean()

    assert unheard_mistakes(setup_of(blobs(), mlp(), loss=clamped(0.3))).silent > 0.5
    assert unheard_mistakes(setup_of(blobs(), mlp(), loss=clamped(1e-6))).silent == 0


def test_a_hinge_loss_is_silent_about_right_answers_alone(setup_of, blobs):
    found = unheard_mistakes(setup_of(blobs(), mlp(), loss=lambda o, t: F.multi_margin_loss(o, t, margin=0.05)))
    assert found.silent == 0
    assert found.silent_right > 0.5


def test_outputs_that_are_no_scores_are_not_asked(setup_of, blobs):
    with pytest.raises(CannotProbe, match="not one score per class"):
        unheard_mistakes(setup_of(blobs(), lambda: nn.Linear(20, 1), loss=lambda o, t: o.square().mean()))
    assert torch.is_grad_enabled()


def test_a_loss_of_the_hardest_half_of_a_batch_hears_each_example_by_itself(setup_of, blobs):
    def hardest(outputs, targets):
        losses = F.cross_entropy(outputs, targets, reduction="none")
        return losses.topk((len(losses) + 1) // 2).values.mean()

    assert unheard_mistakes(setup_of(blobs(), mlp(), loss=hardest)).silent == 0


def test_outputs_that_a_loss_of_ours_refuses_are_left_out(setup_of, blobs):
    with pytest.raises(CannotProbe, match="arcface needs cosines"):
        unheard_mistakes(setup_of(blobs(), mlp(), loss=arcface))
