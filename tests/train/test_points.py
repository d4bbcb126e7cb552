"""The points in the step: penalties, after an update, weights for evaluation, parameter groups, and the train keys."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from tests.train.training_cases import NORM_NET, make_case, without_clock
from tuner.core.errors import UsageError, UserCodeError
from tuner.core.store import StageDir
from tuner.core.streams import derive_seed
from tuner.train import checkpoint
from tuner.train.loop import fit


def plain_loop(setup, epochs, penalty=lambda model: 0.0, after=lambda model: None, after_epoch=lambda model: None):
    """Train with torch alone on the batches that tuner gives."""
    model = setup.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(1, epochs + 1):
        model.train()
        for inputs, targets in setup.data.epoch(0, epoch, setup.batch_size):
            optimizer.zero_grad()
            (nn.functional.cross_entropy(model(inputs), targets) + penalty(model)).backward()
            optimizer.step()
            after(model)
        after_epoch(model)
    return model


def assert_same(found, expected, **tolerance):
    for name, item in expected.items():
        torch.testing.assert_close(found[name], item, **tolerance)


def weights_of(model):
    return [item for item in model.parameters() if item.ndim > 1]


def test_l1_trains_as_a_loop_that_adds_the_sum_of_absolute_weights(tmp_path):
    setup = make_case(tmp_path, overrides={"train.l1": 0.01}).setup(horizon_epochs=2)
    model = plain_loop(setup, 2, lambda model: 0.01 * sum(item.abs().sum() for item in weights_of(model)))
    assert_same(fit(setup).model.state_dict(), model.state_dict(), rtol=1e-5, atol=1e-6)


def test_max_norm_trains_as_a_loop_that_renorms_each_unit_with_torch(tmp_path):
    setup = make_case(tmp_path, overrides={"train.max_norm": 0.5}).setup(horizon_epochs=2)

    @torch.no_grad()
    def renorm(model):
        for item in weights_of(model):
            item.copy_(torch.renorm(item, 2, 0, 0.5))

    model = plain_loop(setup, 2, after=renorm)
    assert max(float(item.norm(dim=1).max()) for item in weights_of(model)) <= 0.5 + 1e-5
    assert_same(fit(setup).model.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-5)


def test_max_norm_leaves_frozen_weights_as_they_are(tmp_path):
    overrides = {"train.max_norm": 0.1, "finetune": {"way": "head"}}
    setup = make_case(tmp_path, overrides=overrides).setup(horizon_epochs=1)
    body, head = weights_of(fit(setup).model)
    assert torch.equal(body, weights_of(setup.model())[0])
    assert float(head.norm(dim=1).max()) <= 0.1 + 1e-6


def test_ema_without_warm_up_keeps_the_average_that_torch_computes(tmp_path):
    part = {"name": "ema", "decay": 0.9, "warmup": False}
    case = make_case(tmp_path, NORM_NET)
    tables = {**case.tables, "model": {"name": "mine.py:net"}}
    tables["train"] = {**tables["train"], "weights_for_evaluation": part}
    setup = type(case)(case.folder, tables).setup(horizon_epochs=1)
    averaged = []

    def update(model):
        if not averaged:
            kind = get_ema_multi_avg_fn(0.9)
            averaged.append(AveragedModel(model, multi_avg_fn=kind, use_buffers=True))
        averaged[0].update_parameters(model)

    model = plain_loop(setup, 1, after=update)
    training = fit(setup)
    expected = averaged[0].module.state_dict()
    for name in ("0.weight", "1.running_mean", "1.running_var", "3.bias"):
        torch.testing.assert_close(training.best.weights[name], expected[name], rtol=1e-4, atol=1e-5)
    assert_same(training.model.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-5)  # training itself is not touched


def test_ema_warms_up_so_that_the_first_average_is_not_the_init(tmp_path):
    training = fit(make_case(tmp_path, overrides={"train.ema": 0.9999}).setup(horizon_epochs=1))
    start = make_case(tmp_path).setup().model().state_dict()
    last = training.model.state_dict()["1.weight"]
    moved = (training.best.weights["1.weight"] - start["1.weight"]).norm() / (last - start["1.weight"]).norm()
    assert moved > 0.3  # without the warm-up: 5 updates of 1e-4


def test_swa_evaluates_the_mean_of_the_last_epochs_with_batch_norm_taken_anew(tmp_path):
    case = make_case(tmp_path, NORM_NET)
    tables = {**case.tables, "model": {"name": "mine.py:net"}, "train": {**case.tables["train"], "swa": 0.5}}
    setup = type(case)(case.folder, tables).setup(horizon_epochs=4)
    averaged, epoch = [], [0]

    def after_epoch(model):
        epoch[0] += 1
        if epoch[0] > 2:
            if not averaged:
                averaged.append(AveragedModel(model))
            averaged[0].update_parameters(model)

    plain_loop(setup, 4, after_epoch=after_epoch)
    update_bn(setup.data.mixed_batches(setup.batch_size, derive_seed(0, "statistics")), averaged[0])
    training = fit(setup)
    averaged[0].eval()
    inputs, targets = setup.data.normalise(setup.data.inputs("val")), setup.data.targets("val")
    with torch.no_grad():
        loss = nn.functional.cross_entropy(averaged[0](inputs), targets)
    assert training.curve[-1]["loss"] == pytest.approx(float(loss), rel=1e-4)


SORTED = """
def net(input_shape, num_classes):
    return nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, num_classes))
