import pytest
import torch
from torch import nn

from tests.checks.probe_models import mlp, zero
from tuner.checks.fresh_gradients.measure import fresh_gradients
from tuner.checks.gradient_seen.measure import gradient_seen
from tuner.checks.one_step.measure import one_step
from tuner.checks.tools.frame import CannotProbe
from tuner.checks.weight_decay.measure import weight_decay


def step_without(*left_out):
    def step(model, batch, loss, optimizer):
        if "zero" not in left_out:
            optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        if "backward" not in left_out:
            value.backward()
        if "step" not in left_out:
            optimizer.step()
        return value

    return step


def test_fresh_gradients_are_equal_at_each_update(setup_of, blobs):
    assert fresh_gradients(setup_of(blobs(), mlp())).ratios == pytest.approx([1, 1, 1], abs=1e-4)


def test_fresh_gradients_add_up_without_zero_grad(setup_of, blobs):
    found = fresh_gradients(setup_of(blobs(), mlp(), train_step=step_without("zero")))
    assert found.ratios == pytest.approx([1, 2, 3], abs=1e-3)


def test_fresh_gradients_are_equal_when_accumulating_on_purpose(setup_of, blobs):
    calls = []

    def accumulate(model, batch, loss, optimizer):
        value = loss(model(batch[0]), batch[1])
        (value / 2).backward()
        calls.append(1)
        if len(calls) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return value

    found = fresh_gradients(setup_of(blobs(), mlp(), train_step=accumulate))
    assert found.ratios == pytest.approx([1, 1, 1], abs=1e-4)
    assert len(calls) == 6


def test_one_step_moves_everything_in_a_sound_model(setup_of, blobs):
    found = one_step(setup_of(blobs(), mlp()))
    assert found.updates == 4
    assert found.moved == 4
    assert not found.not_moved and not found.no_gradient and not found.zero_gradient and not found.frozen
    assert found.momentum == 0.0


def test_one_step_reads_the_largest_momentum(setup_of, blobs):
    assert one_step(setup_of(blobs(), mlp(), optimizer_table={"momentum": 1.25})).momentum == 1.25
    assert one_step(setup_of(blobs(), mlp(), optimizer=torch.optim.Adam)).momentum == 0.0


def test_one_step_counts_no_update_without_optimizer_step(setup_of, blobs):
    assert one_step(setup_of(blobs(), mlp(), train_step=step_without("step"))).updates == 0


def test_one_step_moves_nothing_without_backward(setup_of, blobs):
    found = one_step(setup_of(blobs(), mlp(), train_step=step_without("backward")))
    assert (found.updates, found.moved) == (4, 0)
    assert len(found.no_gradient) == 4


class Branches(nn.Module):
    """One branch is detached, one opens after a zero-initialised gain, one is frozen."""

    def __init__(self):
        super().__init__()
        self.cut, self.opens, self.frozen, self.head = (nn.Linear(20, 20) for _ in range(4))
        self.gain = nn.Parameter(torch.zeros(20))
        self.frozen.requires_grad_(False)
        zero(self.head)

    def forward(self, inputs):
        hidden = self.cut(inputs).detach() + self.gain * self.opens(inputs) + self.frozen(inputs)
        return self.head(hidden)[:, :10]


def test_one_step_tells_a_cut_branch_from_one_that_opens(setup_of, blobs):
    found = one_step(setup_of(blobs(), Branches))
    assert found.no_gradient == ["cut.bias", "cut.weight"]
    assert found.zero_gradient == []
    assert found.frozen == ["frozen.bias", "frozen.weight"]


def test_one_step_tells_a_gradient_that_never_came_from_one_that_died(setup_of, blobs):
    def deadly(model, batch, loss, optimizer):
        value = step_without()(model, batch, loss, optimizer)
        nn.init.constant_(model[0].bias, -1e6)
        return value

    found = one_step(setup_of(blobs(), mlp(), train_step=deadly))
    assert found.zero_gradient == ["0.weight", "2.weight"]
    assert set(found.zero_gradient) < set(found.had_gradient)


def test_one_step_knows_a_branch_that_is_taken_at_times(setup_of, blobs):
    class Sometimes(nn.Sequential):
        calls = 0

        def forward(self, inputs):
            self.calls += 1
            return self[0](inputs) + (self[1](inputs) if self.calls < 4 else 0)

    found = one_step(setup_of(blobs(), lambda: Sometimes(nn.Linear(20, 10), nn.Linear(20, 10))))
    assert found.no_gradient == [] and "1.weight" in found.had_gradient


