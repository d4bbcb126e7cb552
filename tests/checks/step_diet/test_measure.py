"""What training is fed: order, the user's step, augmentation, gradients on the way to the update."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.asking import judged
from tuner.checks.augmentation.measure import augmentation
from tuner.checks.fresh_gradients.measure import fresh_gradients
from tuner.checks.gradient_seen.measure import gradient_seen
from tuner.checks.label_order.measure import label_order
from tuner.checks.linearity.measure import linearity
from tuner.checks.one_step.measure import one_step
from tuner.checks.step_diet.measure import step_diet


def mlp(*middle):
    return lambda: nn.Sequential(nn.Linear(20, 16), *middle, nn.ReLU(), nn.Linear(16, 10))


def found(setup, *probes):
    evidence = {probe.__name__: probe(setup) for probe in probes}
    findings, _, _ = judged("check-init", evidence)
    return {f.code: f for f in findings if f.severity != "note" and f.code != "IN100"}


# -- order ------------------------------------------------------------------------------------------------------


class Sorted:
    """Gives the next example in order of class, whatever index is asked for."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __getattr__(self, name):
        return getattr(self.data, name)

    def _next(self, count):
        inputs, targets = self.data.tensors["train"]
        order = targets.argsort(stable=True)[(torch.arange(count) + self.at) % len(targets)]
        self.at += count
        return inputs[order], targets[order]

    def epoch(self, seed, epoch, batch_size, augment=True):
        return (self._next(batch_size) for _ in range(self.size("train") // batch_size))

    def batches(self, split, batch_size, indices=None):
        return [self._next(len(part)) for part in indices.split(batch_size)]


def test_dataset_that_reads_in_its_own_order_is_found(setup_of, blobs):
    setup = setup_of(blobs(1000), mlp())
    setup.data = Sorted(setup.data)
    finding = found(setup, label_order)["DA115"]
    assert (finding.severity, finding.cause) == ("error", "unshuffled-data")


class FewOfEach(Sorted):
    """Batches of eight of each of four classes, drawn from scratch."""

    def _next(self, count):
        inputs, targets = self.data.tensors["train"]
        generator = torch.Generator().manual_seed(self.at)
        self.at += 1
        classes = torch.randperm(10, generator=generator)[:4]
        members = [(targets == label).nonzero().flatten() for label in classes]
        rows = torch.cat([own[torch.randperm(len(own), generator=generator)[: count // 4]] for own in members])
        return inputs[rows], targets[rows]


def test_a_few_of_each_of_some_classes_are_no_order(setup_of, blobs):
    setup = setup_of(blobs(1000), mlp(), batch_size=32)
    setup.data = FewOfEach(setup.data)
    assert "DA115" not in found(setup, label_order) or "read again" in found(setup, label_order)["DA115"].title
    assert label_order(setup).drawn_by_class and label_order(setup).z < -6


def test_sorted_classes_of_half_a_batch_are_an_order(setup_of, blobs):
    inputs, targets = blobs(160)
    setup = setup_of((inputs, targets), mlp(), batch_size=32)
    setup.data = Sorted(setup.data)
    assert not label_order(setup).drawn_by_class


def test_dataset_that_gives_other_labels_at_each_reading_is_found(setup_of, blobs):
    setup = setup_of(blobs(1000), mlp())
    first_read = setup.data.targets("train").roll(1)
    setup.data.targets = lambda split: first_read
    assert "read again" in found(setup, label_order)["DA115"].title


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "batch"), [(1000, 64), (200, 8), (120, 64), (64, 32)])
def test_shuffled_batches_give_nothing(setup_of, blobs, seed, count, batch):
    assert not found(setup_of(blobs(count), mlp(), batch_size=batch, seed=seed), label_order)


def test_rare_classes_give_nothing(setup_of, blobs):
    inputs, _ = blobs(1000)
    assert not found(setup_of((inputs, (torch.arange(1000) % 100 == 0).long()), mlp(), num_classes=10), label_order)


# -- the user's step --------------------------------------------------------------------------------------------


def step(change=lambda x, y: (x, y), after=lambda model, optimizer: None, calls=1):
    def one(model, batch, loss, optimizer):
        inputs, targets = change(*batch)
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        value.backward()
        after(model, optimizer)
        optimizer.step()
        return value

    return one


class First:
    def __init__(self):
        self.batch = None

    def __call__(self, inputs, targets):
        self.batch = self.batch or (inputs, targets)
        return self.batch


def mixup(model, batch, loss, optimizer):
    inputs, targets = batch
    order = torch.randperm(len(inputs))
    outputs = model(0.6 * inputs + 0.4 * inputs[order])
    value = 0.6 * loss(outputs, targets) + 0.4 * loss(outputs, targets[order])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def hidden_mixup(model, batch, loss, optimizer):
    inputs, targets = batch
    order = torch.randperm(len(inputs))
    outputs = model(inputs)
    value = 0.6 * loss(outputs, targets) + 0.4 * loss(outputs, targets[order])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def micro(model, batch, loss, optimizer):
    optimizer.zero_grad()
    for inputs, targets in zip(batch[0].split(8), batch[1].split(8), strict=True):
        value = loss(model(inputs), targets) / 4
        value.backward()
    optimizer.step()
    return value


@pytest.mark.parametrize(
    "healthy", [None, step(), mixup, hidden_mixup, micro, step(lambda x, y: (x + 0.1 * torch.randn_like(x), y))]
)
def test_step_that_uses_its_batch_gives_nothing(setup_of, blobs, healthy):
    assert not found(setup_of(blobs(), mlp(), train_step=healthy), step_diet)


WRONG_STEPS = {
    "the first batch for ever": (step(First()), "IN125", "error", "repeated-data"),
    "a slice": (step(lambda x, y: (x[:2], y[:2])), "IN125", "warn", "repeated-data"),
    "inputs alone shuffled": (step(lambda x, y: (x[torch.randperm(len(x))], y)), "IN126", "error", "misaligned-labels"),
    "labels rolled by one": (step(lambda x, y: (x, y.roll(1))), "IN126", "error", "misaligned-labels"),
}


@pytest.mark.parametrize("case", WRONG_STEPS)
def test_step_that_uses_other_examples_or_labels_is_found(setup_of, blobs, case):
    wrong, code, severity, cause = WRONG_STEPS[case]
    seen = found(setup_of(blobs(), mlp(), train_step=wrong), step_diet)
    assert (seen[code].severity, seen[code].cause) == (severity, cause)


# -- gradients and the optimizer --------------------------------------------------------------------------------

WITH_MOMENTUM = {"optimizer_table": {"lr": 0.05, "momentum": 0.9}}


def scaled(factor):
    return lambda model, optimizer: [p.grad.mul_(factor) for p in model.parameters()] and None


def clipped(norm):
    return lambda model, optimizer: nn.utils.clip_grad_norm_(model.parameters(), norm) and None


@pytest.mark.parametrize(
    ("after", "code", "cause"),
    [
        (scaled(1.0), None, None),
        (clipped(1.0), None, None),
        (scaled(1 / 8), None, None),
        (clipped(1e-3), "IN123", "gradient-clipped-away"),
        (scaled(1e-4), "IN123", "gradient-clipped-away"),
        (scaled(-1.0), "IN124", "sign-flipped-loss"),
    ],
)
def test_gradient_of_the_update_is_held_against_the_losss_own(setup_of, blobs, after, code, cause):
    seen = found(setup_of(blobs(), mlp(), train_step=step(after=after)), gradient_seen)
    assert {c: f.cause for c, f in seen.items()} == ({} if code is None else {code: cause})


def test_recipes_clip_norm_is_seen_and_adam_does_not_mind(setup_of, blobs):
    setup = setup_of(blobs(), mlp())
    setup.spec.tables["train"]["clip_norm"] = 1e-4
    assert found(setup, gradient_seen)["IN123"].severity == "warn"
    setup = setup_of(blobs(), mlp(), optimizer=torch.optim.Adam)
    setup.spec.tables["train"]["clip_norm"] = 1e-4
    assert not found(setup, gradient_seen)


def gathering(batches, divisor, started=0):
    done = [0] * started  # calls that were made with another model

    def one(model, batch, loss, optimizer):
        value = loss(model(batch[0]), batch[1])
        (value / divisor).backward()
        done.append(0)
        if len(done) % batches == 0:
            optimizer.step()
            optimizer.zero_grad()
        return value

    return one


@pytest.mark.parametrize("started", [0, 3])
def test_gradients_of_several_batches_are_to_be_averaged(setup_of, blobs, started):
    seen = found(setup_of(blobs(), mlp(), train_step=gathering(4, 1, started)), gradient_seen)
    assert {code: (f.severity, f.cause) for code, f in seen.items()} == {"IN150": ("warn", "summed-loss")}
    assert seen["IN150"].evidence["ratios"] == pytest.approx([4, 4], rel=1e-4)
    assert not found(setup_of(blobs(), mlp(), train_step=gathering(4, 4, started)), gradient_seen)


def test_optimizer_that_maximises_is_found_unless_the_loss_is_negated_too(setup_of, blobs):
    table = {"optimizer_table": {"maximize": True}}
    assert "IN124" in found(setup_of(blobs(), mlp(), **table), gradient_seen)
    assert not found(setup_of(blobs(), mlp(), train_step=step(after=scaled(-1.0)), **table), gradient_seen)


def test_gradients_of_some_parameters_that_add_up_are_found(setup_of, blobs):
    def head_only(model, batch, loss, optimizer):
        model[-1].zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value

    finding = found(setup_of(blobs(), mlp(), train_step=head_only), fresh_gradients)["IN110"]
    assert finding.evidence["growing"] == ["0.weight", "0.bias"]
    assert not found(setup_of(blobs(), mlp(), train_step=step()), fresh_gradients)


def rebuilt(model, batch, loss, optimizer):
    return step()(model, batch, loss, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def forgetful(model, batch, loss, optimizer):
    value = step()(model, batch, loss, optimizer)
    optimizer.state.clear()
    return value


@pytest.mark.parametrize("wrong", [rebuilt, forgetful])
def test_optimizer_that_forgets_is_found(setup_of, blobs, wrong):
    seen = found(setup_of(blobs(), mlp(), train_step=wrong, **WITH_MOMENTUM), one_step)
    assert {code: (f.severity, f.cause) for code, f in seen.items()} == {"IN122": ("error", "optimizer-state-lost")}


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad])
def test_optimizer_that_remembers_gives_nothing(setup_of, blobs, optimizer):
    assert not found(setup_of(blobs(), mlp(), train_step=step(), optimizer=optimizer), one_step)
    assert not found(setup_of(blobs(), mlp(), train_step=step()), one_step)


def every(calls):
    done = []

    def one(model, batch, loss, optimizer):
        value = loss(model(batch[0]), batch[1]) / calls
        value.backward()
        done.append(1)
        if len(done) % calls == 0:
            optimizer.step()
            optimizer.zero_grad()
        return value

    return one


def test_update_per_epoch_is_found_and_accumulation_is_not(setup_of, blobs):
    assert found(setup_of(blobs(640), mlp(), train_step=every(20)), one_step)["IN129"].cause == "no-update"
    assert not found(setup_of(blobs(640), mlp(), train_step=every(8)), one_step)


# -- the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("norm", "batch", "fires"),
    [
        (nn.BatchNorm1d(16), 32, False),
        (nn.BatchNorm1d(16, momentum=None), 32, False),
        (nn.BatchNorm1d(16), 8, False),
        (nn.BatchNorm1d(16, track_running_stats=False), 32, False),
        (nn.BatchNorm1d(16, momentum=0.0), 32, True),
        (nn.BatchNorm1d(16, momentum=0.99), 32, True),
        (nn.BatchNorm1d(16), 2, True),
        (nn.LayerNorm(16), 2, False),
    ],
)
def test_batch_norm_that_cannot_learn_its_statistics(setup_of, blobs, norm, batch, fires):
    import copy

    setup = setup_of(blobs(), lambda: mlp(copy.deepcopy(norm))(), batch_size=batch)
    assert ("IN127" in found(setup, one_step)) is fires


class Halved(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp()().to(torch.bfloat16)

    def forward(self, x):
        return self.body(x.to(torch.bfloat16)).float()


def test_weights_in_half_precision_are_found(setup_of, blobs):
    assert found(setup_of(blobs(), Halved), one_step)["IN128"].cause == "precision-problem"


class SideBySide(nn.Module):
    """Linear layers of the slow and of the quick part, as in DLinear: linear by design, and no two in a row."""

    def __init__(self):
        super().__init__()
        self.slow, self.quick = nn.Linear(20, 10), nn.Linear(20, 10)

    def forward(self, x):
        slow = x.unfold(1, 5, 1).mean(2)
        slow = torch.cat([slow[:, :1].expand(-1, 2), slow, slow[:, -1:].expand(-1, 2)], 1)
        return self.slow(slow) + self.quick(x - slow)


@pytest.mark.parametrize(
    ("model", "fires"),
    [
        (lambda: nn.Sequential(nn.Linear(20, 16), nn.Linear(16, 10)), True),
        (lambda: nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 10)), True),
        (lambda: nn.Sequential(nn.Linear(20, 16), nn.Linear(16, 10), nn.LogSoftmax(1)), True),
        (lambda: nn.Sequential(nn.Linear(20, 16), nn.Linear(16, 10), nn.Softmax(1)), True),
        (lambda: nn.Linear(20, 10), False),
        (mlp(), False),
        (lambda: nn.Sequential(nn.Linear(20, 4), nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 10)), False),
        (lambda: nn.Sequential(nn.LayerNorm(20), nn.Linear(20, 16), nn.Linear(16, 10)), False),
        (SideBySide, False),
    ],
)
def test_model_without_activations(setup_of, blobs, model, fires):
    assert ("IN135" in found(setup_of(blobs(), model), linearity)) is fires


class InAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = [nn.Linear(20, 16), nn.Linear(16, 16)], nn.Linear(16, 10)

    def forward(self, x):
        for layer in self.hidden:
            x = layer(x).relu()
        return self.head(x)


class WithTeacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.student = [nn.Linear(20, 10)], nn.Linear(20, 10)

    def forward(self, x):
        return self.student(x) + self.teacher[0](x).detach()


def test_layers_that_are_no_parameters_are_found(setup_of, blobs):
    finding = found(setup_of(blobs(), InAList), one_step)["IN113"]
    assert (finding.severity, finding.evidence["unregistered"]) == ("warn", [[16], [16], [16, 16], [16, 20]])
    assert "IN113" not in found(setup_of(blobs(), WithTeacher), one_step)


def frozen_first(value=None):
    def build():
        model = mlp()()
        model[0].requires_grad_(False)
        if value is not None:
            nn.init.constant_(model[0].weight, value)
        return model

    return build


def test_frozen_layer_with_values_of_its_own_is_no_warning(setup_of, blobs):
    assert found(setup_of(blobs(), frozen_first()), one_step)["IN114"].severity == "warn"
    assert "IN114" not in found(setup_of(blobs(), frozen_first(0.1)), one_step)


def rounding(model, batch, loss, optimizer):
    value = step()(model, batch, loss, optimizer)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p * 20).round() / 20)
    return value