def by_class():
    def draw(n):
        targets = torch.arange(n) // (n // 3)
        return 10.0 * targets[:, None] + torch.randn(n, 1, generator=torch.Generator().manual_seed(0)), targets
    return draw(48), draw(12)
"""


def test_swa_takes_batch_norms_statistics_over_mixed_classes_where_train_is_sorted_by_class(tmp_path):
    overrides = {"data.source": "mine.py:by_class", "model": {"name": "mine.py:net"}}
    setup = make_case(tmp_path, SORTED, {**overrides, "train.swa": 0.0, "train.batch_size": 16}).setup(horizon_epochs=1)
    weights = fit(setup).best.weights
    whole = setup.data.inputs("train")  # within a class the variance is 1, over all about 68
    torch.testing.assert_close(weights["0.running_mean"], whole.mean(0))
    torch.testing.assert_close(weights["0.running_var"], whole.var(0), rtol=0.15, atol=0)


def test_swa_of_a_net_with_batch_norm_does_without_a_last_batch_of_one_example(tmp_path):
    overrides = {"data.args": {"train": 41}, "model": {"name": "mine.py:net"}, "train.swa": 0.0}
    assert make_case(tmp_path, NORM_NET, overrides).run(horizon_epochs=1).status == "completed"


def test_swa_leaves_the_statistics_of_frozen_batch_norm_as_they_were_loaded(tmp_path):
    overrides = {"model": {"name": "mine.py:net"}, "finetune": {"way": "head"}, "train.swa": 0.0}
    setup = make_case(tmp_path, NORM_NET, overrides).setup(horizon_epochs=2)
    weights, before = fit(setup).best.weights, setup.model().state_dict()
    assert all(torch.equal(weights[f"1.{name}"], before[f"1.{name}"]) for name in ("running_mean", "running_var"))


def test_accumulated_batches_make_the_update_of_one_large_batch(tmp_path):
    large = make_case(tmp_path / "large", overrides={"train.batch_size": 24}).setup(horizon_epochs=2)
    small = make_case(tmp_path / "small", overrides={"train.accumulate": 3}).setup(horizon_epochs=2)
    one, other = fit(large), fit(small)  # 40 examples: 24 + 16 against 3 x 8 + 2 x 8
    assert (one.updates, other.updates) == (4, 4)
    assert_same(other.model.state_dict(), one.model.state_dict(), rtol=1e-4, atol=1e-6)
    for row, expected in zip(other.curve, one.curve, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert row["accuracy"] == pytest.approx(expected["accuracy"])


@pytest.mark.parametrize(
    "loss",
    [{"name": "cross_entropy", "weight": [0.1, 1.0, 9.0]}, {"name": "torch.nn.NLLLoss", "ignore_index": 2}],
    ids=["factors", "a class that is left out"],
)
def test_accumulation_shares_by_what_the_loss_divides_by(tmp_path, loss):
    alone = "def log_net():\n    return nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1))\n"
    sorted_rows = """
