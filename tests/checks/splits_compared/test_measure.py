"""Questions to the data alone: splits that differ, labels that do not fit, leaks, copies; and sound data like them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.asking import judged
from tuner.checks.class_shares.measure import class_shares
from tuner.checks.data_scan.measure import data_scan
from tuner.checks.image_layout.measure import image_layout
from tuner.checks.labels_fit.measure import labels_fit
from tuner.checks.labels_shifted.measure import labels_shifted
from tuner.checks.near_copies.measure import near_copies
from tuner.checks.single_features.measure import single_features
from tuner.checks.splits_compared.measure import splits_compared
from tuner.checks.tools.frame import CannotProbe

PROBES = {
    probe.__name__: probe
    for probe in (
        splits_compared,
        class_shares,
        labels_fit,
        labels_shifted,
        single_features,
        near_copies,
        data_scan,
        image_layout,
    )
}


def smooth(count, generator, channels=3, side=16):
    """Return images of low frequencies, like photographs, with some noise: (count, channels, side, side) in 0..1."""
    coarse = torch.randn(count, channels, 5, 5, generator=generator)
    fine = F.interpolate(coarse, (side, side), mode="bicubic") + 0.3 * torch.randn(
        count, channels, side, side, generator=generator
    )
    return (0.45 + 0.2 * fine).clamp(0, 1)


def images(count=800, classes=6, seed=0, channels=3):
    """Return images whose class adds a pattern of its own, at a strength that varies."""
    generator = torch.Generator().manual_seed(seed)
    patterns = smooth(classes, torch.Generator().manual_seed(99), channels) - 0.45
    targets = torch.arange(count) % classes
    strength = 0.5 + torch.rand(count, 1, 1, 1, generator=generator)
    return smooth(count, generator, channels) + strength * patterns[targets], targets


def table(count=600, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 2
    rows = torch.randn(count, 8, generator=generator).exp()
    rows[:, 0] += 1.2 * targets
    rows[:, 1] -= 0.8 * targets
    return rows, targets


def found(setup_of, train, val, only=None, **data):
    setup = setup_of(train, lambda: nn.Flatten(), val=val, num_classes=int(train[1].max()) + 1, data=data)
    evidence = {}
    for name, probe in PROBES.items():
        try:
            evidence[name] = probe(setup)
        except CannotProbe as reason:
            evidence[name] = {"skipped": str(reason)}
    findings, _, _ = judged("check-init", {**evidence})
    return {f.code: f for f in findings if f.code.startswith("DA") and f.severity != "note"}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("sizes", [(800, 300), (800, 60), (240, 80)])
def test_splits_of_one_source_give_nothing(setup_of, seed, sizes):
    whole = images(sum(sizes), seed=seed)
    train, val = ((whole[0][part], whole[1][part]) for part in (slice(sizes[0]), slice(sizes[0], None)))
    assert not found(setup_of, train, val)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tables_of_one_source_give_nothing(setup_of, seed):
    assert not found(setup_of, table(400, 2 * seed), table(150, 2 * seed + 1))


def test_two_classes_of_different_size_give_nothing(setup_of):
    generator = torch.Generator().manual_seed(0)
    rows, targets = torch.randn(500, 6, generator=generator), (torch.arange(500) % 10 == 0).long()
    rows[targets == 1, 0] += 3
    order = torch.randperm(500, generator=generator)
    assert not found(setup_of, (rows[order[:400]], targets[order[:400]]), (rows[order[400:]], targets[order[400:]]))


def changed(change):
    train, (inputs, targets) = images(800), images(300, seed=1)
    return train, change(inputs, targets)


SHIFTED = {
    "val that is not normalised": lambda x, y: (x * 255, y),
    "val with another mean": lambda x, y: (x + 0.25, y),
    "val in negative": lambda x, y: (1 - x, y),
    "val upside down": lambda x, y: (x.flip(2), y),
    "val that was blurred": lambda x, y: (F.avg_pool2d(x, 5, 1, 2), y),
}


@pytest.mark.parametrize("case", SHIFTED)
def test_val_of_another_pipeline_is_found(setup_of, case):
    seen = found(setup_of, *changed(SHIFTED[case]))
    assert seen["DA110"].severity == "warn"
    assert seen["DA110"].cause == "train-val-shift"


def test_dataset_that_augments_itself_is_given_room(setup_of):
    (inputs, targets), val = images(800), images(300, seed=1)
    generator = torch.Generator().manual_seed(5)
    brighter = inputs + 0.1 * torch.rand(len(inputs), 1, 1, 1, generator=generator)
    assert not found(setup_of, (brighter, targets), val, stochastic=True)


def test_classes_in_another_order_are_told_from_wrong_labels(setup_of):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    renamed = found(setup_of, *changed(lambda x, y: (x, order[y])))["DA112"]
    shuffled = found(setup_of, *changed(lambda x, y: (x, y[torch.randperm(len(y))])))["DA112"]
    assert "another order" in renamed.title
    assert "another order" not in shuffled.title


def test_labels_in_a_random_order_are_found(setup_of):
    inputs, targets = images(1100)
    targets = targets[torch.randperm(1100, generator=torch.Generator().manual_seed(1))]
    seen = found(setup_of, (inputs[:800], targets[:800]), (inputs[800:], targets[800:]))
    assert {code: f.cause for code, f in seen.items()} == {"DA113": "misaligned-labels"}


def test_labels_with_noise_are_not_taken_for_misaligned_ones(setup_of):
    inputs, targets = images(1100)
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(1100, generator=generator) < 0.5
    targets = torch.where(wrong, torch.randint(0, 6, (1100,), generator=generator), targets)
    assert not found(setup_of, (inputs[:800], targets[:800]), (inputs[800:], targets[800:]))


@pytest.mark.parametrize("value", [lambda y: y.float(), lambda y: 1000 - 3.0 * y, lambda y: (y * 7 + 3) % 11 * 1.0])
def test_column_that_is_the_label_is_found(setup_of, value):
    rows, targets = images(900)
    train, val = ((rows[p].flatten(1)[:, :40], targets[p]) for p in (slice(600), slice(600, None)))
    leaking = [(torch.cat([x, value(y)[:, None]], 1), y) for x, y in (train, val)]
    assert "value 40" in found(setup_of, *leaking)["DA114"].title
    assert "DA114" not in found(setup_of, train, val)


def test_val_of_one_class_is_found(setup_of):
    inputs, targets = images(1200)
    order = targets.argsort(stable=True)
    train, val = ((inputs[order[p]], targets[order[p]]) for p in (slice(960), slice(960, None)))
    assert found(setup_of, train, val)["DA118"].severity == "warn"


def copies(shift=0, noise=0.02, gain=1.0, share=1.0):
    inputs, targets = images(1200)
    generator = torch.Generator().manual_seed(3)
    twins = gain * inputs[:200].roll(shift, 3) + noise * torch.randn(200, 3, 16, 16, generator=generator)
    val = twins[: int(200 * share)], targets[: int(200 * share)]
    rest = images(200 - len(val[0]), seed=9) if share < 1 else (inputs[:0], targets[:0])
    return (inputs, targets), (torch.cat([val[0], rest[0]]), torch.cat([val[1], rest[1]]))


@pytest.mark.parametrize("kind", [{}, {"gain": 1.1}, {"noise": 0.05}, {"share": 0.1}])
def test_near_copies_are_found(setup_of, kind):
    train, val = copies(**kind)
    seen = found(setup_of, train, val)
    assert seen["DA111"].cause == "train-val-overlap"
    assert seen["DA111"].evidence["first"] == ["train row 0", "val row 0"]


def test_images_of_few_dimensions_are_not_compared(setup_of):
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 16).expand(1, 16, 16)
    inputs = (
        torch.rand(600, 1, 1, 1, generator=generator) * ramp + torch.rand(600, 1, 1, 1, generator=generator) * ramp.mT
    )
    targets = (inputs.mean((1, 2, 3)) > 0.5).long()
    assert "DA111" not in found(setup_of, (inputs[:400], targets[:400]), (inputs[400:], targets[400:]))


def test_images_reshaped_in_place_of_transposed_are_found(setup_of):
    tint = torch.tensor([1.0, 0.9, 0.8])[:, None, None]  # the colours of photographs go together
    sound = [(x * tint, y) for x, y in (images(800, channels=1), images(300, seed=1, channels=1))]
    reshaped = [(x.permute(0, 2, 3, 1).reshape(x.shape), y) for x, y in sound]
    assert found(setup_of, *reshaped)["DA119"].cause == "scrambled-input"
    assert not found(setup_of, *sound)


def test_val_of_other_class_shares_is_not_taken_for_other_images(setup_of):
    inputs, targets = images(1600)
    rare = (targets >= 3) & (torch.arange(1600) % 10 > 0)
    train = inputs[~rare], targets[~rare]
    assert "DA110" not in found(setup_of, train, images(300, seed=1))


def test_small_train_beside_a_large_val_is_found(setup_of):
    assert found(setup_of, images(90), images(300, seed=1))["DA116"].cause == "too-little-data"


def in_order(examples, key):
    """Return examples in the order of `key`, a random one where it is None."""
    inputs, targets = examples
    order = key(targets) if key else torch.randperm(len(targets), generator=torch.Generator().manual_seed(3))
    return inputs[order], targets[order]


@pytest.mark.parametrize(("by", "side"), [(1, "after"), (-1, "before")])
def test_images_whose_labels_lie_one_row_off(setup_of, by, side):
    inputs, targets = in_order(images(800), None)
    said = found(setup_of, (inputs, targets.roll(by)), images(200, seed=5))
    assert said["DA113"].cause == "misaligned-labels"
    assert f"the example {side} fits" in said["DA113"].title


@pytest.mark.parametrize("key", [None, torch.argsort, lambda targets: torch.arange(len(targets))])
def test_images_in_any_order_with_their_own_labels(setup_of, key):
    assert "DA113" not in found(setup_of, in_order(images(800), key), images(200, seed=5))


def test_rows_that_foretell_the_next_are_not_asked(setup_of):
    inputs, targets = in_order(table(), None)
    with pytest.raises(CannotProbe, match="in time"):
        labels_shifted(setup_of((inputs, targets.roll(-1)), nn.Flatten))


def test_a_column_that_counts_the_rows_is_in_order_and_the_others_are_not(setup_of):
    def rows(start, seed):
        inputs = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed))
        inputs[:, 1] = torch.arange(start, start + 200)
        return inputs, torch.arange(200) % 2

    found = splits_compared(setup_of(rows(0, 0), lambda: nn.Linear(3, 2), val=rows(200, 1)))
    assert [entry.ordered for entry in found.shifts] == [False, True, False]
    assert abs(found.shifts[1].z) > 6  # it lies apart, by nature


def test_whole_numbers_are_not_compared_by_size(setup_of):
    tokens = torch.randint(0, 50, (100, 5)), torch.arange(100) % 2
    with pytest.raises(CannotProbe, match="whole numbers"):
        splits_compared(setup_of(tokens, lambda: nn.Linear(5, 2), val=tokens))
