import math

import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case
from tuner.core.errors import UsageError, UserCodeError
from tuner.core.streams import derive_seed
from tuner.train.loop import fit
from tuner.train.state import Tape
from tuner.train.step import default_step


def rows(training, split):
    return [row for row in training.curve if row["split"] == split]


def same_weights(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_fit_equals_a_plain_loop_written_out(tmp_path):
    setup = make_case(tmp_path, overrides={"optimizer.momentum": 0.9, "schedule.name": "cosine"}).setup(
        horizon_epochs=3
    )
    training = fit(setup)

    model = setup.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
    means, rates = [], []
    for epoch in (1, 2, 3):
        total = 0.0
        model.train()
        for inputs, targets in setup.data.epoch(0, epoch, 8):
            loss = nn.functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
            total += loss.item() * len(targets)
        means.append(total / 40)
    model.eval()
    inputs, targets = setup.data.inputs("val"), setup.data.targets("val")
    with torch.no_grad():
        outputs = model(setup.data.normalise(inputs))

    found = rows(training, "train")
    assert [row["loss"] for row in found] == pytest.approx(means, rel=1e-5)
    assert [row["lr"] for row in found] == pytest.approx([rates[4], rates[9], rates[14]])
    assert [(row["step"], row["epoch"]) for row in found] == [(5, 1), (10, 2), (15, 3)]
    last = rows(training, "val")[-1]
    assert last["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, targets)), rel=1e-4)
    assert last["accuracy"] == pytest.approx(float((outputs.argmax(1) == targets).double().mean()))
    assert all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(model.parameters(), training.model.parameters(), strict=True)
    )


def test_each_epoch_adds_its_three_rows_in_order(tmp_path):
    training = fit(make_case(tmp_path).setup())
    splits = ["train", "train_eval", "val"]
    assert [(row["epoch"], row["split"]) for row in training.curve] == [(e, s) for e in (1, 2) for s in splits]
    assert {"loss", "accuracy", "lr", "grad_norm"} <= set(training.curve[0])


def test_the_train_subset_is_left_out_where_the_trial_does_not_ask_for_it_and_nothing_else_changes(tmp_path):
    whole, less = (fit(make_case(tmp_path).setup(train_subset=asked)) for asked in (True, False))
    assert rows(less, "train_eval") == []
    assert less.curve == [row for row in whole.curve if row["split"] != "train_eval"]
    assert same_weights(less.model, whole.model)


def test_bf16_trains_the_same_twice_and_one_and_one_epochs_are_two(tmp_path):
    case = make_case(tmp_path, overrides={"optimizer.momentum": 0.9})
    once, again = (fit(case.setup(precision="bf16")) for _ in range(2))
    assert once.curve == again.curve and same_weights(once.model, again.model)
    setup = case.setup(precision="bf16")
    fit(setup, until_epoch=1)
    resumed = fit(case.setup(precision="bf16"))
    assert resumed.curve == once.curve and same_weights(once.model, resumed.model)
    assert once.curve != fit(make_case(tmp_path / "fp32", overrides={"optimizer.momentum": 0.9}).setup()).curve


def test_a_horizon_in_steps_adds_one_row_per_step_and_evaluates_nothing(tmp_path):
    setup = make_case(tmp_path).setup(horizon_steps=7)
    training = fit(setup)
    assert [row["step"] for row in training.curve] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["epoch"] for row in training.curve] == [1] * 5 + [2] * 2
    assert {row["split"] for row in training.curve} == {"train"}
    inputs, targets = next(iter(setup.data.epoch(0, 1, 8)))
    before = nn.functional.cross_entropy(setup.model()(inputs), targets)
    assert training.curve[0]["loss"] == pytest.approx(before.item())
    assert training.best is None


