import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tuner.checks.overfit.measure import balanced, overfit
from tuner.tasks.classification import Positions


def mlp(*end, middle=()):
    return lambda: nn.Sequential(nn.Linear(20, 32), nn.ReLU(), *middle, nn.Linear(32, 10), *end)


def adam(rate=0.01):
    return {"optimizer": torch.optim.Adam, "optimizer_table": {"lr": rate}}


def test_balanced_takes_equal_shares_and_no_example_twice():
    targets = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    picked = balanced(targets, 32, seed=0)
    assert len(set(picked.tolist())) == len(picked) == 32
    assert torch.bincount(targets[picked]).tolist() == [22, 8, 2]
    assert balanced(torch.arange(100) % 20, 32, seed=0).numel() == 40
    assert torch.equal(balanced(targets, 32, seed=0), picked)


def test_overfit_reaches_the_floor_with_every_answer_right(setup_of, blobs):
    found = overfit(setup_of(blobs(), mlp(), **adam()))
    assert found.status == "floor"
    assert found.final_accuracy == 1.0
    assert found.loss_floor == pytest.approx(0, abs=1e-3)
    assert found.final_loss <= found.target == pytest.approx(0.02 * math.log(10), abs=1e-3)
    assert found.label_entropy == pytest.approx(math.log(10), abs=0.02)


def test_overfit_gives_a_curve_with_a_row_per_step(setup_of, blobs):
    found = overfit(setup_of(blobs(), mlp(), **adam()))
    rows = [row for row in found.curve if row["split"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, found.steps + 1))
    assert rows[0]["loss"] == found.initial_loss
    assert {row["split"] for row in found.curve} == {"train", "train_eval"}


def test_overfit_switches_weight_decay_off(setup_of, blobs):
    with_decay, without = (
        overfit(setup_of(blobs(), mlp(), optimizer_table={"weight_decay": decay})).final_loss for decay in (0.5, 0.0)
    )
    assert with_decay == without


@pytest.mark.parametrize(
    ("end", "kind", "level"),
    [
        (nn.Softmax(1), "probabilities", math.log(math.e + 9) - 1),
        (nn.Sigmoid(), "unit", math.log(math.e + 9) - 1),
        (nn.Tanh(), "signed", math.log(1 + 9 * math.exp(-2))),
    ],
)
def test_overfit_stays_above_the_floor_of_squashed_outputs(setup_of, blobs, end, kind, level):
    found = overfit(setup_of(blobs(), mlp(end), **adam()))
    assert found.status in ("plateau", "steps")
    assert found.kind == kind
    assert found.squashed_floors[kind] == pytest.approx(level, abs=1e-3)
    assert level <= found.final_loss < level + 0.1


def test_overfit_counts_the_wrong_answers_whose_class_a_rectifier_has_cut(setup_of, blobs):
    def rectified():
        model = mlp(nn.ReLU())()
        nn.init.constant_(model[2].bias[:4], -50.0)  # four classes are off for every example
        nn.init.constant_(model[2].bias[4:], 1.0)
        return model

    found = overfit(setup_of(blobs(), rectified, **adam()))
    wrong = round(32 * (1 - found.final_accuracy))
    assert found.kind == "logits" and found.outputs_low == 0.0
    assert wrong >= 9 and found.cut_off == 1.0  # of a row of zeros the answer is class 0, which may be right
    short = overfit(setup_of(blobs(), mlp(), **adam(1e-5)), max_steps=5)
    assert short.final_accuracy < 1.0 and short.cut_off == 0.0
    assert overfit(setup_of(blobs(), mlp(), **adam())).cut_off is None


def test_overfit_takes_the_smoothed_floor_as_its_target(setup_of, blobs):
    found = overfit(setup_of(blobs(), mlp(), loss=nn.CrossEntropyLoss(label_smoothing=0.1), **adam()))
    assert found.status == "floor"
    assert found.loss_floor == pytest.approx(0.5003, abs=1e-3)


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        ((nn.LogSoftmax(1),), F.nll_loss),
        ((nn.LogSoftmax(1),), F.cross_entropy),
        ((nn.Sigmoid(),), lambda o, t: F.binary_cross_entropy(o, F.one_hot(t, 10).float())),
        ((nn.Softmax(1),), lambda o, t: ((o - F.one_hot(t, 10)) ** 2).mean()),
        ((), lambda o, t: F.binary_cross_entropy_with_logits(o, F.one_hot(t, 10).float())),
        ((), nn.CrossEntropyLoss(weight=torch.linspace(0.2, 3, 10))),
        ((), nn.CrossEntropyLoss(reduction="sum")),
        (
            (),
            lambda o, t: (
                (1 - o.softmax(1).gather(1, t[:, None])) ** 2 * F.cross_entropy(o, t, reduction="none")[:, None]
            ).mean(),
        ),
    ],
    ids=["nll", "ce-on-log-softmax", "bce", "brier", "bce-logits", "weighted", "summed", "focal"],
)
def test_overfit_passes_with_losses_that_fit(setup_of, blobs, end, loss):
    rate = 0.003 if getattr(loss, "reduction", "") == "sum" else 0.03
    found = overfit(setup_of(blobs(), mlp(*end), loss=loss, **adam(rate)))
    assert (found.status, found.final_accuracy) == ("floor", 1.0)
    assert not found.unbounded


