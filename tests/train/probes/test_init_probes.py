import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tuner.rules import apply_rules
from tuner.train.probes._frame import BATTERY, CannotProbe, dropout_off
from tuner.train.probes.battery import init_battery
from tuner.train.probes.data import data_scan, input_scale
from tuner.train.probes.decay import weight_decay
from tuner.train.probes.evaluation import input_use, neighbours, repeatable_evaluation
from tuner.train.probes.layers import _rescale, layers, rescaled_start
from tuner.train.probes.loss import initial_loss, loss_function
from tuner.train.probes.step import fresh_gradients, gradient_seen, one_step


def mlp(*end, head=None):
    def build():
        model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10), *end)
        if head is not None:
            head(model[2])
        return model

    return build


def zero(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


# -- the loss ---------------------------------------------------------------------------------------------------


def test_initial_loss_is_log_c_for_a_zero_head(setup_of, blobs):
    found = initial_loss(setup_of(blobs(), mlp(head=zero)))
    assert found["init_losses"] == pytest.approx([math.log(10)] * 3, abs=1e-5)
    assert found["loss_at_uniform"] == pytest.approx(math.log(10), abs=1e-5)
    assert found["init_loss_std"] == pytest.approx(0, abs=1e-6)


def test_initial_loss_at_prior_is_the_entropy_of_the_labels(setup_of, blobs):
    inputs, _ = blobs(100)
    targets = torch.tensor([0] * 90 + [1] * 10)
    model = lambda: nn.Linear(20, 2)  # noqa: E731
    found = initial_loss(setup_of((inputs, targets), model, batch_size=100))
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert found["prior_entropy"] == pytest.approx(entropy)
    assert found["loss_at_prior"] == pytest.approx(entropy, abs=1e-5)
    assert found["loss_at_uniform"] == pytest.approx(math.log(2), abs=1e-5)


def test_initial_loss_switches_dropout_off_but_not_functional_dropout(setup_of, blobs):
    class Functional(nn.Linear):
        def forward(self, inputs):
            return F.dropout(super().forward(inputs), 0.5, self.training)

    quiet = initial_loss(setup_of(blobs(), mlp(nn.Dropout(0.9), head=zero)))
    loud = initial_loss(setup_of(blobs(), lambda: Functional(20, 10)))
    assert not quiet["random_in_train_mode"]
    assert loud["random_in_train_mode"]


@pytest.mark.parametrize(("reduction", "ratio"), [("mean", 1.0), ("sum", 2.0)])
def test_doubled_batch_doubles_a_summed_loss_only(setup_of, blobs, reduction, ratio):
    loss = nn.CrossEntropyLoss(reduction=reduction)
    assert initial_loss(setup_of(blobs(), mlp(), loss=loss))["doubled_batch_ratio"] == pytest.approx(ratio, abs=1e-4)


def test_initial_loss_says_that_the_head_is_too_narrow(setup_of, blobs):
    found = initial_loss(setup_of(blobs(), lambda: nn.Linear(20, 5)))
    assert found["too_narrow"]
    assert found["output_shape"] == [5]


def test_initial_loss_takes_all_examples_where_there_are_few(setup_of, blobs):
    assert initial_loss(setup_of(blobs(40), mlp(), batch_size=32))["examples"] == 40


def test_loss_function_finds_the_softmax_floor(setup_of, blobs):
    found = loss_function(setup_of(blobs(), mlp(nn.Softmax(1))))
    assert found["kind"] == "probabilities"
    assert found["own_floor"] == pytest.approx(1.4612, abs=1e-3)
    assert found["free_floor"] == pytest.approx(0, abs=1e-3)


def test_loss_function_says_minus_one_over_c_for_nll_on_probabilities(setup_of, blobs):
    found = loss_function(setup_of(blobs(), mlp(nn.Softmax(1)), loss=F.nll_loss))
    assert found["uniform"] == pytest.approx(-0.1, abs=1e-5)
    assert found["own_floor"] == pytest.approx(-1, abs=1e-3)


# -- the data ---------------------------------------------------------------------------------------------------


def test_data_scan_counts_what_was_planted(setup_of):
    inputs = torch.arange(60, dtype=torch.float32).reshape(20, 3)
    inputs[:, 2] = 7
    inputs[4, 1] = float("nan")
    inputs[9] = inputs[3]
    targets = torch.arange(20) % 2
    val = torch.cat([inputs[5:7], inputs[5:6] + 100]), torch.tensor([1, 0, 0])
    found = data_scan(setup_of((inputs, targets), mlp(), val=val), scan_chunk=7)
    train = found["train"]
    assert (train["n"], train["shape"], train["dtype"]) == (20, [3], "float32")
    assert (train["non_finite"], train["first_non_finite"]) == (1, "train row 4, column 1")
    assert train["constant_columns"] == ["column 2"]
    assert train["class_counts"] == [10, 10]
    assert (train["duplicates"], train["first_duplicate"]) == (1, ["train row 3", "train row 9"])
    assert train["conflicting"] == 0
    assert (found["across"]["duplicates"], found["across"]["agreeing"]) == (2, 2)


def test_data_scan_agrees_with_torch_on_mean_and_std(setup_of):
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = data_scan(setup_of((images, torch.arange(50) % 5), mlp()), scan_chunk=16)["train"]
    flat = images.double().transpose(0, 1).flatten(1)
    assert found["mean"] == pytest.approx(flat.mean(1).tolist())
    assert found["std"] == pytest.approx(flat.std(1, correction=0).tolist())
    assert found["min"] == flat.amin(1).tolist()


def test_data_scan_names_labels_outside_the_range_and_conflicts(setup_of):
    inputs = torch.zeros(4, 3)
    found = data_scan(setup_of((inputs, torch.tensor([0, 1, 1, 5])), mlp(), num_classes=2))["train"]
    assert (found["labels_outside"], found["first_label_outside"]) == (1, "train row 3")
    assert found["conflicting"] == 3


def test_data_scan_says_why_a_stochastic_data_set_is_not_compared(setup_of, blobs):
    found = data_scan(setup_of(blobs(), mlp(), data={"stochastic": True}))
    assert "no_duplicates" in found
    assert "duplicates" not in found["train"]


def test_input_scale_is_felt_by_a_plain_model_and_not_behind_batch_norm(setup_of, blobs):
    inputs, targets = blobs()
    plain = input_scale(setup_of((inputs * 100, targets), mlp()))
    normed = input_scale(
        setup_of((inputs * 100, targets), lambda: nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 10)))
    )
    assert plain["spread_ratio"] > 20
    assert normed["spread_ratio"] == pytest.approx(1, abs=0.01)