def test_step_that_rounds_the_weights_is_found(setup_of, blobs):
    assert found(setup_of(blobs(), mlp(), train_step=rounding), one_step, fresh_gradients)["IN128"].severity == "warn"
    assert not found(setup_of(blobs(), mlp(), train_step=step()), one_step, fresh_gradients)


def test_gradients_that_no_update_uses_are_not_taken_for_gradients_left_over(setup_of, blobs):
    setup = setup_of(blobs(), mlp())
    setup.optimizer = lambda model, **_: torch.optim.SGD([model[0].bias, model[-1].bias], lr=0.1)
    assert set(found(setup, one_step, fresh_gradients)) == {"IN113"}


def test_loss_that_is_averaged_twice_is_found(setup_of, blobs):
    from tuner.checks.initial_loss.measure import initial_loss

    twice = lambda outputs, targets: F.cross_entropy(outputs, targets) / len(targets)  # noqa: E731
    assert found(setup_of(blobs(), mlp(), loss=twice), initial_loss)["IN107"].cause == "summed-loss"


# -- augmentation -----------------------------------------------------------------------------------------------


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:1000, None] / 16, torch.tensor(data.target)[:1000]


def shifted(most):
    def augment(inputs, targets):
        generator = torch.Generator().manual_seed(0)
        padded = F.pad(inputs, [most] * 4)
        places = torch.randint(0, 2 * most + 1, (len(inputs), 2), generator=generator).tolist()
        return torch.stack([row[:, a : a + 8, b : b + 8] for row, (a, b) in zip(padded, places, strict=True)]), targets

    return augment


