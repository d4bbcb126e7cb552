"""Augmentations against naive loops, one example at a time, and against torchvision."""

import pytest
import torch

from tuner.core.errors import UsageError
from tuner.parts import augment
from tuner.recipe import registry


def batch(n: int = 12, channels: int = 3, height: int = 7, width: int = 5, dtype: torch.dtype = torch.uint8):
    values = torch.randint(0, 256, (n, channels, height, width), generator=torch.Generator().manual_seed(1))
    return values.to(dtype).contiguous(memory_format=torch.channels_last), torch.arange(n)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_random_crop_cuts_the_windows_that_a_loop_cuts(channels, dtype):
    inputs, targets = batch(channels=channels, dtype=dtype)
    result, labels = augment.random_crop(inputs, targets, drawn(), padding=2)
    offsets = torch.randint(0, 5, (2, len(inputs)), generator=drawn())
    padded = torch.nn.functional.pad(inputs, (2, 2, 2, 2))
    for i in range(len(inputs)):
        top, left = int(offsets[0, i]), int(offsets[1, i])
        assert torch.equal(result[i], padded[i, :, top : top + 7, left : left + 5])
    assert result.dtype == dtype
    assert torch.equal(labels, targets)


def test_random_crop_draws_every_offset_when_there_are_many_examples():
    inputs = torch.zeros(2000, 1, 3, 3, dtype=torch.uint8)
    inputs[:, :, 1, 1] = 1
    result, _ = augment.random_crop(inputs, torch.zeros(2000), drawn(), padding=1)
    places = result.flatten(1).float().argmax(1)
    counts = torch.bincount(places, minlength=9)
    assert counts.min() > 150  # 222 expected of each of the nine places, standard deviation 14
    assert result.sum() == 2000


