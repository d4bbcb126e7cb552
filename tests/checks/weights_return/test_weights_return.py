"""Updates under one gradient lead somewhere, but for an optimizer that puts the first weights back."""

import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.tools.frame import CannotProbe
from tuner.checks.weights_return.measure import weights_return
from tuner.checks.weights_return.rules import the_first_weights_come_back


class Back(torch.optim.SGD):
    """Goes back to the weights that it was made with after every third step."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.kept = [item.detach().clone() for group in self.param_groups for item in group["params"]]
        self.count = 0

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        self.count += 1
        if self.count % 3 == 0:
            for item, kept in zip(self.param_groups[0]["params"], self.kept, strict=True):
                item.copy_(kept)


def test_the_updates_after_which_the_first_weights_are_back_are_named(setup_of, blobs):
    found = weights_return(setup_of(blobs(), mlp(), optimizer=Back))
    assert found.returned == [3, 6, 9, 12, 15, 18]
    finding = the_first_weights_come_back(found)
    assert finding.cause == "no-update" and "after update 3, 6, 9, 12" in finding.title


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Rprop])
def test_usual_optimizers_do_not_come_back(setup_of, blobs, optimizer):
    found = weights_return(setup_of(blobs(), mlp(), optimizer=optimizer))
    assert not found.returned and the_first_weights_come_back(found) is None


def test_weights_that_never_move_did_not_come_back(setup_of, blobs):
    table = {"name": "sgd", "lr": 0.0}
    assert not weights_return(setup_of(blobs(), mlp(), optimizer_table=table)).returned


def test_an_optimizer_that_searches_along_a_line_is_left_out(setup_of, blobs):
    with pytest.raises(CannotProbe, match="LBFGS takes no constant"):
        weights_return(setup_of(blobs(), mlp(), optimizer=torch.optim.LBFGS))