@pytest.mark.parametrize("steps", [4, 7])
def test_a_horizon_in_steps_is_given_up_where_the_loss_has_fallen_by_too_little(tmp_path, steps):
    case = make_case(tmp_path)
    whole = [row["loss"] for row in fit(case.setup(horizon_steps=9)).curve]
    fell = whole[0] - sum(whole[steps - 3 : steps]) / 3
    for least, made in ((fell + 1e-4, steps), (fell - 1e-4, 9)):
        rule = {"steps": steps, "last": 3, "drop": least}
        training = fit(case.setup(horizon_steps=9, give_up=rule))
        assert [row["loss"] for row in training.curve] == whole[:made]
        assert training.given_up == (made < 9)
        result = case.run(horizon_steps=9, give_up=rule)
        assert result.status == ("stopped" if made < 9 else "completed") and len(result.curve) == made


def test_the_best_epoch_is_the_highest_score_and_ties_go_to_the_lower_val_loss(tmp_path):
    code = """
script = iter([(0.5, 1.0), (0.7, 0.9), (0.7, 0.6), (0.7, 0.8), (0.6, 0.1)])
def evaluate(model, batches):
    if len(batches) == 1 and not hasattr(evaluate, 'turn'):
        evaluate.turn = 0
    evaluate.turn += 1
    if evaluate.turn % 2:  # the train subset comes first
        return {'loss': 0.0, 'accuracy': 0.0}
    accuracy, loss = next(script)
    return {'loss': loss, 'accuracy': accuracy}
"""
    case = make_case(tmp_path, code, {"train.evaluate": "mine.py:evaluate"})
    training = fit(case.setup(horizon_epochs=5))
    assert (training.best.epoch, training.best.score, training.best.val_loss) == (3, 0.7, 0.6)


def test_monitor_mode_min_turns_the_sign(tmp_path):
    overrides = {"train.monitor": "val_loss", "train.monitor_mode": "min"}
    training = fit(make_case(tmp_path, overrides=overrides).setup(horizon_epochs=3))
    losses = [row["loss"] for row in rows(training, "val")]
    assert training.best.score == -min(losses)
    assert training.best.epoch == 1 + losses.index(min(losses))


def test_an_unknown_monitor_is_refused_with_the_known_ones(tmp_path):
    setup = make_case(tmp_path, overrides={"train.monitor": "val_acuracy"}).setup()
    known = r"\(known: val_loss, val_accuracy, val_balanced_accuracy, "
    message = rf"train\.monitor: 'val_acuracy' is not measured - did you mean 'val_accuracy'\? {known}"
    with pytest.raises(UsageError, match=message):
        fit(setup)


def test_the_users_metric_of_the_whole_split_can_be_monitored(tmp_path):
    code = (
        "def metric(outputs, targets):\n    assert len(outputs) == 20\n    return outputs.argmax(1).eq(targets).sum()\n"
    )
    overrides = {"train.metric": "mine.py:metric", "train.monitor": "val_metric"}
    training = fit(make_case(tmp_path, code, overrides).setup())
    last = rows(training, "val")[-1]
    assert last["metric"] == pytest.approx(last["accuracy"] * 20)
    assert training.best.score == max(row["metric"] for row in rows(training, "val"))


def test_the_users_evaluate_runs_on_train_subset_and_val_and_its_keys_can_be_monitored(tmp_path):
    code = """
def evaluate(model, batches, loss):
    first, again = list(batches), list(batches)
    assert len(first) == len(again) > 0
    n = sum(len(targets) for _, targets in first)
    return {'loss': 0.5, 'examples': n}
"""
    overrides = {"train.evaluate": "mine.py:evaluate", "train.monitor": "val_examples"}
    training = fit(make_case(tmp_path, code, overrides).setup())
    assert [row["examples"] for row in training.curve if row["split"] != "train"] == [20.0] * 4
    assert training.skipped == {"accuracy": "train.evaluate returns none"}
    assert training.best.score == 20