def test_one_step_names_what_the_optimizer_does_not_hold(setup_of, blobs):
    setup = setup_of(blobs(), mlp())
    setup.optimizer = lambda model, **_: torch.optim.SGD(model[2].parameters(), lr=0.1)
    found = one_step(setup)
    assert found.unknown_to_optimizer == ["0.bias", "0.weight"]
    assert found.foreign_in_optimizer == 0


def test_one_step_sees_a_step_that_runs_in_eval_mode(setup_of, blobs):
    def step(model, batch, loss, optimizer):
        model.eval()
        return step_without()(model, batch, loss, optimizer)

    found = one_step(setup_of(blobs(), mlp(), train_step=step))
    assert found.forward_in_eval_mode and found.left_in_eval_mode
    assert not one_step(setup_of(blobs(), mlp())).forward_in_eval_mode


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_decay_shrinks_by_one_minus_rate_times_decay(setup_of, blobs, optimizer):
    table = {"weight_decay": 0.5}
    found = weight_decay(setup_of(blobs(), mlp(), optimizer=optimizer, optimizer_table=table))
    assert found.factors == [pytest.approx(1 - 1e-3 * 0.5, abs=2e-6)]
    assert len(found.decayed) == 4
    assert found.not_shrunk == found.moved_with_decay_off == found.moved_though_exempt == []


def test_decay_exempts_groups_without_it(setup_of, blobs):
    setup = setup_of(blobs(), mlp(), optimizer_table={"weight_decay": 0.1})
    setup.optimizer = lambda model, **_: torch.optim.SGD(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.1,
    )
    found = weight_decay(setup)
    assert found.decayed == ["0.weight", "2.weight"]
    assert found.exempt == ["0.bias", "2.bias"]
    assert found.not_shrunk == found.moved_though_exempt == []


def test_decay_is_found_missing_in_an_optimizer_that_ignores_it(setup_of, blobs):
    class Ignores(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data.add_(p.grad, alpha=-group["lr"])

    found = weight_decay(setup_of(blobs(), mlp(), optimizer=Ignores, optimizer_table={"weight_decay": 0.1}))
    assert len(found.not_shrunk) == 4


def test_decay_cannot_be_probed_without_the_setting(setup_of, blobs):
    with pytest.raises(CannotProbe, match="Rprop has no weight_decay"):
        weight_decay(setup_of(blobs(), mlp(), optimizer=torch.optim.Rprop))


@pytest.mark.parametrize("probe", [one_step, fresh_gradients, gradient_seen])
def test_a_step_of_lbfgs_is_not_taken_apart(setup_of, blobs, probe):
    def closure_step(model, batch, loss, optimizer):
        return optimizer.step(lambda: loss(model(batch[0]), batch[1]))

    setup = setup_of(blobs(), mlp(), optimizer=torch.optim.LBFGS, train_step=closure_step)
    with pytest.raises(CannotProbe, match="LBFGS calls the loss many times within one step"):
        probe(setup)


def set_rate(group, to):
    group["lr"] = to


class Adapts(torch.optim.SGD):
    """Raises its rate in its own step."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            group["lr"] *= 2


@pytest.mark.parametrize(
    ("change", "optimizer", "rates"),
    [
        (lambda group: None, None, []),
        (lambda group: None, Adapts, []),
        (lambda group: set_rate(group, group["lr"] / 2), None, [0.1, 0.05, 0.025, 0.0125]),
        (lambda group: set_rate(group, 0.3), None, [0.1, 0.3, 0.3, 0.3]),
    ],
)
def test_a_step_that_turns_the_rate_is_seen(setup_of, blobs, change, optimizer, rates):
    def step(model, batch, loss, optimizer):
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        change(optimizer.param_groups[0])
        return value

    setup = setup_of(blobs(), mlp(), train_step=step, optimizer=optimizer)
    assert one_step(setup).rates_set == pytest.approx(rates)


class InTwoParts(torch.optim.Optimizer):
    """An optimizer whose groups are stepped by others, as Muon beside AdamW."""

    def __init__(self, params, lr):
        params = list(params)
        self.parts = [torch.optim.SGD(params[:2], lr=lr), torch.optim.SGD(params[2:], lr=lr)]
        super().__init__([part.param_groups[0] for part in self.parts], {"lr": lr})
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups = [group]

    def step(self, closure=None):
        for part in self.parts:
            part.step()


def test_parts_that_step_the_recipes_own_groups_are_no_other_optimizers(setup_of, blobs):
    found = one_step(setup_of(blobs(), mlp(), optimizer=InTwoParts))
    assert (found.other_optimizers, found.updates, found.moved) == (0, 4, 4)