def by_class():
    (x, y), val = load()
    order = y.argsort()
    return (x[order], y[order]), val
def in_order(targets):
    return torch.arange(len(targets))
"""
    common = {"data.source": "mine.py:by_class", "data.sampler": "mine.py:in_order", "loss": loss}
    common["model"] = {"name": "mine.py:log_net"}
    found = []
    for name, size, accumulate in (("a", 40, 1), ("b", 10, 4)):  # the last ten are all of the last class
        overrides = {**common, "train.batch_size": size, "train.accumulate": accumulate}
        found.append(fit(make_case(tmp_path / name, alone + sorted_rows, overrides).setup(horizon_epochs=2)))
    assert_same(found[1].model.state_dict(), found[0].model.state_dict(), rtol=1e-4, atol=1e-6)
    assert found[1].curve[0]["loss"] == pytest.approx(found[0].curve[0]["loss"], rel=1e-5)


def test_accumulation_shares_a_short_last_batch_by_its_examples(tmp_path):
    large = make_case(tmp_path / "a", overrides={"train.batch_size": 40}).setup(horizon_epochs=2)
    small = make_case(tmp_path / "b", overrides={"train.batch_size": 15, "train.accumulate": 3}).setup(horizon_epochs=2)
    assert_same(fit(small).model.state_dict(), fit(large).model.state_dict(), rtol=1e-4, atol=1e-6)


def test_the_schedule_counts_updates_not_batches_under_accumulation(tmp_path):
    overrides = {"train.accumulate": 2, "schedule.name": "linear"}
    training = fit(make_case(tmp_path, overrides=overrides).setup(horizon_epochs=2))  # 5 batches: 3 updates an epoch
    assert training.updates == training.schedule_steps == 6
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_patience_ends_the_trial_and_calls_it_completed(tmp_path):
    overrides = {"train.patience": 2, "optimizer.lr": 1e-12}  # nothing gets better after the first epoch
    result = make_case(tmp_path, overrides=overrides).run(horizon_epochs=9)
    assert (result.status, result.best_epoch) == ("completed", 1)
    assert max(row["epoch"] for row in result.curve) == 3


def test_a_trial_that_gave_up_is_not_trained_on_when_more_epochs_are_asked_for(tmp_path):
    case = make_case(tmp_path, overrides={"train.patience": 2, "optimizer.lr": 1e-12})
    assert case.run(until=2, horizon_epochs=9).status == "stopped"
    assert without_clock(case.run(until=5, horizon_epochs=9)) == without_clock(case.run(horizon_epochs=9))


HOOKS = """
def pull(model, outputs, strength=0.01):
    return strength * outputs.square().mean()

def shrink(model, step):
    with torch.no_grad():
        model[1].bias.mul_(0.9)

class Mean:
    def __init__(self, share=0.5):
        self.share, self.kept = share, {}
    def after_update(self, model, step):
        for name, item in model.state_dict().items():
            self.kept[name] = item.clone() if step == 1 else self.kept[name].lerp(item, self.share)
    def weights_for_evaluation(self, model):
        return self.kept
    def state_dict(self):
        return {"kept": self.kept}
    def load_state_dict(self, state):
        self.kept = state["kept"]

def head_only(model, table):
    return [{"params": list(model[3].parameters()), "lr": table["lr"] * 2, "weight_decay": 0.1}]