def test_overfit_knows_no_floor_for_nll_on_logits(setup_of, blobs):
    found = overfit(setup_of(blobs(), mlp(), loss=F.nll_loss, **adam()), max_steps=20)
    assert found.unbounded
    assert found.target is None


@pytest.mark.parametrize("middle", [(nn.Dropout(0.5),), (nn.BatchNorm1d(32),)])
def test_overfit_passes_with_dropout_and_batch_norm(setup_of, blobs, middle):
    found = overfit(setup_of(blobs(), mlp(middle=middle), **adam()))
    assert found.status == "floor"
    assert found.recalibrated_accuracy == 1.0
    assert found.recalibrated_loss < 0.2


def test_overfit_judges_functional_dropout_in_eval_mode(setup_of, blobs):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 64), nn.Linear(64, 10)

        def forward(self, inputs):
            return self.b(F.dropout(self.a(inputs).relu(), 0.5, self.training))

    found = overfit(setup_of(blobs(), Functional, **adam()))
    assert found.random_in_train_mode
    assert found.status == "floor"


def test_overfit_sees_batch_norm_that_never_learns_its_statistics(setup_of, blobs):
    inputs, targets = blobs()
    found = overfit(setup_of((inputs * 5 + 30, targets), mlp(middle=(nn.BatchNorm1d(32, momentum=0.0),)), **adam()))
    assert found.status == "floor"
    assert found.recalibrated_accuracy < 0.9 < found.own_statistics_accuracy
    assert found.smallest_momentum == 0.0


def test_overfit_diverges_at_an_absurd_rate(setup_of, blobs):
    found = overfit(setup_of(blobs(), mlp(), loss=lambda o, t: (o**4).mean(), optimizer_table={"lr": 1e6}))
    assert (found.status, found.final_loss) == ("diverged", None)


def test_overfit_sees_that_nothing_moves(setup_of, blobs):
    def step(model, batch, loss, optimizer):
        return loss(model(batch[0]), batch[1])

    found = overfit(setup_of(blobs(), mlp(), train_step=step), max_steps=30)
    assert not found.moved


def test_overfit_sees_that_the_input_is_ignored(setup_of, blobs):
    class Blind(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs * 0)

    found = overfit(setup_of(blobs(), lambda: Blind(20, 10), optimizer_table={"lr": 0.5}))
    assert found.status == "plateau"
    assert found.outputs_vary == 0
    assert found.final_loss == pytest.approx(found.label_entropy, abs=0.01)
    assert found.constant_floor == pytest.approx(found.label_entropy, abs=1e-3)


def test_overfit_takes_adam_in_place_of_the_recipes_optimizer(setup_of, blobs):
    setup = setup_of(blobs(), mlp(), optimizer_table={"lr": 0.01})
    setup.optimizer = None
    found = overfit(setup, reference=True)
    assert (found.status, found.reference) == ("floor", True)


def test_overfit_is_the_same_twice(setup_of, blobs):
    first, second = (overfit(setup_of(blobs(), mlp(middle=(nn.BatchNorm1d(32),)), **adam())) for _ in range(2))
    assert first == second


def test_overfit_keeps_what_the_step_minimises_apart_from_the_loss(setup_of, blobs):
    def penalised(model, batch, loss, optimizer):
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1]) + 7.0
        value.backward()
        optimizer.step()
        return value

    found = overfit(setup_of(blobs(), mlp(), train_step=penalised), max_steps=20)
    # the last objective is that before the last step, so the loss is a little lower
    assert found.last_objective == pytest.approx(found.train_mode_loss + 7.0, abs=0.1)
    assert found.initial_loss == pytest.approx(found.first_loss + 7.0, abs=1e-4)


def test_overfit_reaches_the_floor_of_a_reader_whose_first_word_does_not_tell_the_second(setup_of):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.read, self.head = nn.Embedding(4, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, 4)

        def forward(self, ids):
            return self.head(self.read(self.words(ids))[0]).movedim(-1, 1)

    starts, strides = torch.tensor([0, 1, 2, 3]).repeat(2), torch.tensor([1] * 4 + [2] * 4)
    ids = (starts[:, None] + strides[:, None] * torch.arange(6)) % 4
    setup = setup_of((ids[:, :-1], ids[:, 1:]), Reader, **adam(0.02))
    setup.data.task = Positions()
    found = overfit(setup, examples=8)
    assert found.status == "floor" and found.ambiguous == pytest.approx(1 / 5)
    assert found.loss_floor == pytest.approx(math.log(2) / 5, abs=2e-3)