# -- one step ---------------------------------------------------------------------------------------------------


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
    assert fresh_gradients(setup_of(blobs(), mlp()))["ratios"] == pytest.approx([1, 1, 1], abs=1e-4)


def test_fresh_gradients_add_up_without_zero_grad(setup_of, blobs):
    found = fresh_gradients(setup_of(blobs(), mlp(), train_step=step_without("zero")))
    assert found["ratios"] == pytest.approx([1, 2, 3], abs=1e-3)


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
    assert found["ratios"] == pytest.approx([1, 1, 1], abs=1e-4)
    assert len(calls) == 6


def test_one_step_moves_everything_in_a_sound_model(setup_of, blobs):
    found = one_step(setup_of(blobs(), mlp()))
    assert found["updates"] == 4
    assert found["moved"] == 4
    assert not found["not_moved"] and not found["no_gradient"] and not found["zero_gradient"] and not found["frozen"]
    assert found["momentum"] == 0.0


def test_one_step_reads_the_largest_momentum(setup_of, blobs):
    assert one_step(setup_of(blobs(), mlp(), optimizer_table={"momentum": 1.25}))["momentum"] == 1.25
    assert one_step(setup_of(blobs(), mlp(), optimizer=torch.optim.Adam))["momentum"] == 0.0


def test_one_step_counts_no_update_without_optimizer_step(setup_of, blobs):
    assert one_step(setup_of(blobs(), mlp(), train_step=step_without("step")))["updates"] == 0


def test_one_step_moves_nothing_without_backward(setup_of, blobs):
    found = one_step(setup_of(blobs(), mlp(), train_step=step_without("backward")))
    assert (found["updates"], found["moved"]) == (4, 0)
    assert len(found["no_gradient"]) == 4


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
    assert found["no_gradient"] == ["cut.bias", "cut.weight"]
    assert found["zero_gradient"] == []
    assert found["frozen"] == ["frozen.bias", "frozen.weight"]


