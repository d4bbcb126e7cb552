"""Counted operations, against those of the matrices by hand."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from tuner.train import operations

STEPS, BATCH, INPUTS, HIDDEN = 7, 5, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def counted(run):
    with torch.no_grad(), operations.counter() as mode:
        run()
    return mode.get_total_flops()


def by_hand(model, steps):
    """Two operations for every weight of a matrix, at every step."""
    return 2 * steps * sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(("layers", "both_ways"), [(1, False), (2, True)])
def test_a_recurrent_layer_applies_its_matrices_at_every_step(kind, layers, both_ways):
    model = getattr(nn, kind)(INPUTS, HIDDEN, layers, bidirectional=both_ways)
    assert counted(lambda: model(torch.randn(STEPS, BATCH, INPUTS))) == by_hand(model, STEPS * BATCH)


def test_a_packed_lstm_applies_its_matrices_at_the_steps_that_there_are():
    model = nn.LSTM(INPUTS, HIDDEN)
    packed = pack_sequence([torch.randn(steps, INPUTS) for steps in (4, 2, 1)])
    assert counted(lambda: model(packed)) == by_hand(model, 4 + 2 + 1)


def test_the_recurrent_kernel_of_gpus_counts_every_matrix_of_its_list():
    shapes = [torch.Size([16, 3]), torch.Size([16, 4]), torch.Size([16]), torch.Size([16])]
    gpu = operations.UNCOUNTED[torch.ops.aten._cudnn_rnn]
    assert gpu(torch.Size([STEPS, BATCH, 3]), shapes, 4, None) == 2 * STEPS * BATCH * (16 * 3 + 16 * 4)


def test_attention_counts_the_products_of_queries_with_keys_and_of_weights_with_values():
    heads, tokens, size = 2, 64, 8
    query = torch.randn(BATCH, heads, tokens, size)
    found = counted(lambda: nn.functional.scaled_dot_product_attention(query, query, query))
    assert found == 2 * 2 * BATCH * heads * tokens * tokens * size
