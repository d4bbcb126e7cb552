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


def test_another_net_that_evaluate_asks_is_no_copy_of_the_model(setup_of, blobs):
    features = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 8), nn.BatchNorm1d(8)).eval()

    def evaluate(model, batches, loss):
        features(batches[0][0])
        return judge(lambda outputs: outputs.argmax(1))(model, batches, loss)

    found = own_evaluation(setup_of(blobs(), with_norm, evaluate_hook=evaluate))
    assert (found.foreign_norms, found.still) == (2, 0)


def test_targets_that_are_no_classes_are_learnt_as_well(setup_of, blobs):
    inputs, targets = blobs()
    wanted = nn.functional.one_hot(targets, 10).float()

    def evaluate(model, batches, loss):
        return {"loss": loss(model(batches[0][0]), batches[0][1]).item()}

    setup = setup_of((inputs, wanted), mlp(), loss=nn.functional.mse_loss, num_classes=10, evaluate_hook=evaluate)
    assert own_evaluation(setup).hook["loss"] < 0.1
