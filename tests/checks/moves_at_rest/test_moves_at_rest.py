"""Steps of a user's own at rate 0: the weights are where they were, or higher up."""

import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.moves_at_rest.evidence import MovesAtRest
from tuner.checks.moves_at_rest.measure import moves_at_rest
from tuner.checks.moves_at_rest.rules import climbs_and_stays_there
from tuner.checks.tools.frame import DoesNotApply


def climbing(back, noise=False):
    """Return a sharpness-aware step that takes its climb back, or does not."""

    def step(model, batch, loss, optimizer):
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        moves = [0.05 * (torch.randn_like(p) if noise else p.grad) for p in model.parameters()]
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p += move
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        if back:
            with torch.no_grad():
                for p, move in zip(model.parameters(), moves, strict=True):
                    p -= move
        optimizer.step()
        return value

    return step


def test_a_climb_that_is_not_taken_back_goes_uphill(setup_of, blobs):
    found = moves_at_rest(setup_of(blobs(), mlp(), train_step=climbing(back=False)))
    assert found.uphill > 0.9 and found.moved > 1e-3
    assert climbs_and_stays_there(found).cause == "sign-flipped-loss"


def test_a_climb_that_is_taken_back_leaves_rounding(setup_of, blobs):
    found = moves_at_rest(setup_of(blobs(), mlp(), train_step=climbing(back=True)))
    assert found.moved < 1e-5 and climbs_and_stays_there(found) is None


def test_noise_on_the_weights_is_in_no_direction(setup_of, blobs):
    found = moves_at_rest(setup_of(blobs(), mlp(), train_step=climbing(back=False, noise=True)))
    assert found.moved > 1e-3 and climbs_and_stays_there(found) is None


def test_the_built_in_step_is_not_asked(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="tuner's own"):
        moves_at_rest(setup_of(blobs(), mlp()))


@pytest.mark.parametrize(
    ("moved", "uphill", "fires"), [(1e-3, 0.5, True), (0.9e-3, 0.9, False), (0.1, 0.49, False), (0.1, None, False)]
)
def test_a_move_counts_from_a_thousandth_of_the_length_on_along_the_gradient(moved, uphill, fires):
    assert (climbs_and_stays_there(MovesAtRest(1, moved, uphill)) is not None) == fires
