import torch
from torch import nn

from tests.checks.probe_models import mlp
from tuner.checks.state_between_calls.measure import state_between_calls


class Kept(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.net, self.share, self.last = mlp()(), share, None

    def forward(self, inputs):
        outputs = self.net(inputs)
        last, self.last = self.last, outputs.detach()
        return outputs if last is None else outputs + self.share * last


def test_a_model_that_adds_its_last_outputs_differs_and_the_attribute_is_named(setup_of, blobs):
    found = state_between_calls(setup_of(blobs(), lambda: Kept(0.5)))
    assert found.differ > 0.1
    assert found.changed == []  # it was kept before the second call as well, and is the first batch's again


def test_a_state_that_is_kept_and_never_read_changes_nothing(setup_of, blobs):
    assert state_between_calls(setup_of(blobs(), lambda: Kept(0.0))).differ == 0


def test_a_count_of_calls_that_scales_the_outputs_is_named(setup_of, blobs):
    class Counted(nn.Linear):
        calls = 0

        def forward(self, inputs):
            self.calls += 1
            return super().forward(inputs) / self.calls

    found = state_between_calls(setup_of(blobs(), lambda: Counted(20, 10)))
    assert found.changed == ["calls"]
    assert found.differ > 0.1


def test_dropout_that_is_always_on_is_no_state(setup_of, blobs):
    class Always(nn.Linear):
        def forward(self, inputs):
            return nn.functional.dropout(super().forward(inputs), 0.5)

    torch.manual_seed(0)
    assert state_between_calls(setup_of(blobs(), lambda: Always(20, 10))).differ == 0


def test_outputs_of_any_form_are_compared(setup_of, blobs):
    class Dict(nn.Linear):
        def forward(self, inputs):
            return {"logits": super().forward(inputs), "more": [inputs]}

    assert state_between_calls(setup_of(blobs(), lambda: Dict(20, 10))).differ == 0
