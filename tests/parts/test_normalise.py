"""Normalisation against numpy on the whole array."""

import numpy as np
import pytest
import torch

from tuner.core.errors import UsageError
from tuner.parts.normalise import moments, normaliser


def made(how, values: torch.Tensor, pieces: int = 3):
    chunks = values.chunk(pieces)
    return normaliser(how, tuple(values.shape[1:]), values.dtype, lambda: iter(chunks))


def images(dtype=torch.uint8, n: int = 10) -> torch.Tensor:
    values = torch.randint(0, 200, (n, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    return (values + torch.tensor([0, 20, 55])[:, None, None]).to(dtype).contiguous(memory_format=torch.channels_last)


def test_standardize_gives_mean_zero_and_std_one_per_channel():
    values = images()
    result = made("standardize", values)(values).double().numpy()
    assert np.allclose(result.mean((0, 2, 3)), 0, atol=1e-6)
    assert np.allclose(result.std((0, 2, 3)), 1, atol=1e-6)
    assert result.shape == (10, 3, 4, 5)


def test_standardize_works_per_column_when_columns_differ_by_orders_of_magnitude():
    rng = np.random.default_rng(0)
    values = rng.normal([0, 1e6, -3], [1e-3, 5.0, 1e4], (500, 3)).astype(np.float32)
    result = made("standardize", torch.from_numpy(values))(torch.from_numpy(values)).double().numpy()
    assert np.allclose(result.mean(0), 0, atol=1e-2)  # the shift itself is float32: 0.03 at 1e6
    assert np.allclose(result.std(0), 1, atol=1e-3)


def test_standardize_centres_and_does_not_scale_a_column_that_is_constant():
    values = torch.tensor([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])
    result = made("standardize", values)(values)
    assert torch.allclose(result[:, 0], torch.zeros(3), atol=1e-6)
    assert torch.allclose(result[:, 1].std(correction=0), torch.tensor(1.0))
    assert torch.allclose(made("scale", values)(values)[:, 0], torch.zeros(3), atol=1e-6)


def test_standardize_leaves_missing_numbers_out_of_the_statistics():
    values = torch.tensor([[1.0, 1.0], [3.0, float("nan")], [float("inf"), 5.0], [5.0, 3.0]])
    result = made("standardize", values)(values)
    kept = np.array([1.0, 3.0, 5.0])
    assert np.allclose(result[[0, 1, 3], 0].numpy(), (kept - 3) / kept.std(), atol=1e-6)
    assert torch.isnan(result[1, 1]) and torch.isinf(result[2, 0])


def test_standardize_stays_finite_when_a_column_has_no_finite_number():
    values = torch.tensor([[float("nan"), 1.0], [float("nan"), 2.0]])
    normalise = made("standardize", values)
    assert torch.isfinite(normalise(torch.tensor([[1.0, 1.0]]))).all()
    assert torch.isfinite(made("scale", values)(torch.tensor([[1.0, 1.0]]))).all()


def test_channel_mean_subtracts_means_and_keeps_the_scale():
    values = images()
    result = made("channel_mean", values)(values).double().numpy()
    wanted = values.double().numpy() / 255
    assert np.allclose(result, wanted - wanted.mean((0, 2, 3), keepdims=True), atol=1e-6)


def test_mean_image_subtracts_the_mean_of_each_pixel():
    values = images()
    result = made("mean_image", values)(values).double().numpy()
    wanted = values.double().numpy() / 255
    assert np.allclose(result, wanted - wanted.mean(0), atol=1e-6)


def test_scale_divides_bytes_by_255_and_uses_the_range_of_other_values():
    assert torch.allclose(made("scale", images())(images()), images().float() / 255)
    table = torch.tensor([[1.0, -10.0], [3.0, 10.0], [2.0, 0.0]])
    assert torch.allclose(made("scale", table)(table), torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]]))
    floats = images(torch.float32)
    result = made("scale", floats)(floats)
    assert float(result.min()) == 0 and float(result.max()) == pytest.approx(1)


def test_imagenet_equals_torchvision():
    from torchvision.transforms import functional

    values = images()
    result = made("imagenet", values)(values)
    wanted = functional.normalize(values.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(result, wanted, atol=1e-5)


def test_given_mean_and_std_are_used_as_they_are():
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    result = made({"mean": [1.0, 10.0], "std": [2.0, 10.0]}, values)(values)
    assert torch.allclose(result, torch.tensor([[0.0, 0.0], [1.0, 2.0]]))


def test_none_only_makes_floats_and_leaves_token_numbers_alone():
    values = images()
    result = made("none", values)(values)
    assert result.dtype == torch.float32 and torch.equal(result, values.float())
    tokens = torch.tensor([[1, 2], [3, 4]])
    assert made("none", tokens)(tokens).dtype == torch.int64
    wide = torch.tensor([[1, 2], [3, 40000]], dtype=torch.uint16)  # as images of 16 bits are
    assert made("none", wide)(wide).tolist() == [[1.0, 2.0], [3.0, 40000.0]]


def test_result_is_channels_last_when_the_batch_is():
    values = images()
    assert made("standardize", values)(values).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("how", ["imagenet", {"mean": [0.1, 0.2], "std": [1.0, 1.0]}])
def test_constants_for_other_channels_are_refused(how):
    with pytest.raises(UsageError, match=r"data.normalize: .* channels, the inputs have 1"):
        made(how, torch.zeros(4, 1, 2, 2, dtype=torch.uint8))


def test_moments_do_not_depend_on_the_chunks():
    values = torch.randn(101, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1000
    whole = values.double().numpy()
    for pieces in (1, 7, 101):
        found = moments(values.chunk(pieces))
        assert np.allclose(found.mean.numpy(), whole.mean((0, 2, 3)), rtol=1e-12)
        assert np.allclose(found.std.numpy(), whole.std((0, 2, 3)), rtol=1e-9)


def test_moments_say_so_when_there_is_nothing_to_measure():
    with pytest.raises(UsageError, match=r"no train examples"):
        moments([])


def test_a_batch_of_another_size_is_normalised_by_the_same_constants_and_a_resized_mean_image():
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    wide = torch.nn.functional.interpolate(images.float(), (12, 12))
    fitted = normaliser("standardize", (3, 8, 8), torch.uint8, lambda: [images])
    small = images.double()
    mean, std = small.mean((0, 2, 3))[:, None, None], small.std((0, 2, 3), correction=0)[:, None, None]
    torch.testing.assert_close(fitted(wide), ((wide - mean) / std).float(), rtol=1e-4, atol=1e-4)
    per_pixel = normaliser("mean_image", (3, 8, 8), torch.uint8, lambda: [images])
    resized = torch.nn.functional.interpolate(small.mean(0)[None], (12, 12), mode="bilinear")[0]
    torch.testing.assert_close(per_pixel(wide), ((wide - resized) / 255).float(), rtol=1e-4, atol=1e-4)