def test_train_mode_is_set_before_each_epoch_and_eval_mode_before_our_evaluation(tmp_path):
    code = """
modes = []
class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
    def forward(self, x):
        modes.append(self.training)
        return self.layer(x)
def build(input_shape, num_classes):
    modes.clear()
    return Net(input_shape[0], num_classes)
"""
    setup = make_case(tmp_path, code, {"model": {"name": "mine.py:build"}}).setup()
    fit(setup)
    modes = setup.functions["model"].__globals__["modes"]
    epoch = [True] * 5 + [False] * 2  # 5 train batches, one batch of each evaluated split
    assert modes == epoch * 2


ACCUMULATE = """
def step(model, batch, loss, optimizer):
    if not hasattr(model, 'seen'):
        model.seen = 0
    inputs, targets = batch
    value = loss(model(inputs), targets)
    (value / 2).backward()
    model.seen += 1
    if model.seen % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
    return value
"""


def test_steps_count_updates_when_the_users_step_accumulates(tmp_path):
    overrides = {"train.step": "mine.py:step", "schedule.name": "linear"}
    training = fit(make_case(tmp_path, ACCUMULATE, overrides).setup(horizon_epochs=2))
    assert training.updates == 5  # 10 batches
    assert [row["step"] for row in rows(training, "val")] == [2, 5]
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 - 5 / 10))


