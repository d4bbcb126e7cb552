import torch
from torch import nn

from tests.checks.probe_models import mlp
from tuner.checks.recurrent_memory.measure import recurrent_memory


class Reads(nn.Module):
    def __init__(self, bias=1.0, mean=False):
        super().__init__()
        self.lstm, self.head, self.mean = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 2), mean
        self.lstm.bias_ih_l0.data[16:32] = bias

    def forward(self, inputs):
        read, _ = self.lstm(inputs[..., None])
        return self.head(read.mean(1) if self.mean else read[:, -1])


def sequences(steps=40, padding=0):
    inputs = torch.randn(64, steps, generator=torch.Generator().manual_seed(0))
    if padding:
        inputs[:, -padding:] = 0.0
    return inputs, torch.arange(64) % 2


def layer(setup_of, data, model):
    (found,) = recurrent_memory(setup_of(data, model)).layers
    return found


def test_forget_gates_that_are_shut_leave_a_memory_of_a_few_steps(setup_of):
    open_, shut = (layer(setup_of, sequences(), lambda bias=bias: Reads(bias)) for bias in (4.0, -4.0))
    assert open_.steps == shut.steps == 40
    assert open_.heard == 40
    assert shut.heard <= 6


def test_a_head_that_averages_hears_every_step_whatever_the_gates(setup_of):
    assert layer(setup_of, sequences(), lambda: Reads(-4.0, mean=True)).heard == 40


def test_the_gradient_before_the_padding_is_compared_with_that_in_it(setup_of):
    padded = layer(setup_of, sequences(padding=35), lambda: Reads(-2.0))
    assert padded.tail == 35
    assert padded.reaches < 1e-6
    assert layer(setup_of, sequences(), lambda: Reads(-2.0)).reaches is None


def test_a_model_without_recurrent_layers_is_not_asked(setup_of, blobs):
    assert recurrent_memory(setup_of(blobs(), mlp())).layers == []
