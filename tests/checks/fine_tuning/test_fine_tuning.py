"""The frozen part of a model: its batch norms' statistics stay, and fit what they are given."""

import pytest
import torch
from torch import nn

from tests.checks.probe_models import mlp
from tuner.checks.fine_tuning.evidence import FineTuning
from tuner.checks.fine_tuning.measure import fine_tuning
from tuner.checks.fine_tuning.rules import foreign_to_the_frozen, statistics_of_the_frozen_move
from tuner.checks.one_step.measure import one_step
from tuner.checks.one_step.rules.moves import eval_mode_in_training, frozen_parameters
from tuner.checks.tools.frame import DoesNotApply


def trained(mean=0.0, std=1.0):
    """Build a net whose batch norm has seen layers of that mean and standard deviation; the same for every seed."""

    def build():
        with torch.random.fork_rng():
            torch.manual_seed(3)
            body = nn.Linear(20, 16, bias=False)
        nn.init.orthogonal_(body.weight.data[:16], generator=torch.Generator().manual_seed(3))
        norm = nn.BatchNorm1d(16)
        norm.running_mean.fill_(mean)
        norm.running_var.fill_(std**2 * 1.0001)
        return nn.Sequential(body, norm, nn.ReLU(), nn.Linear(16, 10))

    return build


def asked(setup, **table):
    setup.tables["finetune"] = {"way": "head", **table}
    return setup


def test_norms_that_the_recipe_freezes_keep_their_statistics_and_nothing_is_said(setup_of, blobs):
    setup = asked(setup_of(blobs(), trained(std=2.0)))
    found, step = fine_tuning(setup), one_step(setup)
    assert (list(found.moving), found.kept) == ([], 1) and 1 <= found.off < 4
    assert statistics_of_the_frozen_move(found) is None and foreign_to_the_frozen(found) is None
    assert step.frozen == ["0.weight", "1.bias", "1.weight"] and not step.frozen_at_random
    assert frozen_parameters(step) is None and eval_mode_in_training(step) is None


def test_frozen_norms_in_train_mode_are_named(setup_of, blobs):
    found = fine_tuning(asked(setup_of(blobs(), trained()), freeze_norm=False))
    assert list(found.moving) == ["1"] and found.kept == 0
    assert "1 frozen batch norms are in train mode" in statistics_of_the_frozen_move(found).title


def test_frozen_norms_of_a_users_own_are_seen_without_a_finetune_table(setup_of, blobs):
    def frozen():
        return nn.Sequential(trained()()[:2].requires_grad_(False), nn.ReLU(), nn.Linear(16, 10))

    assert list(fine_tuning(setup_of(blobs(), frozen)).moving) == ["0.1"]


def test_inputs_a_hundred_times_as_large_are_foreign_to_the_frozen_part(setup_of, blobs):
    inputs, targets = blobs()
    near = fine_tuning(asked(setup_of((inputs, targets), trained(std=2.0)))).off
    found = fine_tuning(asked(setup_of((100 * inputs, targets), trained(std=2.0))))
    assert found.off == pytest.approx(100 * near, rel=0.7) and found.layer == "1"
    assert foreign_to_the_frozen(found).cause == "unnormalised-input"


@pytest.mark.parametrize(("off", "fires"), [(7.9, False), (8.0, True)])
def test_the_frozen_part_is_off_from_eight_times_on(off, fires):
    assert (foreign_to_the_frozen(FineTuning(kept=1, off=off, layer="1")) is not None) == fires


def test_a_model_without_frozen_norms_is_not_asked(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="no batch norm of the model is frozen"):
        fine_tuning(setup_of(blobs(), mlp()))


def test_a_recipe_that_freezes_what_nobody_trained_is_warned_of(setup_of, blobs):
    finding = frozen_parameters(one_step(asked(setup_of(blobs(), mlp()))))
    assert finding.severity == "warn" and "[finetune] freezes 1 weights that are in no file" in finding.title
