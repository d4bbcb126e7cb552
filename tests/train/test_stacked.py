"""Trials trained as one stack, against the same trials each by itself: equal to the last bit, whatever befalls them."""

import copy
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import EnvironmentProblem
from tuner.core.trial import TrialSpec, WorkItem, apply_overrides
from tuner.train.setup import make_setup
from tuner.train.stacked import layers, proof, run, stack
from tuner.train.stacked.layers import Unstackable, chain_of
from tuner.train.stacked.proof import measured
from tuner.train.stacked.run import run_stack
from tuner.train.stacked.updates import Update
from tuner.train.state import start
from tuner.train.trial import run_trial

RATES = (0.3, 0.02, 1e8, 0.1, 0.005)  # the third diverges
REAL = "\ndef real():\n    (x, y), (v, w) = load()\n    return (x, x.sum(1) + 0.1 * y), (v, v.sum(1) + 0.1 * w)\n"


def items_of(case, epochs=3, until=None, rates=RATES, **fields):
    """A trial per rate, every other one with another seed."""
    return [
        WorkItem(
            TrialSpec(
                apply_overrides(case.tables, {"optimizer.lr": lr}),
                {"optimizer.lr": lr},
                seed=number % 2,
                horizon_epochs=epochs,
                **fields,
            ),
            number,
            until,
        )
        for number, lr in enumerate(rates)
    ]


def apart(case, name):
    """The environment of a stage of its own."""
    return replace(case.env, stage_dir=case.folder / name)


def files_of(env):
    folder = env.stage_dir / "checkpoints"
    return {path.name: torch.load(path) for path in sorted(folder.iterdir())} if folder.exists() else {}