def test_one_step_tells_a_gradient_that_never_came_from_one_that_died(setup_of, blobs):
    def deadly(model, batch, loss, optimizer):
        value = step_without()(model, batch, loss, optimizer)
        nn.init.constant_(model[0].bias, -1e6)
        return value

    found = one_step(setup_of(blobs(), mlp(), train_step=deadly))
    assert found["zero_gradient"] == ["0.weight", "2.weight"]
    assert set(found["zero_gradient"]) < set(found["had_gradient"])


def test_one_step_knows_a_branch_that_is_taken_at_times(setup_of, blobs):
    class Sometimes(nn.Sequential):
        calls = 0

        def forward(self, inputs):
            self.calls += 1
            return self[0](inputs) + (self[1](inputs) if self.calls < 4 else 0)

    found = one_step(setup_of(blobs(), lambda: Sometimes(nn.Linear(20, 10), nn.Linear(20, 10))))
    assert found["no_gradient"] == [] and "1.weight" in found["had_gradient"]


def test_one_step_names_what_the_optimizer_does_not_hold(setup_of, blobs):
    setup = setup_of(blobs(), mlp())
    setup.optimizer = lambda model, **_: torch.optim.SGD(model[2].parameters(), lr=0.1)
    found = one_step(setup)
    assert found["unknown_to_optimizer"] == ["0.bias", "0.weight"]
    assert found["foreign_in_optimizer"] == 0


def test_one_step_sees_a_step_that_runs_in_eval_mode(setup_of, blobs):
    def step(model, batch, loss, optimizer):
        model.eval()
        return step_without()(model, batch, loss, optimizer)

    found = one_step(setup_of(blobs(), mlp(), train_step=step))
    assert found["forward_in_eval_mode"] and found["left_in_eval_mode"]
    assert not one_step(setup_of(blobs(), mlp()))["forward_in_eval_mode"]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_decay_shrinks_by_one_minus_rate_times_decay(setup_of, blobs, optimizer):
    table = {"weight_decay": 0.5}
    found = weight_decay(setup_of(blobs(), mlp(), optimizer=optimizer, optimizer_table=table))
    assert found["factors"] == [pytest.approx(1 - 1e-3 * 0.5, abs=2e-6)]
    assert len(found["decayed"]) == 4
    assert found["not_shrunk"] == found["moved_with_decay_off"] == found["moved_though_exempt"] == []


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
    assert found["decayed"] == ["0.weight", "2.weight"]
    assert found["exempt"] == ["0.bias", "2.bias"]
    assert found["not_shrunk"] == found["moved_though_exempt"] == []


def test_decay_is_found_missing_in_an_optimizer_that_ignores_it(setup_of, blobs):
    class Ignores(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data.add_(p.grad, alpha=-group["lr"])

    found = weight_decay(setup_of(blobs(), mlp(), optimizer=Ignores, optimizer_table={"weight_decay": 0.1}))
    assert len(found["not_shrunk"]) == 4


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


# -- evaluation -------------------------------------------------------------------------------------------------


def test_evaluation_is_repeatable_with_dropout_and_batch_norm(setup_of, blobs):
    model = lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10))  # noqa: E731
    found = repeatable_evaluation(setup_of(blobs(), model))
    assert found["outputs_differ"] == 0
    assert found["statistics_moved"] == []


def test_evaluation_is_random_with_dropout_that_ignores_the_mode(setup_of, blobs):
    class Always(nn.Linear):
        def forward(self, inputs):
            return F.dropout(super().forward(inputs), 0.5)

    assert repeatable_evaluation(setup_of(blobs(), lambda: Always(20, 10)))["outputs_differ"] > 0.1


def test_evaluation_hook_that_trains_is_seen(setup_of, blobs):
    def evaluate(model, batches, loss):
        model.train()
        (inputs, targets), *_ = batches
        return {"loss": loss(model(inputs), targets)}

    model = lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))  # noqa: E731
    found = repeatable_evaluation(setup_of(blobs(), model, evaluate_hook=evaluate))
    assert found["statistics_moved"] == ["1.running_mean", "1.running_var"]
    assert found["modes_in_forward"] == ["train"]


def test_val_that_is_random_is_seen(setup_of, blobs):
    setup = setup_of(blobs(), mlp(), val=blobs(40, seed=1))
    assert repeatable_evaluation(setup)["val_reads_differ"] == 0
    fixed = setup.data.batches
    setup.data.batches = lambda split, size, indices=None: [
        (x + torch.rand_like(x), y) for x, y in fixed(split, size, indices)
    ]
    found = repeatable_evaluation(setup)
    assert (found["val_reads_differ"], found["val_reads_times"]) == (1, None)


