import copy

import torch
from torch import nn

from tests.checks.probe_models import mlp
from tuner.checks.own_evaluation.measure import own_evaluation


def judge(answers, of=lambda model: model):
    def evaluate(model, batches, loss):
        net = of(model).eval()
        with torch.no_grad():
            (inputs, targets), *_ = batches
            outputs = net(inputs)
        right = (answers(outputs) == targets).float().mean()
        return {"loss": float(loss(outputs, targets)), "accuracy": float(right)}

    return evaluate


def test_examples_that_are_learnt_are_judged_right_by_a_sound_evaluate(setup_of, blobs):
    found = own_evaluation(setup_of(blobs(), mlp(), evaluate_hook=judge(lambda outputs: outputs.argmax(1))))
    assert found.learnt
    assert found.hook["accuracy"] == 1.0
    assert found.foreign_norms == 0


def test_an_answer_over_the_wrong_axis_is_beside_a_low_loss(setup_of, blobs):
    found = own_evaluation(setup_of(blobs(), mlp(), evaluate_hook=judge(lambda outputs: outputs.argmin(1))))
    assert found.hook["loss"] < 0.2 * found.first_loss
    assert found.hook["accuracy"] < 0.1


def with_norm():
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def test_statistics_of_an_early_copy_stand_still_and_those_of_the_model_move(setup_of, blobs):
    kept = []

    def early(model):
        kept.append(kept[0] if kept else copy.deepcopy(model))
        return kept[0]

    found = own_evaluation(setup_of(blobs(), with_norm, evaluate_hook=judge(lambda o: o.argmax(1), early)))
    assert (found.foreign_norms, found.still) == (1, 1)


def test_a_copy_that_takes_the_statistics_along_is_not_still(setup_of, blobs):
    found = own_evaluation(setup_of(blobs(), with_norm, evaluate_hook=judge(lambda o: o.argmax(1), copy.deepcopy)))
    assert (found.foreign_norms, found.still) == (1, 0)


def test_a_recipe_without_an_evaluate_is_not_asked(setup_of, blobs):
    assert not own_evaluation(setup_of(blobs(), mlp())).own
