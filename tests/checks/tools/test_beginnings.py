"""Equal beginnings that go on differently: what a causal model can reach at best."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tuner.checks.tools.beginnings import floors, tied, tied_floor

# at the second place the beginnings are equal and go on with 2 or with 3
READ = torch.tensor([[0, 1, 2], [0, 1, 3]])
WANTED = torch.tensor([[1, 2, 0], [1, 3, 0]])
SHAPE = torch.Size([2, 4, 3])


class Reader(nn.Module):
    """A recurrent reader (N, T) -> (N, C, T), or (N, T, C) with `classes_last`."""

    def __init__(self, both_ways=False, classes_last=False):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(4, 8)
        self.read = nn.GRU(8, 8, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(16 if both_ways else 8, 4)
        self.classes_last = classes_last

    def forward(self, ids):
        scores = self.head(self.read(self.words(ids))[0])
        return scores if self.classes_last else scores.movedim(-1, 1)


def entropy_at_one_place_of_three():
    return math.log(2) / 3


def test_a_model_that_reads_in_order_has_one_answer_for_equal_beginnings():
    groups = tied(Reader(), READ, WANTED)
    assert (groups[0] == groups[1]).tolist() == [True, True, False]


def test_a_model_that_sees_what_comes_after_is_free_to_answer_each_place():
    model = Reader(both_ways=True)
    floor, share = floors(model, F.cross_entropy, READ, WANTED, SHAPE)
    assert share == 0.0 and floor("logits") == pytest.approx(0.0, abs=1e-3)


def test_the_floor_is_the_entropy_of_what_follows():
    groups = tied(Reader(), READ, WANTED)
    for kind in ("logits", "probabilities"):
        loss = F.cross_entropy if kind == "logits" else lambda p, y: F.nll_loss((p + 1e-9).log(), y)
        found = tied_floor(loss, WANTED, SHAPE, kind, groups)
        assert found == pytest.approx(entropy_at_one_place_of_three(), abs=2e-3)


def test_the_floor_is_the_same_with_the_classes_last():
    loss = lambda outputs, targets: F.cross_entropy(outputs.movedim(-1, 1), targets)  # noqa: E731
    floor, share = floors(Reader(classes_last=True), loss, READ, WANTED, torch.Size([2, 3, 4]))
    assert share == pytest.approx(1 / 3)
    assert floor("logits") == pytest.approx(entropy_at_one_place_of_three(), abs=2e-3)


def test_places_that_do_not_count_tie_nothing():
    ignored = torch.tensor([[1, -100, 0], [1, 3, 0]])
    assert tied(Reader(), READ, ignored) is None


def test_sequences_that_go_on_alike_and_classes_per_example_tie_nothing():
    assert tied(Reader(), READ, torch.tensor([[1, 2, 0], [1, 2, 0]])) is None
    assert tied(Reader(), READ, torch.tensor([0, 1])) is None