def test_an_accumulating_step_equals_one_with_the_double_batch(tmp_path):
    overrides = {"train.step": "mine.py:step", "train.batch_size": 20}
    halves = fit(make_case(tmp_path / "a", ACCUMULATE, overrides).setup(horizon_epochs=1))
    whole = fit(make_case(tmp_path / "b", "", {"train.batch_size": 40}).setup(horizon_epochs=1))
    pairs = zip(halves.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_a_step_that_returns_nothing_is_refused(tmp_path):
    code = "def step(model, batch, loss, optimizer):\n    optimizer.step()\n"
    with pytest.raises(UserCodeError, match=r"train\.step: must return the loss of the batch, it returned None"):
        fit(make_case(tmp_path, code, {"train.step": "mine.py:step"}).setup())


def test_outputs_that_are_no_class_scores_skip_the_accuracy(tmp_path):
    code = """
class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, x):
        return torch.stack([self.layer(x)] * 2, dim=1)
def build():
    return Twice()
def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs[:, 0], targets)
"""
    overrides = {"model": {"name": "mine.py:build"}, "loss.name": "mine.py:loss", "train.monitor": "val_loss"}
    training = fit(make_case(tmp_path, code, {**overrides, "train.monitor_mode": "min"}).setup())
    assert all("accuracy" not in row for row in training.curve)
    assert "(N, C)" in training.skipped["accuracy"]


def test_a_rate_that_is_far_too_high_diverges_at_the_first_step_with_a_loss_that_is_not_finite(tmp_path):
    overrides = {"optimizer.lr": 1e30, "loss.name": "mse_one_hot"}
    training = fit(make_case(tmp_path, overrides=overrides).setup(horizon_steps=20))
    found = training.diverged
    assert not math.isfinite(found.loss)
    assert [math.isfinite(row["loss"]) for row in training.curve] == [True] * (found.step - 1) + [False]
    assert (found.step, found.epoch) == (training.curve[-1]["step"], 1)


def test_weights_that_become_nan_at_the_last_update_are_a_divergence(tmp_path):
    code = """
def step(model, batch, loss, optimizer):
    value = loss(model(batch[0]), batch[1])
    with torch.no_grad():
        next(model.parameters()).fill_(float('nan'))
    optimizer.step()
    return value
"""
    overrides = {"train.step": "mine.py:step", "train.batch_size": 40}
    training = fit(make_case(tmp_path, code, overrides).setup(horizon_epochs=1))
    assert (training.diverged.step, training.diverged.epoch) == (1, 1)
    assert training.best is None


def test_clip_norm_bounds_the_update_and_the_row_holds_the_norm_before(tmp_path):
    overrides = {"train.clip_norm": 1e-3, "train.batch_size": 40}
    setup = make_case(tmp_path, overrides=overrides).setup(horizon_epochs=1)
    before, training = setup.model(), fit(setup)
    pairs = zip(before.parameters(), training.model.parameters(), strict=True)
    moved = torch.stack([(a - b).square().sum() for a, b in pairs]).sum().sqrt()
    assert float(moved.detach()) == pytest.approx(0.1 * 1e-3, rel=1e-3)

    inputs, targets = next(iter(setup.data.epoch(0, 1, 40)))
    nn.functional.cross_entropy(before(inputs), targets).backward()
    norm = torch.cat([p.grad.flatten() for p in before.parameters()]).norm()
    assert rows(training, "train")[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-5)


def test_the_global_generators_are_seeded_for_each_epoch(tmp_path):
    code = """
import random
import numpy
def step(model, batch, loss, optimizer):
    draws.append((torch.rand(1).item(), numpy.random.rand(), random.random()))
    return loss(model(batch[0]), batch[1])
draws = []
"""
    setup = make_case(tmp_path, code, {"train.step": "mine.py:step", "train.batch_size": 40}).setup(seed=3)
    fit(setup)
    draws = setup.train_step.fn.__globals__["draws"]
    torch.manual_seed(derive_seed(3, "dropout", 2))
    assert draws[1][0] == torch.rand(1).item()
    first = list(draws)
    draws.clear()
    torch.rand(3)
    fit(setup)
    assert draws == first


def test_plateau_scheduler_is_told_the_val_loss_after_each_epoch(tmp_path):
    code = "def evaluate(model):\n    return {'loss': 1.0, 'accuracy': 0.5}\n"
    schedule = {"name": "torch.optim.lr_scheduler.ReduceLROnPlateau", "every": "epoch", "patience": 0, "factor": 0.5}
    case = make_case(tmp_path, code, {"train.evaluate": "mine.py:evaluate", "schedule": schedule})
    training = fit(case.setup(horizon_epochs=4))
    assert [row["lr"] for row in rows(training, "train")] == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_bf16_trains_close_to_fp32_and_keeps_its_weights_in_fp32(tmp_path):
    exact = fit(make_case(tmp_path).setup(horizon_epochs=3))
    rough = fit(make_case(tmp_path).setup(horizon_epochs=3, precision="bf16"))
    a, b = (rows(training, "train")[-1]["loss"] for training in (exact, rough))
    assert a != b and a == pytest.approx(b, rel=0.05)
    assert {item.dtype for item in rough.model.parameters()} == {torch.float32}


def test_fp16_with_its_scaler_trains_close_to_fp32(tmp_path):
    exact = fit(make_case(tmp_path).setup(horizon_epochs=3))
    rough = fit(make_case(tmp_path).setup(horizon_epochs=3, precision="fp16"))
    a, b = (rows(training, "train")[-1]["loss"] for training in (exact, rough))
    assert a != b and a == pytest.approx(b, rel=0.05)
    assert rough.scaler.is_enabled() and not exact.scaler.is_enabled()


def test_default_step_makes_the_update_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.weight.grad = torch.tensor([[100.0]])  # left over: must not count
    batch = (torch.tensor([[2.0]]), torch.tensor([[4.0]]))
    value = default_step(model, batch, nn.functional.mse_loss, optimizer)
    assert value.item() == 4.0  # (2 * 3 - 4)^2
    assert model.weight.item() == pytest.approx(3.0 - 0.1 * 2 * 2 * 2)


def test_tape_weights_the_loss_by_examples_and_finds_the_first_that_is_not_finite():
    tape = Tape()
    for step, (loss, size) in enumerate([(1.0, 3), (3.0, 1), (math.inf, 2), (math.nan, 2)], 1):
        tape.write(torch.tensor(loss), size, step, 0.1)
        if step == 2:
            assert not tape.is_bad()
            assert tape.summary() == {"loss": 1.5, "lr": 0.1}
            assert tape.divergence(1) is None
    assert tape.is_bad()
    assert (tape.divergence(4).step, tape.divergence(4).loss) == (3, math.inf)
    assert [row["step"] for row in tape.rows(4)] == [1, 2, 3]
