import pytest
import torch
from torch import nn

from tests.checks.probe_models import mlp
from tuner.checks.seeds.measure import seeds
from tuner.checks.seeds.rules import seeds_change_nothing
from tuner.checks.tools.frame import DoesNotApply


def test_models_of_two_seeds_differ(setup_of, blobs):
    found = seeds(setup_of(blobs(), mlp()))
    assert not found.same_object and not found.equal
    assert seeds_change_nothing(found) is None


def test_one_global_model_is_named(setup_of, blobs):
    model = nn.Linear(20, 10)
    finding = seeds_change_nothing(seeds(setup_of(blobs(), lambda: model)))
    assert finding.severity == "warn" and "one and the same model" in finding.title


def test_a_seed_that_build_sets_itself_is_seen(setup_of, blobs):
    def build():
        torch.manual_seed(7)
        return nn.Linear(20, 10)

    found = seeds(setup_of(blobs(), build))
    assert found.equal and not found.same_object
    assert "equal in all 210 parameters" in seeds_change_nothing(found).title


def test_weights_from_a_file_are_not_compared(setup_of, blobs):
    setup = setup_of(blobs(), mlp())
    setup.tables["finetune"] = {"weights": "some.pt"}
    with pytest.raises(DoesNotApply, match="finetune.weights"):
        seeds(setup)