def assert_equal(one, other):
    """Assert that two files hold the same, tensors to the last bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for part, twin in zip(one, other, strict=True):
            assert_equal(part, twin)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def text_of(result):
    return json.dumps(without_clock(result), sort_keys=True)


def assert_same(items, case, both=("alone", "stacked")):
    """Run the items both ways; assert that results and files are equal. Returns the results of the stack by number."""
    alone, stacked = (apart(case, name) for name in both)
    ours = {result.id: result for result in run_stack(items, stacked)}
    assert len(ours) == len(items)
    for item in items:
        assert text_of(ours[item.spec.id]) == text_of(run_trial(item, alone))
    assert_equal(files_of(stacked), files_of(alone))
    return [ours[item.spec.id] for item in items]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}},
        {"optimizer": {"name": "sgd", "lr": 0.1, "groups": "no_decay_on_norms", "weight_decay": 0.1}},
        {"optimizer": {"name": "adam", "lr": 0.1, "amsgrad": True, "betas": [0.8, 0.9]}, "schedule.name": "cosine"},
        {"optimizer": {"name": "adamw", "lr": 0.1, "weight_decay": 0.1}, "schedule.name": "one_cycle"},
        {"optimizer": {"name": "rmsprop", "lr": 0.1}, "train.clip_norm": 0.5},
        {"schedule": {"name": "plateau", "patience": 0}, "train.patience": 1},
        {"loss": {"name": "cross_entropy", "label_smoothing": 0.1, "weight": [0.2, 1.0, 5.0]}},
        {"loss": {"name": "focal", "gamma": 1.5}, "model.activation": "gelu", "model.depth": 3},
        {"data.source": "mine.py:images", "data.normalize": "scale", "model.init": "kaiming_normal"},
        {"data.source": "mine.py:real", "data.task": "regression", "loss.name": "mse", "train.batch_size": 7},
        {"data.sampler": "balanced", "train.batch_size": 13, "train.monitor": "macro_f1"},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items())[:60],
)
def test_a_stack_gives_each_trial_what_it_gives_by_itself(tmp_path, changes):
    assert_same(items_of(make_case(tmp_path, REAL, changes)), make_case(tmp_path, REAL, changes))


def test_a_trial_that_diverges_does_not_touch_the_others(tmp_path):
    case = make_case(tmp_path, overrides={"optimizer.momentum": 0.9})
    results = assert_same(items_of(case), case)
    assert [result.status for result in results] == ["completed", "completed", "diverged", "completed", "completed"]
    assert results[2].evidence["diverged"]["loss"] in ("nan", "inf")


def test_trials_of_a_stack_may_have_other_optimizers_schedules_and_lengths(tmp_path):
    case = make_case(tmp_path)
    first, second, third = items_of(case, rates=RATES[:2]) + items_of(case, epochs=5, rates=RATES[3:4])
    tables = apply_overrides(second.spec.tables, {"optimizer": {"name": "adam", "lr": 0.01}, "schedule.name": "cosine"})
    second = WorkItem(replace(second.spec, tables=tables), 1)
    results = assert_same([first, second, third], case)
    assert [result.curve[-1]["epoch"] for result in results] == [3, 3, 5]


def test_who_else_is_in_the_stack_makes_no_difference(tmp_path):
    case = make_case(tmp_path)
    items = items_of(case, rates=RATES[:2] + RATES[3:])
    found = []
    for number, group in enumerate((items, items[1:3], items[2::-1])):
        results = {result.id: text_of(result) for result in run_stack(group, apart(case, f"stage {number}"))}
        found.append(results[items[1].spec.id])
    assert found[0] == found[1] == found[2]


def test_rungs_go_on_from_what_a_stack_has_saved_and_the_other_way_round(tmp_path):
    case = make_case(tmp_path, overrides={"optimizer": {"name": "adamw", "lr": 0.1}, "schedule.name": "cosine"})
    rung = items_of(case, epochs=4, until=2, rates=RATES[:2] + RATES[3:])
    assert {result.status for result in assert_same(rung, case)} == {"stopped"}  # their saved states are equal, too
    kept = [replace(item, until_epoch=None) for item in rung[1:]]
    crossed = (apart(case, "stacked"), apart(case, "alone"))
    alone = [text_of(run_trial(item, crossed[0])) for item in kept]
    assert [text_of(result) for result in run_stack(kept, crossed[1])] == alone
    assert_equal(files_of(crossed[0]), files_of(crossed[1]))


def test_trials_at_different_epochs_share_a_stack(tmp_path):
    case = make_case(tmp_path)
    first, second = items_of(case, epochs=4, rates=RATES[:2])
    for name in ("alone", "stacked"):
        run_trial(replace(first, until_epoch=3), apart(case, name))
    assert_same([first, second], case)


def test_a_saved_state_is_no_larger_than_that_of_a_trial_by_itself(tmp_path):
    case = make_case(tmp_path, overrides={"model.width": 64})
    items = items_of(case, until=1)
    list(run_stack(items, apart(case, "stacked")))
    run_trial(items[0], apart(case, "alone"))
    sizes = [
        (case.folder / name / "checkpoints" / f"{items[0].spec.id}.state.pt").stat().st_size
        for name in ("alone", "stacked")
    ]
    assert sizes[1] <= sizes[0] * 1.01


def test_a_state_that_cannot_be_gone_on_from_is_told_and_dropped(tmp_path):
    case = make_case(tmp_path)
    items, env = items_of(case, rates=RATES[:2]), apart(case, "stacked")
    where = env.stage_dir / "checkpoints" / f"{items[1].spec.id}.state.pt"
    where.parent.mkdir(parents=True)
    where.write_bytes(b"torn")
    news = []
    assert_same(items, case)
    where.write_bytes(b"torn")
    list(run_stack(items, env, news.append))
    assert [one.number for one in news if one.lasting and "trial 1 starts over" in one.note] == [1]


def test_trials_tell_how_far_they_are_and_give_their_curves_rows(tmp_path):
    case = make_case(tmp_path)
    items, news = items_of(case, rates=RATES[:2]), []
    list(run_stack(items, case.env, news.append))
    for item in items:
        mine = [one for one in news if one.number == item.number]
        assert mine[-1].fraction == 1.0 and mine[-1].note.startswith("epoch 3/3 val ")
        assert [row["epoch"] for one in mine for row in one.rows if row["split"] == "val"] == [1, 2, 3]


def test_the_shares_of_time_add_up_to_that_of_the_stack(tmp_path):
    case = make_case(tmp_path)
    clock = time.perf_counter()
    results = list(run_stack(items_of(case), case.env))
    took = time.perf_counter() - clock
    assert 0.5 * took < sum(result.wall_seconds for result in results) <= took


def test_arithmetic_that_differs_by_a_bit_is_found_before_anything_is_trained(tmp_path, monkeypatch):
    case = make_case(tmp_path)
    exact = layers.Linear.forward

    def off_by_a_bit(self, inputs):
        outputs = exact(self, inputs)
        outputs[-1, 0, 0] = torch.nextafter(outputs[-1, 0, 0], torch.tensor(9.0))
        return outputs

    monkeypatch.setattr(layers.Linear, "forward", off_by_a_bit)
    with pytest.raises(Unstackable, match="the arithmetic of a stack differs from that of a trial by itself"):
        list(run_stack(items_of(case), case.env))
    assert files_of(case.env) == {}


def test_what_raises_in_a_stack_sends_its_trials_apart_after_those_that_are_done(tmp_path, monkeypatch):
    case = make_case(tmp_path)
    one, two, short = [*items_of(case, rates=RATES[:2]), *items_of(case, epochs=1, rates=RATES[3:4])]
    calls = []

    def fails_later(members):
        calls.append(members)
        if len(calls) > 1:
            raise RuntimeError("no room for this\nand more")
        return stack.Stack(members)

    monkeypatch.setattr(run, "Stack", fails_later)
    results = run_stack([one, two, short], case.env)
    assert next(results).id == short.spec.id
    with pytest.raises(Unstackable, match="^no room for this$"):
        next(results)


def test_a_full_disk_ends_the_command_as_with_single_trials(tmp_path, monkeypatch):
    case = make_case(tmp_path)

    def full(*args):
        raise EnvironmentProblem("no space left")

    monkeypatch.setattr(run, "concluded", full)
    with pytest.raises(EnvironmentProblem, match="no space left"):
        list(run_stack(items_of(case), case.env))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), "Conv2d has no stacked form"),
        (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)), "BatchNorm1d has no stacked form"),
        (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)), "Dropout has no stacked form"),
        (torch.nn.Sequential(torch.nn.Flatten(0)), "Flatten has no stacked form"),
        (torch.nn.Sequential(torch.nn.ReLU()), "the model has no weights"),
        (torch.nn.Sequential(*[torch.nn.Linear(4, 4)] * 2), "layers of the model share weights"),
        (torch.nn.Sequential(torch.nn.Linear(4, 4).double()), "weights are frozen, or not float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_without_a_stacked_form_is_refused_with_the_reason(model, why):
    with pytest.raises(Unstackable, match=f"^{why}$"):
        chain_of(model)


def test_a_model_with_a_hook_or_of_another_kind_than_a_chain_is_refused():
    hooked = torch.nn.Sequential(torch.nn.Linear(4, 4))
    hooked[0].register_forward_hook(lambda *args: None)
    with pytest.raises(Unstackable, match="a hook is registered on Linear"):
        chain_of(hooked)

    class Own(torch.nn.Sequential):
        def forward(self, inputs):
            return super().forward(inputs) * 2

    with pytest.raises(Unstackable, match="Own has no stacked form"):
        chain_of(Own(torch.nn.Linear(4, 4)))


def test_only_the_kernel_of_an_optimizer_is_called_from_the_second_update_on(tmp_path, monkeypatch):
    training = start(make_case(tmp_path, overrides={"optimizer.momentum": 0.9}).setup())
    for item in training.model.parameters():
        item.grad = torch.ones_like(item)
    steps = []
    monkeypatch.setattr(training.optimizer, "step", lambda step=training.optimizer.step: (steps.append(1), step()))
    update = Update(training)
    for _ in range(3):
        update()
    assert (len(steps), training.updates) == (1, 3)


def test_an_optimizer_that_something_else_listens_to_makes_its_steps_itself(tmp_path, monkeypatch):
    training = start(make_case(tmp_path).setup())
    heard = []
    training.optimizer.register_step_pre_hook(lambda *args: heard.append(1))
    for item in training.model.parameters():
        item.grad = torch.ones_like(item)
    update = Update(training)
    for _ in range(3):
        update()
    assert (len(heard), training.updates) == (3, 3)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data.source": "mine.py:images", "model": {"name": "convnet"}}, "Conv2d has no stacked form"),
        ({"train.ema": 0.9}, "train.ema"),
        ({"train.batch_size": 1}, "a batch is one example"),
        ({"model.width": 1000, "model.depth": 2}, "a model of 1,009,003 weights is not held up by calls"),
        ({"optimizer.name": "lbfgs"}, "optimizer 'lbfgs'"),
    ],
)
def test_preflight_says_why_trials_are_not_stacked(tmp_path, changes, why):
    case = make_case(tmp_path, overrides=changes)
    assert measured(make_setup(case.spec(), case.env)).why == why


def test_preflight_does_not_try_to_stack_what_takes_its_time_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "LONG_SECONDS", 0.0)
    why = measured(make_case(tmp_path).setup()).why
    assert re.fullmatch(r"a training step of \d+ ms is not held up by calls", why)


def test_preflight_measures_what_a_stack_gives(tmp_path):
    found = measured(make_case(tmp_path).setup())
    assert found.times_as_fast > 0 and (found.size > 1) == (found.why == "")


def test_a_stacked_product_is_that_of_each_pair_to_the_last_bit_whatever_the_shapes():
    draws = random.Random(0)
    sizes = (1, 2, 3, 7, 8, 10, 13, 16, 30, 54, 64, 100)
    for _ in range(300):
        count, rows, common, columns = draws.choice((1, 2, 3, 8)), *(draws.choice(sizes) for _ in range(3))
        rows += rows == 1  # a batch of one example is in no stack
        layer = [torch.nn.Linear(common, columns) for _ in range(count)]
        alone = [copy.deepcopy(one) for one in layer]
        (linear,) = layers.stacked([torch.nn.Sequential(one) for one in layer])
        inputs = torch.randn(count, rows, common, requires_grad=True)
        weights = torch.randn(count, rows, columns)
        outputs = linear(inputs)
        outputs.backward(weights)
        for k, one in enumerate(alone):
            own = inputs[k].detach().clone().requires_grad_()
            by_itself = one(own)
            by_itself.backward(weights[k].clone())
            where = f"{count}, {rows}, {common}, {columns}: {k}"
            assert torch.equal(outputs[k], by_itself) and torch.equal(inputs.grad[k], own.grad), where
            assert torch.equal(layer[k].weight.grad, one.weight.grad), where
            assert torch.equal(layer[k].bias.grad, one.bias.grad), where


@pytest.mark.parametrize("kind", layers.ELEMENTWISE, ids=lambda kind: kind.__name__)
def test_a_stacked_activation_is_that_of_each_trial_to_the_last_bit(kind):
    for shape in ((3, 7, 10), (5, 64, 16), (2, 13, 26)):
        inputs, grad = (4 * torch.randn(shape)).requires_grad_(), torch.randn(shape)
        outputs = layers.Elementwise(kind())(inputs)
        outputs.backward(grad)
        for k in range(shape[0]):
            own = inputs[k].detach().clone().requires_grad_()
            by_itself = kind()(own)
            by_itself.backward(grad[k].clone())
            assert torch.equal(outputs[k], by_itself) and torch.equal(inputs.grad[k], own.grad)


def test_a_stack_loads_nothing_that_a_trial_by_itself_does_not_need(tmp_path):
    code = (
        "import sys, tuner.execute.preload\n"
        "from pathlib import Path\n"
        "from tests.train.test_stacked import items_of\n"
        "from tests.train.training_cases import make_case\n"
        "from tuner.train.stacked.run import run_stack\n"
        f"case = make_case(Path({str(tmp_path)!r}))\n"
        "assert len(list(run_stack(items_of(case), case.env))) == 5\n"
        "print(sorted({'sympy', 'torch._dynamo.eval_frame'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
