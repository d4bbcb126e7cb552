"""Wirings that look like a fault and are none: parts that work at times, teachers, inputs with a gradient."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tuner.checks.one_step.measure import one_step


class SkipsLayers(nn.Module):
    """A residual layer that is left out at random while training, as in LayerDrop."""

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(20, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        if not self.training or torch.rand(()) < 0.5:
            x = x + self.block(x).relu()
        return self.head(x)


class Experts(nn.Module):
    """Each example goes to one of four experts, by the sign of two of its columns; few go to the last."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(20, 10) for _ in range(4))

    def forward(self, x):
        place = (x[:, 18] > 1).long() + 2 * (x[:, 19] > 1).long()
        out = torch.zeros(len(x), 10)
        for index, expert in enumerate(self.experts):
            if (rows := place == index).any():
                out[rows] = expert(x[rows])
        return out


class Cut(nn.Module):
    """One branch is detached: it has no gradient in any forward."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(20, 10), nn.Linear(20, 10)

    def forward(self, x):
        return self.one(x) + self.other(x).detach()


def test_layers_that_are_skipped_at_random_have_a_gradient_at_times(setup_of, blobs):
    for seed in range(4):
        found = one_step(setup_of(blobs(), SkipsLayers, seed=seed))
        assert found.no_gradient == found.zero_gradient == []


def test_an_expert_that_few_examples_are_sent_to_has_a_gradient_at_times(setup_of, blobs):
    found = one_step(setup_of(blobs(400), Experts, batch_size=16))
    assert found.no_gradient == found.zero_gradient == []


def test_a_branch_that_is_cut_off_has_none_whatever_the_batch(setup_of, blobs):
    assert one_step(setup_of(blobs(), Cut)).no_gradient == ["other.bias", "other.weight"]


class AsksItsInput(nn.Linear):
    """The gradient of the input is asked for, as by a penalty or a physical law."""

    def forward(self, x):
        return super().forward(x.requires_grad_())


class Checkpointed(nn.Sequential):
    """Re-entrant checkpoints need one argument that has a gradient: the usual one is a tensor that nobody reads."""

    def __init__(self):
        super().__init__(nn.Linear(20, 16), nn.Linear(16, 10))
        self.dummy = torch.ones(1, requires_grad=True)

    def forward(self, x):
        hidden = checkpoint(lambda given, _: self[0](given).relu(), x, self.dummy, use_reentrant=True)
        return self[1](hidden)


class Forgotten(nn.Linear):
    """A scale that is a trainable tensor and no parameter."""

    def __init__(self):
        super().__init__(20, 10)
        self.scale = torch.ones(10, requires_grad=True)

    def forward(self, x):
        return super().forward(x) * self.scale


def test_a_tensor_that_is_no_parameter_counts_where_it_is_there_each_time_and_has_a_gradient(setup_of, blobs):
    assert one_step(setup_of(blobs(), lambda: AsksItsInput(20, 10))).unregistered == []
    assert one_step(setup_of(blobs(), Checkpointed)).unregistered == []
    assert one_step(setup_of(blobs(), Forgotten)).unregistered == [[10]]


class MomentumTeacher(nn.Module):
    """A frozen copy of the encoder follows it in each forward of training."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head, self.teacher = nn.Linear(20, 16), nn.Linear(16, 10), nn.Linear(20, 16)
        self.teacher.load_state_dict(self.encoder.state_dict())
        self.teacher.requires_grad_(False)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                for own, other in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
                    own.lerp_(other, 0.01)
        return self.head(F.relu(self.encoder(x))) + 0 * self.teacher(x).sum()


class StillTeacher(MomentumTeacher):
    """The same, and the training script moves it, not the model."""

    def forward(self, x):
        return self.head(F.relu(self.encoder(x))) + 0 * self.teacher(x).sum()


def test_frozen_copies_of_trained_weights_are_not_frozen_at_random(setup_of, blobs):
    for model in (MomentumTeacher, StillTeacher):
        found = one_step(setup_of(blobs(), model))
        assert found.frozen == ["teacher.bias", "teacher.weight"]
        assert found.frozen_at_random == []