@pytest.mark.parametrize(("name", "axis"), [("hflip", 3), ("vflip", 2)])
def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others(name, axis):
    inputs, targets = batch(n=400)
    before = inputs.clone()
    result, _ = getattr(augment, name)(inputs, targets, drawn())
    mirrored = [torch.equal(result[i], before[i].flip(axis - 1)) for i in range(400)]
    same = [torch.equal(result[i], before[i]) for i in range(400)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250  # 200 expected, standard deviation 10
    assert torch.equal(inputs, before)


def test_hflip_mirrors_all_when_p_is_one_and_none_when_p_is_zero():
    inputs, targets = batch()
    assert torch.equal(augment.hflip(inputs, targets, drawn(), p=1)[0], inputs.flip(3))
    assert torch.equal(augment.hflip(inputs, targets, drawn(), p=0)[0], inputs)


def test_cutout_blanks_one_square_with_the_mean_colour():
    inputs = torch.full((200, 2, 9, 9), 100, dtype=torch.uint8)
    inputs[:, 1] = 50
    inputs[:, :, ::2] += 2  # rows of 102 and 100: mean 101.1 and 51.1
    result, _ = augment.cutout(inputs, torch.zeros(200), drawn(), size=3)
    blank = result != inputs
    assert set(result[:, 0][blank[:, 0]].tolist()) == {101}
    assert set(result[:, 1][blank[:, 1]].tolist()) == {51}
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(rows * columns, blank[:, 0].sum((1, 2)))  # a filled rectangle
    assert int(rows.max()) == int(columns.max()) == 3
    assert int(rows.min()) >= 2  # hangs over the edge by at most one


def test_color_jitter_scales_brightness_as_torchvision_does_when_contrast_is_off():
    from torchvision.transforms import functional as reference

    inputs, targets = batch(dtype=torch.float32)
    inputs = inputs / 1000  # so that torchvision, which cuts floats at 1, has nothing to cut
    result, _ = augment.color_jitter(inputs, targets, drawn(), brightness=0.5, contrast=0)
    draws = torch.rand(2, len(inputs), 1, 1, 1, generator=drawn())[0].flatten() * 2 - 1
    for i in range(len(inputs)):
        wanted = reference.adjust_brightness(inputs[i], 1 + 0.5 * float(draws[i]))
        assert torch.allclose(result[i], wanted, atol=1e-6)


def test_color_jitter_keeps_the_mean_and_scales_the_deviations_when_brightness_is_off():
    inputs, targets = batch(dtype=torch.float32)
    result, _ = augment.color_jitter(inputs, targets, drawn(), brightness=0, contrast=0.5)
    axes = (1, 2, 3)
    assert torch.allclose(result.mean(axes), inputs.mean(axes), rtol=1e-5)
    ratios = result.std(axes) / inputs.std(axes)
    assert (ratios.min() < 0.8) and (ratios.max() > 1.2) and (ratios >= 0.5).all() and (ratios <= 1.5).all()


def test_color_jitter_keeps_bytes_in_range():
    inputs = torch.full((50, 3, 4, 4), 250, dtype=torch.uint8)
    result, _ = augment.color_jitter(inputs, torch.zeros(50), drawn(), brightness=1.0)
    assert result.dtype == torch.uint8
    assert int(result.max()) == 255 and int(result.min()) < 100


def test_rotate_turns_as_torchvision_does():
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as reference

    inputs, targets = batch(dtype=torch.float32, height=8, width=6)
    result, _ = augment.rotate(inputs, targets, drawn(), degrees=90)
    angles = (torch.rand(len(inputs), generator=drawn()) * 2 - 1) * 90
    for i in range(len(inputs)):
        wanted = reference.rotate(inputs[i], float(angles[i]), InterpolationMode.BILINEAR)
        assert torch.allclose(result[i], wanted, atol=0.05)


def test_gaussian_noise_has_the_asked_share_of_each_columns_spread():
    inputs = torch.randn(20_000, 2, generator=drawn(1)) * torch.tensor([1.0, 1000.0]) + 5
    result, _ = augment.gaussian_noise(inputs, torch.zeros(20_000), drawn(), std=0.1)
    noise = result - inputs
    assert torch.allclose(noise.std(0), torch.tensor([0.1, 100.0]), rtol=0.05)
    assert torch.allclose(noise.mean(0) / torch.tensor([0.1, 100.0]), torch.zeros(2), atol=0.05)


@pytest.mark.parametrize(
    "name", ["hflip", "vflip", "random_crop", "cutout", "color_jitter", "rotate", "gaussian_noise"]
)
def test_augmentation_keeps_shape_dtype_and_layout_and_repeats_with_the_seed(name):
    inputs, targets = batch(height=8, width=8)
    once, labels = getattr(augment, name)(inputs, targets, drawn(3))
    again, _ = getattr(augment, name)(inputs, targets, drawn(3))
    other, _ = getattr(augment, name)(inputs, targets, drawn(4))
    assert once.shape == inputs.shape and once.dtype == inputs.dtype
    assert once.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert torch.equal(labels, targets)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("hflip", {"p": 2}, "hflip: p must be from 0 to 1 .got 2."),
        ("random_crop", {"padding": 0}, "padding must be a whole number above 0 .got 0."),
        ("random_crop", {"padding": 1.5}, "padding must be a whole number above 0 .got 1.5."),
        ("cutout", {"size": 50}, "size must be a whole number from 1 to 7 .got 50."),
        ("color_jitter", {"brightness": -1}, "brightness must be from 0 to 1 .got -1."),
        ("color_jitter", {"contrast": 3}, "contrast must be from 0 to 1 .got 3."),
        ("rotate", {"degrees": 0}, "degrees must be above 0, up to 180 .got 0."),
        ("gaussian_noise", {"std": 0}, "std must be above 0 .got 0."),
    ],
)
def test_augmentation_names_the_argument_when_it_is_out_of_range(name, args, message):
    with pytest.raises(UsageError, match=message):
        getattr(augment, name)(*batch(), drawn(), **args)


@pytest.mark.parametrize("name", ["hflip", "vflip", "random_crop", "cutout", "color_jitter", "rotate"])
def test_augmentation_of_images_says_so_when_inputs_are_a_table(name):
    with pytest.raises(UsageError, match=f"{name}: needs images .* shape .4,."):
        getattr(augment, name)(torch.zeros(3, 4), torch.zeros(3), drawn())


def test_gaussian_noise_refuses_token_numbers():
    with pytest.raises(UsageError, match=r"needs real inputs or bytes"):
        augment.gaussian_noise(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3), drawn())


def test_every_function_of_the_module_is_an_augmentation():
    found = registry.built_ins("augment")
    assert len(found) == 19
    assert all(registry.asked(fn, ("inputs", "targets", "generator")) for fn in found.values())