@pytest.mark.parametrize(("change", "times"), [(lambda x: x.div_(16), 1 / 16), (lambda x: x.sub_(3).mul_(0.5), 0.5)])
def test_val_that_is_changed_by_reading_it_is_seen(setup_of, blobs, change, times):
    setup = setup_of(blobs(), mlp(), val=blobs(40, seed=1))
    plain = setup.data.batches
    stored = next(iter(plain("val", 40)))

    def batches(split, size, indices=None):
        if split != "val":
            return plain(split, size, indices)
        return [(change(stored[0])[indices].clone(), stored[1][indices])]

    setup.data.batches = batches
    found = repeatable_evaluation(setup)
    assert found["val_reads_differ"] == 1 and found["val_reads_times"] == pytest.approx(times)


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
    assert one_step(setup)["rates_set"] == pytest.approx(rates)


class Mixes(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(0))


class Reads(nn.Module):
    """Reads the columns four at a time, as steps of a sequence."""

    def __init__(self, forwards=True, **more):
        super().__init__()
        self.lstm, self.head, self.forwards = nn.LSTM(4, 16, **more), nn.Linear(16, 10), forwards

    def forward(self, inputs):
        steps = inputs.unflatten(1, (5, 4))
        if self.forwards:
            return self.head(self.lstm(steps)[0][:, -1])
        return self.head(self.lstm(steps.flip(0))[0].flip(0)[:, -1])


@pytest.mark.parametrize(
    ("model", "depends"),
    [
        (mlp(), False),
        (lambda: nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 10)), False),
        (lambda: Mixes(20, 10), True),
        (lambda: Reads(batch_first=True), False),
        (Reads, True),  # the batch is taken for time: an example sees those before it
        (lambda: Reads(forwards=False), True),  # or those after it
        (mlp(head=zero), False),
    ],
)
def test_neighbours_matter_only_where_examples_are_mixed(setup_of, blobs, model, depends):
    assert (neighbours(setup_of(blobs(), model))["differ"] > 1e-3) is depends


def test_input_use_is_zero_only_where_the_input_is_multiplied_away(setup_of, blobs):
    class Blind(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs * 0)

    blind, sound = (input_use(setup_of(blobs(), model)) for model in (lambda: Blind(20, 10), mlp(head=zero)))
    assert blind["varies"] == blind["changes_when_zeroed"] == 0
    assert sound["varies"] > 0.01


# -- layers -----------------------------------------------------------------------------------------------------


def test_layers_find_dead_and_saturated_units(setup_of, blobs):
    def build():
        model = nn.Sequential(nn.Linear(20, 4), nn.ReLU(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 10))
        nn.init.constant_(model[0].bias[:3], -1e3)
        nn.init.constant_(model[2].bias, 50.0)
        return model

    found = {layer["name"]: layer for layer in layers(setup_of(blobs(), build))["layers"]}
    assert list(found) == ["0", "1", "2", "3", "4"]
    assert found["1"]["dead_fraction"] == 0.75
    assert found["2"]["dead_input_fraction"] == 0.75
    assert found["3"]["saturated_fraction"] == 1.0
    assert found["4"]["saturated_fraction"] is None