"""
ALL = {
    "train.penalty": ["mine.py:pull", {"name": "elastic", "factor": 1e-4}],
    "train.after_update": ["mine.py:shrink", "max_norm"],
    "train.weights_for_evaluation": ["mine.py:Mean", {"name": "swa", "start": 0.5}],
    "train.ema": 0.9,
    "train.accumulate": 2,
    "optimizer.groups": ["mine.py:head_only", "no_decay_on_norms"],
    "optimizer.momentum": 0.9,
}


def test_one_and_four_epochs_are_five_with_every_point_in_use(tmp_path):
    parts, whole = make_case(tmp_path / "parts", HOOKS, ALL), make_case(tmp_path / "whole", HOOKS, ALL)
    assert parts.run(until=1, horizon_epochs=5).status == "stopped"
    assert without_clock(parts.run(horizon_epochs=5)) == without_clock(whole.run(horizon_epochs=5))
    one, other = (
        checkpoint.load(StageDir(case.stage_dir).checkpoint(case.spec(horizon_epochs=5).id))["model"]
        for case in (parts, whole)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_twice_with_every_point_gives_the_same_numbers(tmp_path):
    case = make_case(tmp_path, HOOKS, ALL)
    assert fit(case.setup(horizon_epochs=2)).curve == fit(case.setup(horizon_epochs=2)).curve


def test_keys_that_are_off_leave_no_trace_in_a_trials_id(tmp_path):
    off = {"train.l1": None, "train.accumulate": 1, "train.ema": None, "optimizer.groups": None, "train.patience": None}
    assert make_case(tmp_path, overrides=off).spec().id == make_case(tmp_path).spec().id
    assert make_case(tmp_path, overrides={"train.l1": 1e-3}).spec().id != make_case(tmp_path).spec().id


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.penalty": "l3"}, r"train\.penalty: unknown penalty 'l3' .known: confidence, elastic, l1"),
        (
            {"train.penalty": {"name": "l1", "factr": 1}},
            r"train\.penalty\.factr: l1\(\) takes no such argument.*factor",
        ),
        ({"train.penalty": {"factor": 1}}, r"train\.penalty: a table needs a name"),
        ({"train.after_update": "maxnorm"}, r"train\.after_update: unknown after_update 'maxnorm'.*max_norm"),
        ({"train.weights_for_evaluation": "emma"}, r"unknown weights_for_evaluation 'emma'.*ema"),
        ({"optimizer.groups": "head"}, r"optimizer\.groups: unknown param_groups 'head'"),
        (
            {"optimizer.groups": {"name": "head_lr", "by": 3}},
            r"optimizer\.groups\.by: head_lr\(\) takes no such argument",
        ),
        ({"train.step": "mine.py:pull", "train.l1": 1e-3}, r"train\.l1: has no effect on train\.step"),
        ({"train.step": "mine.py:pull", "train.accumulate": 2}, r"train\.accumulate: has no effect on train\.step"),
        ({"train.step": "mine.py:pull", "train.clip_norm": 1.0}, r"train\.clip_norm: has no effect on train\.step"),
        ({"train.step": "mine.py:pull", "teacher": {"mean_teacher": 0.9}}, r"^teacher: has no effect on train\.step"),
        (
            {"train.step": "mine.py:pull", "loss": [{"name": "cross_entropy"}, {"name": "center"}]},
            r"loss: center, which is taken of features, has no effect on train\.step",
        ),
    ],
)
def test_a_point_that_is_named_wrongly_is_refused_before_anything_runs(tmp_path, overrides, message):
    with pytest.raises(UsageError, match=message):
        make_case(tmp_path, HOOKS, overrides).setup()


@pytest.mark.parametrize(
    ("code", "overrides", "message"),
    [
        (
            "def bad(model, outputs):\n    return outputs",
            {"train.penalty": "mine.py:bad"},
            "must return a scalar tensor",
        ),
        (
            "def bad(model):\n    return {'x': 1}",
            {"train.weights_for_evaluation": "mine.py:bad"},
            "must return the model's state dict or None",
        ),
        ("def bad(model, table):\n    return 3", {"optimizer.groups": "mine.py:bad"}, "must return a list of groups"),
        (
            "def bad(model, table):\n    return [{'params': [torch.ones(2)]}]",
            {"optimizer.groups": "mine.py:bad"},
            "a group holds a tensor that is no parameter",
        ),
    ],
)
def test_what_a_users_part_returns_is_checked(tmp_path, code, overrides, message):
    with pytest.raises(UserCodeError, match=message):
        fit(make_case(tmp_path, code, overrides).setup(horizon_epochs=1))


def test_lbfgs_lowers_the_loss_through_the_built_in_step(tmp_path):
    overrides = {"optimizer.name": "lbfgs", "optimizer.line_search_fn": "strong_wolfe", "train.batch_size": 40}
    training = fit(make_case(tmp_path, overrides=overrides).setup(horizon_epochs=3))
    losses = [row["loss"] for row in training.curve if row["split"] == "train"]
    assert training.updates == 3 and losses[-1] < losses[0] / 2
