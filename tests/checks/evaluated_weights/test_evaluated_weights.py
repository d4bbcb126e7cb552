"""Weights that are evaluated in place of the trained ones: their age, and the statistics beside them."""

from pathlib import Path

import pytest
from torch import nn

from tests.checks.probe_models import mlp
from tuner.checks.evaluated_weights.evidence import EvaluatedWeights
from tuner.checks.evaluated_weights.measure import evaluated_weights
from tuner.checks.evaluated_weights.rules import (
    averaged_weights_with_first_statistics,
    the_average_hangs_on_to_the_first_weights,
)
from tuner.checks.tools.frame import CannotProbe, DoesNotApply
from tuner.parts.averages import ema, swa
from tuner.train.points import Part


class WeightsAlone:
    """An average of the weights with the statistics of the beginning."""

    def weights_for_evaluation(self, model):
        first = {"running_mean": 0.0, "running_var": 1.0}
        state = {name: item.detach().clone() for name, item in model.state_dict().items()}
        for name, item in state.items():
            if name.rpartition(".")[2] in first:
                item.fill_(first[name.rpartition(".")[2]])
        return state


class OfImages:
    def weights_for_evaluation(self, model):
        return {"conv.weight": model.conv.weight}


def normed():
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def measured(setup, fn, updates=50, epochs=3, **args):
    setup.parts = (Part("weights_for_evaluation", fn, args, "train.weights_for_evaluation", Path()),)
    setup.updates_per_epoch = updates
    return evaluated_weights(setup, {"fine": epochs})


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.9995])
def test_of_the_first_weights_an_average_keeps_its_decay_to_the_power_of_the_updates(setup_of, blobs, decay):
    found = measured(setup_of(blobs(), normed), ema, decay=decay, warmup=False)
    assert found.first["fine"] == pytest.approx(decay**149, abs=1e-4)
    assert (the_average_hangs_on_to_the_first_weights(found) is not None) == (decay == 0.9995)


def test_an_average_that_warms_up_keeps_nothing_of_the_first_weights(setup_of, blobs):
    assert measured(setup_of(blobs(), normed), ema, decay=0.9995).first["fine"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("part", "args"), [(ema, {"decay": 0.9}), (swa, {"start": 0.5})])
def test_averages_of_the_parts_move_their_statistics(setup_of, blobs, part, args):
    found = measured(setup_of(blobs(), normed), part, **args)
    assert not found.still and found.norms == 1 and averaged_weights_with_first_statistics(found) is None


def test_first_statistics_beside_averaged_weights_are_an_error_where_there_are_batch_norms(setup_of, blobs):
    found, plain = (measured(setup_of(blobs(), model), WeightsAlone) for model in (normed, mlp()))
    assert averaged_weights_with_first_statistics(found).cause == "normalisation-misuse"
    assert plain.still and averaged_weights_with_first_statistics(plain) is None


def test_a_part_that_is_made_for_one_model_is_left_out(setup_of, blobs):
    with pytest.raises(CannotProbe, match="takes no other net"):
        measured(setup_of(blobs(), normed), OfImages)


def test_runs_of_more_updates_than_are_tried_are_left_out(setup_of, blobs):
    with pytest.raises(CannotProbe, match="more than 10000 updates"):
        measured(setup_of(blobs(), normed), ema, updates=10_000, decay=0.9)


def test_a_recipe_that_evaluates_the_trained_weights_is_not_asked(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="are the trained ones"):
        evaluated_weights(setup_of(blobs(), normed))


@pytest.mark.parametrize(("share", "fires"), [(0.49, False), (0.5, True), (None, False)])
def test_an_average_hangs_on_from_half_of_the_weights_on(share, fires):
    seen = EvaluatedWeights({"coarse": 0.1, "fine": share}, {"coarse": 10, "fine": 100})
    assert (the_average_hangs_on_to_the_first_weights(seen) is not None) == fires