def test_layers_measure_what_torch_measures(setup_of, blobs):
    setup = setup_of(blobs(32), mlp(), batch_size=32)
    found = layers(setup)["layers"][0]
    model = setup.model()
    outputs = model[0](setup.data.inputs("train"))
    F.cross_entropy(model(setup.data.inputs("train")), setup.data.targets("train")).backward()
    assert found["activation_std"] == pytest.approx(float(outputs.detach().std()), rel=1e-5)
    norm = torch.cat([p.grad.flatten() for p in model[0].parameters()]).norm()
    assert found["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_layers_call_constant_weights_symmetric_and_zero_weights_not(setup_of, blobs):
    def build():
        model = mlp(head=zero)()
        nn.init.constant_(model[0].weight, 0.1)
        return model

    found = layers(setup_of(blobs(), build))["layers"]
    assert [layer["symmetric"] for layer in found] == [True, None, False]


def deep(activation, depth, scale=None):
    def build():
        layers = [nn.Linear(20, 32), activation()]
        for _ in range(depth - 1):
            layers += [nn.Linear(32, 32), activation()]
        model = nn.Sequential(*layers, nn.Linear(32, 10))
        for layer in model[::2] if scale else ():
            nn.init.normal_(layer.weight, std=scale / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
        return model

    return build


def started(setup):
    probe = rescaled_start(setup)
    return probe, {finding.code for finding in apply_rules("check-init", {"failures": [], "rescaled_start": probe})[0]}


@pytest.mark.parametrize("build", [deep(nn.Sigmoid, 5), deep(nn.ReLU, 8, scale=0.3), deep(nn.Tanh, 8, scale=0.1)])
def test_a_start_that_only_other_sizes_of_the_weights_make_is_found(setup_of, blobs, build):
    found, codes = started(setup_of(blobs(512), build, optimizer_table={"momentum": 0.9}))
    assert found["left"] < 0.05
    assert not found["as_is"]["learns"] and found["as_is"]["steps"] == 200
    assert found["as_is"]["lowest"] == pytest.approx(found["level"], rel=0.03)
    assert found["rescaled"]["learns"] and found["rescaled"]["steps"] <= 100
    assert "IN136" in codes


def test_a_signal_that_holds_is_not_asked_further(setup_of, blobs):
    for build in (mlp(), mlp(head=zero), deep(nn.ReLU, 8, scale=math.sqrt(2)), lambda: nn.Linear(20, 10)):
        found, codes = started(setup_of(blobs(), build))
        assert not found["tried"] and "IN136" not in codes


def test_a_faded_signal_that_learns_all_the_same_is_sound(setup_of, blobs):
    found, codes = started(
        setup_of(blobs(512), deep(nn.ReLU, 5), **{"optimizer": torch.optim.Adam, "optimizer_table": {"lr": 0.003}})
    )
    assert found["tried"] and found["as_is"]["learns"] and "IN136" not in codes


def test_a_rate_that_moves_nothing_is_no_matter_of_the_init(setup_of, blobs):
    found, codes = started(setup_of(blobs(512), deep(nn.Sigmoid, 5), optimizer_table={"lr": 1e-6}))
    assert not found["as_is"]["learns"] and not found["rescaled"]["learns"] and "IN136" not in codes


def test_layers_are_rescaled_to_unit_spread_also_those_of_images():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False), nn.Flatten(), nn.Sigmoid(), nn.Linear(64, 5)
    )
    seen = []
    inputs = 7 * torch.randn(40, 3, 8, 8) + 3
    _rescale(model, inputs)
    for place in (0, 2, 5):
        model[place].register_forward_hook(lambda module, given, outputs: seen.append(outputs.detach()))
    model(inputs)
    assert len(seen) == 3
    for outputs in seen:
        units = outputs.movedim(1, -1).flatten(0, -2)
        assert float(units.std(0).mean()) == pytest.approx(1, abs=1e-3)
    assert seen[0].movedim(1, -1).flatten(0, -2).mean(0).abs().max() < 1e-3


# -- the battery ------------------------------------------------------------------------------------------------


def test_dropout_off_reaches_every_kind():
    model = nn.ModuleList(
        [nn.Dropout(0.5), nn.AlphaDropout(0.1), nn.MultiheadAttention(4, 2, dropout=0.3), nn.LSTM(4, 4, 2, dropout=0.2)]
    )
    dropout_off(model)
    assert [model[0].p, model[1].p, model[2].dropout, model[3].dropout] == [0.0] * 4


def test_battery_runs_every_marked_probe_on_a_sound_model(setup_of, blobs):
    found = init_battery(setup_of(blobs(), mlp(), val=blobs(80, seed=1)), seeds=2, examples=64)
    assert set(found) == set(BATTERY)
    assert len(found) == len(BATTERY) >= 22
    not_here = {
        "near_copies": "near copies are looked for among images only",
        "image_layout": "there are no images of several channels",
    }
    assert {name: answer["skipped"] for name, answer in found.items() if "skipped" in answer} == not_here
    assert len(found["initial_loss"]["init_losses"]) == 2


def test_battery_keeps_the_reason_of_a_probe_that_does_not_apply(setup_of, blobs):
    found = init_battery(setup_of(blobs(), mlp(), optimizer=torch.optim.Rprop))
    assert found["weight_decay"] == {"skipped": "Rprop has no weight_decay to ask for"}