def halved_and_joined(inputs, targets):
    picked = torch.arange(len(inputs)) % 2 == 0
    return torch.cat([inputs[~picked], inputs[picked].flip(3)]), targets


def pairs_reordered(inputs, targets):
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    return inputs[order], targets[order]


def mixed_with(share, label_of_other=False):
    """Return an augmentation that takes `share(n)` of each example from another one."""

    def augment(inputs, targets):
        generator = torch.Generator().manual_seed(0)
        order, shares = torch.randperm(len(inputs), generator=generator), share(len(inputs), generator)
        mean = (1 - shares.view(-1, 1, 1, 1)) * inputs + shares.view(-1, 1, 1, 1) * inputs[order]
        return mean, torch.where((shares > 0.5) & torch.tensor(label_of_other), targets[order], targets)

    return augment


AUGMENTATIONS = {
    "none": (None, {}),
    "shifts by one": (shifted(1), {}),
    "noise": (lambda x, y: (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), y), {}),
    "brightness": (lambda x, y: (x * 0.8 + 0.1, y), {}),
    "another order": (pairs_reordered, {}),
    "halves joined": (halved_and_joined, {"DA121": "misaligned-labels"}),
    "shuffled inputs": (lambda x, y: (pairs_reordered(x, y)[0], y), {"DA121": "misaligned-labels"}),
    "mixed, own label": (mixed_with(lambda n, g: torch.rand(n, generator=g)), {"DA121": "misaligned-labels"}),
    "mixed, label of the larger part": (mixed_with(lambda n, g: torch.rand(n, generator=g), True), {}),
    "mixed, mostly itself": (mixed_with(lambda n, g: 0.5 * torch.rand(n, generator=g)), {}),
    "mixed evenly": (mixed_with(lambda n, g: torch.full((n,), 0.5)), {}),
    "blank": (lambda x, y: (x * 0, y), {"DA120": "augmentation-harms"}),
    "another range": (lambda x, y: (x * 255, y), {"DA120": "augmentation-harms"}),
    "noise that covers all": (
        lambda x, y: (torch.where(torch.rand(x.shape) < 0.9, torch.rand(x.shape), x), y),
        {"DA120": "augmentation-harms"},
    ),
    "nan": (lambda x, y: (x / 0, y), {"DA120": "augmentation-harms"}),
}  # fmt: skip


@pytest.mark.parametrize("case", AUGMENTATIONS)
def test_augmentation(setup_of, case):
    augment, expected = AUGMENTATIONS[case]
    seen = found(setup_of(digits(), nn.Flatten, data={"augment": augment}), augmentation)
    assert {code: f.cause for code, f in seen.items()} == expected
