"""Crops, maps, blends, policies and library transforms against torchvision's, one example at a time."""

import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from tests.train.training_cases import make_case
from tuner.core.errors import UsageError
from tuner.parts.augment import _colour, _images, _strengths, blending, geometry, pixel_values, policies
from tuner.train.loop import fit


def batch(n=12, channels=3, height=12, width=10):
    values = torch.randint(0, 256, (n, channels, height, width), generator=torch.Generator().manual_seed(1))
    return values.to(torch.uint8).contiguous(memory_format=torch.channels_last), torch.arange(n) % 4


def smooth(n=6, size=24):
    """Images without sharp edges, on which two ways of interpolating agree to about a grey level."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [128 + 100 * torch.sin(0.2 * (i + 1) * x / 2 + i) * torch.cos(0.15 * y) for i in range(3 * n)]
    return torch.stack(waves).view(n, 3, size, size).round().to(torch.uint8)


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def close(one, other, tolerance=1):
    return int((one.int() - other.int()).abs().max()) <= tolerance


def test_cut_boxes_is_torchvisions_resized_crop_without_antialiasing():
    inputs, _ = batch()
    left, top = torch.arange(12) % 4, torch.arange(12) % 5
    width, height = 3 + torch.arange(12) % 4, 2 + torch.arange(12) % 6
    found = _images.cut_boxes(inputs, left.float(), top.float(), width.float(), height.float())
    for i in range(12):
        box = (int(top[i]), int(left[i]), int(height[i]), int(width[i]))
        assert close(found[i], tv.resized_crop(inputs[i], *box, size=[12, 10], antialias=False))


def test_resized_crop_draws_areas_and_ratios_like_torchvisions():
    n = 2000
    inputs = torch.arange(64).view(1, 1, 64, 1).expand(n, 1, 64, 64).to(torch.uint8)  # rows tell the height of the box
    found, _ = geometry.resized_crop(inputs, torch.zeros(n), drawn(), scale=(0.3, 0.9))
    heights = (found[:, 0, -1, 0].int() - found[:, 0, 0, 0].int() + 1).double()
    torch.manual_seed(0)
    theirs = torch.tensor(
        [
            v2.RandomResizedCrop.make_params(crop, [inputs[0]])["height"]
            for crop in [v2.RandomResizedCrop(64, (0.3, 0.9))] * n
        ]
    ).double()
    assert float(heights.mean()) == pytest.approx(
        float(theirs.mean()), abs=4 * float(theirs.std()) / math.sqrt(n) + 0.5
    )
    assert float(heights.std()) == pytest.approx(float(theirs.std()), rel=0.08)


def test_center_crop_is_torchvisions_crop_and_resize():
    inputs, _ = batch()
    found, _ = geometry.center_crop(inputs, torch.arange(12), drawn(), share=0.5)
    expected = tv.resize(tv.center_crop(inputs, [6, 5]), [12, 10], antialias=False)
    assert close(found, expected)


def test_affine_is_torchvisions_map_at_the_same_draws():
    inputs = smooth()
    found, _ = geometry.affine(inputs, torch.zeros(6), drawn(3), degrees=20, translate=0.1, scale=(0.8, 1.2), shear=10)
    generator = drawn(3)
    angle = _images.uniform((6,), -20, 20, generator)
    shear = _images.uniform((6,), -10, 10, generator)
    scale = _images.uniform((6,), 0.8, 1.2, generator)
    x = _images.uniform((6,), -0.1, 0.1, generator) * 24
    y = _images.uniform((6,), -0.1, 0.1, generator) * 24
    for i in range(6):
        expected = tv.affine(
            inputs[i].float(), float(angle[i]), [float(x[i]), float(y[i])], float(scale[i]), [float(shear[i]), 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )  # fmt: skip
        inside = expected[:, 6:-6, 6:-6]
        assert float((found[i, :, 6:-6, 6:-6].float() - inside).abs().max()) <= 2


def test_quarter_turn_turns_each_image_by_one_of_four_angles_alike_often():
    inputs, targets = batch(n=800, height=5, width=5)
    found, _ = geometry.quarter_turn(inputs, targets, drawn())
    turns = [next(k for k in range(4) if torch.equal(found[i], inputs[i].rot90(k, (1, 2)))) for i in range(800)]
    assert min(turns.count(k) for k in range(4)) > 150  # 200 expected, standard deviation 12
    with pytest.raises(UsageError, match="quarter_turn: needs square images, they have shape"):
        geometry.quarter_turn(*batch(), drawn())


def test_multi_scale_gives_a_whole_batch_one_of_the_sizes():
    inputs, targets = batch(height=20, width=20)
    draw = geometry.multi_scale
    batches = [draw(inputs, targets, drawn(seed), factors=[0.5, 1.0, 1.5])[0] for seed in range(20)]
    sizes = {tuple(images.shape[2:]) for images in batches}
    assert sizes == {(10, 10), (20, 20), (30, 30)}
    found, _ = geometry.multi_scale(inputs, targets, drawn(), factors=[0.5])
    assert close(found, tv.resize(inputs, [10, 10], antialias=True))


def test_blur_is_torchvisions_gaussian_at_the_same_sigma():
    inputs, targets = batch()
    found, _ = pixel_values.blur(inputs, targets, drawn(), p=1.0, sigma=(1.0, 1.0))
    assert close(found, tv.gaussian_blur(inputs, [7, 7], [1.0, 1.0]))
    some, _ = pixel_values.blur(*batch(n=400), drawn(), p=0.25)
    same = sum(torch.equal(a, b) for a, b in zip(some, batch(n=400)[0], strict=True))
    assert 260 < same < 340  # 300 expected, standard deviation 9


def test_erasing_draws_boxes_like_torchvisions():
    n = 3000
    inputs = torch.zeros(n, 1, 20, 20)
    inputs[:, :, 0, 0] = 400.0  # the mean is 1, so that erased pixels are known
    found, _ = pixel_values.erasing(inputs, torch.zeros(n), drawn(), p=0.5)
    ours = (found[:, 0] == 1).double().sum((1, 2)) / 400
    torch.manual_seed(0)
    transform = v2.RandomErasing(p=0.5, value=1.0)
    theirs = torch.stack([(transform(torch.zeros(1, 20, 20)) == 1).double().mean() for _ in range(n)])
    error = 4 * float(theirs.std()) / math.sqrt(n)
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=error + 0.004)
    assert float((ours > 0).double().mean()) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("saturation", "hue"), [(0.5, 0.0), (0.0, 0.3)])
def test_saturation_and_hue_are_torchvisions_at_the_same_draws(saturation, hue):
    inputs, _ = batch()
    found = _colour.saturation_and_hue(inputs, drawn(5), saturation, hue)
    generator = drawn(5)
    factor = _images.uniform((12, 1, 1, 1), 1 - saturation, 1 + saturation, generator)
    turn = _images.uniform((12, 1, 1), -hue, hue, generator) if hue else torch.zeros(12)
    for i in range(12):
        moved = tv.adjust_saturation(inputs[i], float(factor[i])) if saturation else inputs[i]
        expected = tv.adjust_hue(moved, float(turn[i])) if hue else moved
        assert close(found[i], expected, 2)


def test_mixup_adds_inputs_and_labels_in_the_same_shares():
    inputs, targets = batch(n=64)
    mixed, shares = blending.mixup(inputs.float(), targets, drawn(), num_classes=4, alpha=1.0)
    generator = drawn()
    gamma = torch._standard_gamma(torch.ones(2, 64, dtype=torch.float64), generator=generator)
    share = (gamma[0] / gamma.sum(0)).float()
    partner = torch.randperm(64, generator=generator)
    for i in range(64):
        expected = share[i] * inputs[i].float() + (1 - share[i]) * inputs[partner[i]].float()
        assert torch.allclose(mixed[i], expected, atol=1e-3)
    one_hot = torch.eye(4)[targets]
    assert torch.allclose(shares, share[:, None] * one_hot + (1 - share[:, None]) * one_hot[partner])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixups_shares_are_of_the_beta_distribution(alpha):
    from scipy.stats import beta, kstest

    assert kstest(_images.beta(4000, alpha, drawn()).numpy(), beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_pastes_a_box_of_a_partner_and_shares_the_labels_as_the_areas():
    n = 200
    inputs = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 1, 8, 8).contiguous()
    mixed, shares = blending.cutmix(inputs, torch.arange(n), drawn(), num_classes=n)
    for i in range(n):
        pasted = mixed[i, 0] != i
        rows, columns = pasted.any(1), pasted.any(0)
        assert torch.equal(pasted, rows[:, None] & columns[None])  # a box, and it is whole
        assert float(shares[i, i]) == pytest.approx(1 - float(pasted.double().mean()), abs=1e-6)
        if pasted.any():
            partner = int(mixed[i, 0][pasted][0])
            assert float(shares[i, partner]) == pytest.approx(float(pasted.double().mean()), abs=1e-6)


def test_shares_are_mixed_once_more_by_a_second_blend():
    inputs, targets = batch(n=16)
    mixed, shares = blending.mixup(inputs, targets, drawn(), num_classes=4)
    _, twice = blending.cutmix(mixed, shares, drawn(1), num_classes=4)
    assert torch.allclose(twice.sum(1), torch.ones(16), atol=1e-6) and twice.shape == (16, 4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (policies.randaugment, v2.RandAugment()),
        (policies.trivialaugment, v2.TrivialAugmentWide()),
        (policies.autoaugment, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    ],
)
def test_a_policy_changes_images_as_much_as_torchvisions_does(ours, theirs):
    from scipy.stats import ks_2samp

    inputs = smooth(1).expand(600, -1, -1, -1).contiguous()
    found, _ = ours(inputs, torch.zeros(600), drawn())
    torch.manual_seed(0)
    expected = torch.stack([theirs(image) for image in inputs])
    changes = [(moved.float() - inputs.float()).abs().mean((1, 2, 3)).numpy() for moved in (found, expected)]
    assert ks_2samp(*changes).pvalue > 1e-3
    assert len({image.numpy().tobytes() for image in found}) > 25  # each example draws for itself


def test_color_jitter_moves_colours_only_where_it_is_asked_to():
    from tuner.parts.augment import color_jitter

    inputs, targets = batch()
    plain, _ = color_jitter(inputs, targets, drawn())
    again, _ = color_jitter(inputs, targets, drawn(), saturation=0.0)
    moved, _ = color_jitter(inputs, targets, drawn(), saturation=0.5, hue=0.1)
    assert torch.equal(plain, again) and not torch.equal(plain, moved)


IMAGES = {"data.source": "mine.py:images", "model": {"name": "convnet", "width": 4, "depth": 1}}


@pytest.mark.parametrize(
    "item",
    [
        "mixup", "cutmix", "autoaugment", "randaugment", "trivialaugment", "blur", "erasing", "affine", "quarter_turn",
        {"name": "resized_crop", "scale": [0.5, 1.0]}, {"name": "multi_scale", "factors": [0.5, 1.0]}, "center_crop",
        {"name": "color_jitter", "saturation": 0.3, "hue": 0.05},
        {"name": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 0.3},
        {"name": "torchvision.transforms.v2.GaussianBlur", "kernel_size": 3},
    ],
    ids=lambda item: item if isinstance(item, str) else item["name"].split(".")[-1],
)  # fmt: skip
def test_a_recipe_trains_with_it_the_same_twice(tmp_path, item):
    case = make_case(tmp_path, overrides={**IMAGES, "data.augment": [item]})
    one, other = (fit(case.setup(horizon_epochs=1)) for _ in range(2))
    assert one.curve == other.curve and math.isfinite(one.curve[0]["loss"]) and 0 <= one.curve[0]["accuracy"] <= 1


def test_a_library_transform_draws_for_each_example(tmp_path):
    item = {"name": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 0.5}
    setup = make_case(tmp_path, overrides={**IMAGES, "data.augment": [item], "data.normalize": "none"}).setup()
    plain = torch.cat([x for x, _ in setup.data.epoch(0, 1, 8, augment=False)])
    moved = torch.cat([x for x, _ in setup.data.epoch(0, 1, 8)])
    flipped = sum(torch.equal(a, b.flip(2)) for a, b in zip(moved, plain, strict=True))
    same = sum(torch.equal(a, b) for a, b in zip(moved, plain, strict=True))
    assert flipped + same == 24 and 4 <= flipped <= 20


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "mixup", "alpha": 0}, "mixup: alpha must be from 0.001 to 100 .got 0"),
        ({"name": "resized_crop", "scale": [0.9, 0.1]}, "resized_crop: scale must be two rising numbers"),
        ({"name": "randaugment", "num_ops": 1.5}, "randaugment: num_ops must be a whole number"),
        (
            {"name": "autoaugment", "policy": "cifar"},
            "policy must be cifar10, imagenet or svhn .got 'cifar'",
        ),
        ({"name": "torchvision.transforms.v2.RandomErasing", "pp": 1}, "takes no such argument"),
        ("randagument", "unknown augment 'randagument' - did you mean 'randaugment'"),
    ],
)
def test_a_wrong_argument_is_refused_before_training(tmp_path, item, message):
    with pytest.raises(UsageError, match=message):
        make_case(tmp_path, overrides={**IMAGES, "data.augment": [item]}).setup()


@pytest.mark.parametrize("name", ["blur", "randaugment", "erasing", "cutmix", "affine"])
def test_what_needs_images_says_so_for_a_table(tmp_path, name):
    with pytest.raises(UsageError, match=f"data.augment {name}: needs images"):
        make_case(tmp_path, overrides={"data.augment": [name]}).setup()


@pytest.mark.parametrize("name", [*_strengths.OPERATIONS, *_strengths.GEOMETRIC])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_of_the_policies_is_torchvisions_at_each_images_own_strength(name, channels):
    policy = v2.TrivialAugmentWide()
    inputs, _ = batch(n=31, channels=channels, height=14)
    scale = None if name == "Invert" else policy._AUGMENTATION_SPACE[name][0](31, 14, 10)
    strength = torch.zeros(31) if scale is None or scale.ndim == 0 else scale.float()
    if name not in ("Posterize", "Solarize"):
        strength = strength * torch.where(torch.arange(31) % 2 == 0, 1, -1)
    how = {"interpolation": policy.interpolation, "fill": policy._fill}
    wanted = [policy._apply_image_or_video_transform(inputs[i], name, float(strength[i]), **how) for i in range(31)]
    assert close(_strengths.apply(inputs, name, strength), torch.stack(wanted))


@pytest.mark.parametrize("dense", [0, 96])
def test_small_images_are_cut_and_blurred_as_large_ones_are(dense, monkeypatch):
    found = []
    for limit in (dense, 96):
        monkeypatch.setattr(_images, "DENSE", limit)
        monkeypatch.setattr(pixel_values, "DENSE", limit)
        inputs, targets = batch()
        cut = geometry.resized_crop(inputs, targets, drawn())[0]
        found.append((cut, pixel_values.blur(inputs, targets, drawn(), p=0.7)[0]))
    assert all(close(one, other) for one, other in zip(*found, strict=True))
