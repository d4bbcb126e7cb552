"""Data of a trial: splits, batches, order, augmentation, labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tuner.core.errors import InputError, UsageError, UserCodeError
from tuner.core.trial import TrialEnv
from tuner.train.data import Data, load_data


def env(folder: Path) -> TrialEnv:
    return TrialEnv(folder, cache_dir=folder / "cache")


def load(folder: Path, with_test: bool = False, **table) -> Data:
    return load_data({"data": {"source": "npz", **table}}, env(folder), with_test)


def saved(folder: Path, n: int = 60, classes: int = 3, shape=(4,), name: str = "a.npz", **more) -> str:
    """Save inputs that tell their own index: every value of example i is i."""
    inputs = np.broadcast_to(np.arange(n, dtype=np.float32).reshape(n, *[1] * len(shape)), (n, *shape))
    np.savez(folder / name, x=inputs, y=np.arange(n) % classes, **more)
    return str(folder / name)


def who(inputs: torch.Tensor) -> list[int]:
    return [int(value) for value in inputs.flatten(1)[:, 0]]


def epoch_of(data: Data, *args, **kwargs) -> list[int]:
    return [i for inputs, _ in data.epoch(*args, **kwargs) for i in who(inputs)]


# --- splits --------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_cover_everything(tmp_path):
    data = load(tmp_path, True, path=saved(tmp_path))
    members = {split: who(data.inputs(split)) for split in ("train", "val", "test", "train_eval")}
    assert sorted(members["train"] + members["val"] + members["test"]) == list(range(60))
    assert {split: data.size(split) for split in members} == {"train": 38, "val": 10, "test": 12, "train_eval": 10}
    assert set(members["train_eval"]) < set(members["train"])


def test_targets_belong_to_their_inputs_in_every_split(tmp_path):
    data = load(tmp_path, True, path=saved(tmp_path), normalize="none")
    for split in ("train", "val", "test", "train_eval"):
        assert [i % 3 for i in who(data.inputs(split))] == data.targets(split).tolist()
        for inputs, targets in data.batches(split, 7):
            assert [i % 3 for i in who(inputs)] == targets.tolist()
    for inputs, targets in data.epoch(0, 1, 7):
        assert [i % 3 for i in who(inputs)] == targets.tolist()


def test_train_eval_has_the_class_shares_of_train(tmp_path):
    data = load(tmp_path, path=saved(tmp_path, n=600))
    counts = torch.bincount(data.targets("train_eval"))
    assert counts.max() - counts.min() <= 1 and int(counts.sum()) == data.size("val")


def test_test_examples_are_not_handed_out_unless_asked_for(tmp_path):
    path = saved(tmp_path)
    data = load(tmp_path, path=path)
    assert data.size("test") == 12
    for ask in (data.targets, data.inputs, lambda split: data.batches(split, 4), lambda split: data.describe(split, 0)):
        with pytest.raises(ValueError, match=r"'test' split is not handed out"):
            ask("test")
    with_test = load(tmp_path, True, path=path)
    for split in ("train", "val", "train_eval"):
        assert who(data.inputs(split)) == who(with_test.inputs(split))


def test_own_splits_of_a_source_are_used_as_they_are(tmp_path):
    more = {f"x_{s}": np.full((n, 4), 1000.0 + n) for s, n in (("val", 6), ("test", 5))}
    more |= {"y_val": np.arange(6) % 3, "y_test": np.arange(5) % 3}
    data = load(tmp_path, True, path=saved(tmp_path, **more), val_fraction=0.5, test_fraction=0.5)
    assert {s: data.size(s) for s in ("train", "val", "test")} == {"train": 60, "val": 6, "test": 5}
    assert float(data.inputs("val").min()) == 1006


def test_only_the_missing_split_is_cut_from_train(tmp_path):
    more = {"x_test": np.zeros((6, 4)), "y_test": np.arange(6) % 3}
    data = load(tmp_path, path=saved(tmp_path, **more))
    assert {s: data.size(s) for s in ("train", "val", "test")} == {"train": 48, "val": 12, "test": 6}


def test_splits_are_the_same_in_two_loads_and_follow_the_split_seed(tmp_path):
    path = saved(tmp_path)
    once, again, other = (load(tmp_path, path=path, split_seed=seed, normalize="none") for seed in (0, 0, 1))
    assert who(once.inputs("val")) == who(again.inputs("val")) != who(other.inputs("val"))


# --- statistics ----------------------------------------------------------------------------------------------


def test_standardize_is_the_default_of_built_in_sources_and_uses_train_alone(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (300, 4)).astype(np.float32)
    more = {"x_val": x[:50] + 100, "y_val": np.arange(50) % 3}
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(300) % 3, **more)
    data = load(tmp_path, path=str(tmp_path / "a.npz"))
    train = torch.cat([inputs for inputs, _ in data.batches("train", 64)])
    assert torch.allclose(train.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.ones(4), atol=1e-5)
    val = torch.cat([inputs for inputs, _ in data.batches("val", 64)])
    assert float(val.mean()) > 25  # shifted by 100 / 3: val keeps its distance


def test_statistics_of_image_chunks_equal_those_of_the_whole(tmp_path, monkeypatch):
    from tuner.train import stores

    monkeypatch.setattr(stores, "CHUNK_VALUES", 1000)
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(40) % 2)
    data = load(tmp_path, path=str(tmp_path / "a.npz"))
    train = torch.cat([inputs for inputs, _ in data.batches("train", 8)])
    assert torch.allclose(train.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(train.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_raw_inputs_are_neither_normalised_nor_reordered(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(20) % 2, x_val=images[:4], y_val=np.arange(4) % 2)
    data = load(tmp_path, path=str(tmp_path / "a.npz"))
    assert data.input_shape == (3, 6, 5) and data.is_image
    assert np.array_equal(data.inputs("val").numpy(), images[:4].transpose(0, 3, 1, 2))
    assert np.array_equal(data.inputs("val", [2, 0]).numpy(), images[[2, 0]].transpose(0, 3, 1, 2))
    batch = next(iter(data.batches("val", 4)))[0]
    assert torch.allclose(data.normalise(data.inputs("val")), batch)
    assert batch.is_contiguous(memory_format=torch.channels_last) and batch.dtype == torch.float32


# --- batches -------------------------------------------------------------------------------------------------


def test_epoch_shows_every_example_once(tmp_path):
    data = load(tmp_path, path=saved(tmp_path), normalize="none")
    assert sorted(epoch_of(data, 0, 1, 6)) == sorted(who(data.inputs("train")))


def test_epoch_order_differs_between_epochs_and_seeds_and_repeats(tmp_path):
    data = load(tmp_path, path=saved(tmp_path), normalize="none")
    first = epoch_of(data, 0, 1, 8)
    assert first == epoch_of(data, 0, 1, 8)
    assert first != epoch_of(data, 0, 2, 8) and first != epoch_of(data, 1, 1, 8)
    torch.manual_seed(123)
    assert first == epoch_of(data, 0, 1, 8)


def test_epoch_does_not_touch_the_global_generator(tmp_path):
    data = load(tmp_path, path=saved(tmp_path), augment=["gaussian_noise"])
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    list(data.epoch(0, 1, 8))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(("batch_size", "sizes"), [(37, [37]), (36, [36, 2]), (10, [10, 10, 10, 8]), (100, [38])])
def test_last_batch_is_kept_unless_it_has_one_example(tmp_path, batch_size, sizes):
    data = load(tmp_path, path=saved(tmp_path))
    assert [len(targets) for _, targets in data.epoch(0, 1, batch_size)] == sizes
    assert data.steps_per_epoch(batch_size) == len(sizes)


def test_batches_of_one_example_are_kept_when_that_is_the_batch_size(tmp_path):
    data = load(tmp_path, path=saved(tmp_path))
    assert data.steps_per_epoch(1) == 38 == len(list(data.epoch(0, 1, 1)))


def test_evaluation_batches_cover_the_split_and_can_be_read_again(tmp_path):
    data = load(tmp_path, path=saved(tmp_path), normalize="none", augment=["gaussian_noise"])
    batches = data.batches("val", 3)
    assert [len(targets) for _, targets in batches] == [3, 3, 3, 1] and len(batches) == 4
    for _ in range(2):
        assert [i for inputs, _ in batches for i in who(inputs)] == who(data.inputs("val"))
    chosen = data.batches("train", 2, indices=torch.tensor([5, 0, 3]))
    assert [i for inputs, _ in chosen for i in who(inputs)] == who(data.inputs("train", [5, 0, 3])) and len(chosen) == 2


# --- augmentation --------------------------------------------------------------------------------------------


def test_epoch_augments_train_batches_only_and_by_its_own_stream(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(40) % 2)
    data = load(tmp_path, path=str(tmp_path / "a.npz"), augment=["hflip", {"name": "random_crop", "padding": 1}])
    first, again, later = (torch.cat([x for x, _ in data.epoch(0, epoch, 8)]) for epoch in (1, 1, 2))
    plain = torch.cat([x for x, _ in data.epoch(0, 1, 8, augment=False)])
    assert torch.equal(first, again) and not torch.equal(first, plain) and not torch.equal(first, later)
    assert torch.equal(plain.sum(0).sum(), torch.cat([x for x, _ in data.epoch(0, 1, 8, augment=False)]).sum(0).sum())
    originals = {tuple(row.tolist()) for row in data.normalise(data.inputs("train")).flatten(1)}
    assert {tuple(row.tolist()) for row in plain.flatten(1)} == originals


def test_augmented_batch_equals_the_functions_applied_by_hand(tmp_path):
    from tuner.core.streams import derive_seed
    from tuner.parts import augment

    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(40) % 2)
    steps = ["hflip", {"name": "random_crop", "padding": 2}]
    data = load(tmp_path, path=str(tmp_path / "a.npz"), augment=steps)
    order = torch.randperm(data.size("train"), generator=torch.Generator().manual_seed(derive_seed(7, "order", 3)))
    draws = torch.Generator().manual_seed(derive_seed(7, "augment", 3))
    for number, (inputs, targets) in enumerate(data.epoch(7, 3, 8)):
        chosen = order[number * 8 : (number + 1) * 8]
        batch = augment.hflip(data.inputs("train", chosen), targets, draws)
        batch = augment.random_crop(*batch, draws, padding=2)
        assert torch.allclose(inputs, data.normalise(batch[0]))
        assert torch.equal(targets, data.targets("train")[chosen])


def test_users_augmentation_is_called_with_raw_batch_and_generator(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def shift(inputs, targets, generator, by):\n"
        "    assert inputs.min() >= 0\n"
        "    return inputs + by + torch.rand(1, generator=generator), targets\n"
    )
    data = load(tmp_path, path=saved(tmp_path), normalize="none", augment=[{"name": "mine.py:shift", "by": 1000}])
    plain = torch.cat([x for x, _ in data.epoch(0, 1, 8, augment=False)])
    difference = torch.cat([x for x, _ in data.epoch(0, 1, 8)]) - plain
    assert 1000 <= float(difference.min()) <= float(difference.max()) < 1001.1


def test_an_augmentation_may_give_the_shares_of_the_classes_and_is_told_how_many_there_are(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch.nn.functional as F\n"
        "def halves(inputs, targets, generator, num_classes):\n"
        "    shares = F.one_hot(targets, num_classes).float()\n"
        "    return inputs, (shares + shares.flip(0)) / 2\n"
    )
    data = load(tmp_path, path=saved(tmp_path), augment=["mine.py:halves"])
    _, shares = next(iter(data.epoch(0, 1, 8)))
    assert shares.shape == (8, data.num_classes) and torch.allclose(shares.sum(1), torch.ones(8))


@pytest.mark.parametrize(
    "signature", ["inputs, targets", "by, targets, inputs", "x, y, draws, by", "*, generator, inputs, targets, by"]
)
def test_users_augmentation_is_given_what_it_asks_for_by_name_or_all_by_position(tmp_path, signature):
    first, second = ("x", "y") if "x" in signature else ("inputs", "targets")
    text = f"def shift({signature}):\n    assert not {second}.is_floating_point()\n    return {first} + 5, {second}\n"
    (tmp_path / "mine.py").write_text(text)
    item = {"name": "mine.py:shift", **({"by": 1} if "by" in signature else {})}
    data = load(tmp_path, path=saved(tmp_path), normalize="none", augment=[item])
    plain = torch.cat([x for x, _ in data.epoch(0, 1, 8, augment=False)])
    assert torch.equal(torch.cat([x for x, _ in data.epoch(0, 1, 8)]), plain + 5)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("hflipp", UsageError, "data.augment: unknown augment 'hflipp' - did you mean 'hflip'?"),
        ({"name": "random_crop", "paddding": 2}, UsageError, "paddding: random_crop.. takes no such argument"),
        ({"name": "random_crop", "padding": -2}, UsageError, "padding must be a whole number above 0"),
        ("mine.py:raises", UserCodeError, r"mine.py:2: .*raised ValueError: no"),
        ("mine.py:nothing", UsageError, "must return .inputs, targets., it returned NoneType"),
        ("mine.py:smaller", UsageError, "changed inputs of shape .2, 1, 4, 4. into an array of shape .2, 1, 3, 4."),
        ("mine.py:soft", UsageError, "changed targets of shape"),
    ],
)
def test_a_wrong_augmentation_is_known_when_data_is_loaded(tmp_path, item, error, message):
    (tmp_path / "mine.py").write_text(
        "def raises(inputs, targets, generator):\n    raise ValueError('no')\n"
        "def nothing(inputs, targets, generator):\n    pass\n"
        "def smaller(inputs, targets, generator):\n    return inputs[:, :, 1:], targets\n"
        "def soft(inputs, targets, generator):\n    return inputs, targets.float()\n"
    )
    with pytest.raises(error, match=message):
        load(tmp_path, path=saved(tmp_path, shape=(1, 4, 4)), augment=[item])


def test_augmentation_of_images_is_refused_for_a_table(tmp_path):
    with pytest.raises(UsageError, match=r"hflip: needs images"):
        load(tmp_path, path=saved(tmp_path), augment=["hflip"])


# --- labels and names ----------------------------------------------------------------------------------------


def test_num_classes_is_the_largest_label_plus_one_or_the_given(tmp_path):
    path = saved(tmp_path, classes=4)
    assert load(tmp_path, path=path).num_classes == 4
    given = load(tmp_path, path=path, num_classes=6)
    assert given.num_classes == 6 and given.class_names == ("0", "1", "2", "3", "4", "5")


def test_labels_outside_the_range_do_not_stop_the_load(tmp_path):
    y = np.arange(60) % 3
    np.savez(tmp_path / "a.npz", x=np.zeros((60, 4)), y=np.where(y == 0, -1, y + 4))
    data = load(tmp_path, path=str(tmp_path / "a.npz"), num_classes=3)
    assert data.num_classes == 3 and set(data.targets("train").tolist()) == {-1, 5, 6}


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.zeros(60, dtype=int), InputError, "all 60 train examples are of one class .0."),
        (np.arange(60) * 1.0, UsageError, "targets are real numbers .float64.; tuner needs one integer class"),
        (np.eye(3)[np.arange(60) % 3], UsageError, r"shape \(60, 3\), which looks one-hot or multi-hot"),
        (np.where(np.arange(60) == 3, 1, 0), InputError, "too few examples of a class .* class 1 has 1"),
        (np.arange(60) % 2 + 99, InputError, "38 train examples for 101 classes .the largest label plus one."),
    ],
)
def test_labels_that_cannot_be_used_are_explained(tmp_path, y, error, message):
    np.savez(tmp_path / "a.npz", x=np.zeros((60, 4)), y=y)
    with pytest.raises(error, match=message):
        load(tmp_path, path=str(tmp_path / "a.npz"))


def test_fewer_examples_than_given_classes_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"38 train examples for 50 classes .data.num_classes."):
        load(tmp_path, path=saved(tmp_path), num_classes=50)


def test_describe_names_the_row_of_the_table(tmp_path):
    lines = ["age,kind"] + [f"{i},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data = load(tmp_path, source="table", path=str(tmp_path / "t.csv"), target="kind")
    assert data.feature_names == ("age",) and data.class_names == ("a", "b")
    for split in ("train", "val", "train_eval"):
        for i in range(data.size(split)):
            row = int(data.inputs(split, [i])[0, 0])
            assert data.describe(split, i) == f"row {row} (line {row + 2})"


def test_arguments_of_a_source_are_checked(tmp_path):
    with pytest.raises(UsageError, match=r"data.pth: npz.. takes no such argument - did you mean 'path'?"):
        load(tmp_path, pth="x")
    with pytest.raises(UsageError, match=r"unknown source 'mnits' - did you mean 'mnist'?"):
        load(tmp_path, source="mnits")


def test_a_changed_file_is_noticed_within_one_process(tmp_path):
    path = saved(tmp_path, n=60)
    assert load(tmp_path, path=path).size("train") == 38
    saved(tmp_path, n=90)
    assert load(tmp_path, path=path).size("train") > 38


def test_digits_load_with_their_names(tmp_path):
    data = load(tmp_path, source="digits")
    assert (data.input_shape, data.num_classes, data.is_image) == ((1, 8, 8), 10, True)
    assert [data.size(s) for s in ("train", "val", "test")] == [1150, 288, 359]
    assert not data.stochastic and data.skipped == []


# --- weights and sizes ---------------------------------------------------------------------------------------


def test_a_recipe_draws_rows_by_a_column_of_weights(tmp_path):
    rows = "".join(f"{i},{i % 2},{int(i % 5 == 0)}\n" for i in range(100))
    (tmp_path / "a.csv").write_text("x,y,worth\n" + rows)
    table = {"source": "table", "path": str(tmp_path / "a.csv"), "target": "y", "weights": "worth"}
    data = load_data({"data": {**table, "normalize": "none", "sampler": "weighted"}}, env(tmp_path))
    drawn = [int(value) for inputs, _ in data.epoch(0, 1, 16) for value in inputs[:, 0]]
    assert len(drawn) == data.size("train") and all(value % 5 == 0 for value in drawn)
    assert data.input_shape == (1,)


def test_images_are_resized_as_torchvision_does_in_every_split(tmp_path):
    from torchvision.transforms import v2

    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "a.npz", x=images.numpy(), y=np.arange(40) % 2)
    plain = load(tmp_path, path=str(tmp_path / "a.npz"), normalize="none")
    data = load(tmp_path, path=str(tmp_path / "a.npz"), normalize="none", resize=[12, 6])
    assert data.input_shape == (3, 12, 6)
    for split in ("train", "val"):
        wanted = v2.functional.resize(plain.inputs(split).to(torch.uint8), [12, 6], antialias=True)
        assert (data.inputs(split).int() - wanted.int()).abs().max() <= 1  # rounded alike but for ties
    batch, _ = next(iter(data.batches("val", 4)))
    assert batch.shape == (4, 3, 12, 6)


def test_what_cannot_be_resized_is_refused(tmp_path):
    with pytest.raises(UsageError, match="data.resize: is of images, the inputs have shape"):
        load(tmp_path, path=saved(tmp_path), resize=8)
    with pytest.raises(ValueError, match="a number of pixels, or a height and a width"):
        load(tmp_path, path=saved(tmp_path), resize=[8, 8, 3])
