"""Normalisation of inputs. Every way of it is (x - shift) * factor, with statistics of the train split only.

Bytes (images) are first brought to 0..1, but for `none`. Statistics are per channel of an image, per column of a table,
and over all values otherwise. A channel or column that does not vary is centred and not scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tuner.core.errors import UsageError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision.models, of RGB in 0..1
TOKENS = (torch.int16, torch.int32, torch.int64)  # what may be ids of tokens; images are unsigned
CONSTANT = 1e-7  # a std below this share of the mean is float32 rounding

Chunks = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Moments:
    """Count, mean and summed squared deviations of the finite values, per channel or per position."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    @property
    def std(self) -> Tensor:
        return (self.squares / self.count.clamp(min=1)).sqrt()


@dataclass(frozen=True)
class Normaliser:
    """(x - shift) * factor; both are None for `none`, and have the shape of one example otherwise."""

    shift: Tensor | None = None
    factor: Tensor | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the batch as float32; whole numbers that may be token ids pass `none` unchanged."""
        if self.shift is None or self.factor is None:
            return batch if batch.dtype in TOKENS else batch.float()
        shift, factor = (_of_size(values, batch) for values in (self.shift, self.factor))
        return torch.sub(batch if batch.dtype == torch.uint8 else batch.float(), shift).mul_(factor)

    def to(self, device: torch.device) -> Normaliser:
        if self.shift is None or self.factor is None:
            return self
        return Normaliser(_laid_out(self.shift.to(device)), _laid_out(self.factor.to(device)))


def moments(chunks: Iterable[Tensor], per_position: bool = False) -> Moments:
    """Gather statistics chunk by chunk in float64, non-finite values left out.

    `per_position`: per pixel and channel (the mean image) instead of per channel.

    Source: T. Chan, G. Golub, R. LeVeque, Updating formulae ... for computing sample variances, 1979.
    """
    total: Moments | None = None
    for chunk in chunks:
        part = _moments_of(chunk, (0,) if per_position else _axes(chunk))
        total = part if total is None else _merged(total, part)
    if total is None:
        raise UsageError("data.normalize: there are no train examples to take statistics of")
    return total


def extremes(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the least and greatest finite value, per column of a table and over all values of anything else."""
    lows, highs = [], []
    for chunk in chunks:
        axes = (0,) if chunk.dim() == 2 else tuple(range(chunk.dim()))
        values = chunk.double()
        finite = values.isfinite()
        lows.append(torch.where(finite, values, torch.inf).amin(axes))
        highs.append(torch.where(finite, values, -torch.inf).amax(axes))
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)


def _axes(chunk: Tensor) -> tuple[int, ...]:
    """Return the axes that statistics run over: all but the channel of images and the column of tables."""
    return (0,) if chunk.dim() == 2 else (0, 2, 3) if chunk.dim() == 4 else tuple(range(chunk.dim()))


def _moments_of(chunk: Tensor, axes: tuple[int, ...]) -> Moments:
    values = chunk.double()
    if not chunk.is_floating_point() or bool(chunk.isfinite().all()):
        variance, mean = torch.var_mean(values, axes, correction=0)
        count = torch.full_like(mean, values.numel() / mean.numel())
        return Moments(count, mean, variance * count)
    finite = values.isfinite()
    count = finite.sum(axes).double()
    mean = torch.where(finite, values, 0.0).sum(axes) / count.clamp(min=1)
    shape = [1 if axis in axes else size for axis, size in enumerate(values.shape)]
    return Moments(count, mean, torch.where(finite, values - mean.view(shape), 0.0).square().sum(axes))


def _merged(a: Moments, b: Moments) -> Moments:
    count = a.count + b.count
    share = b.count / count.clamp(min=1)
    delta = b.mean - a.mean
    return Moments(count, a.mean + delta * share, a.squares + b.squares + delta.square() * a.count * share)


def normaliser(how: str | Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype, train: Chunks) -> Normaliser:
    """Return the Normaliser that a recipe's `data.normalize` asks for.

    none: as loaded. scale: to 0..1 (bytes / 255; other values by the range of train). channel_mean: minus the mean of
    each channel (VGG). standardize: mean 0, std 1 per channel. mean_image: minus the mean of each pixel (AlexNet).
    imagenet: the constants of torchvision's pretrained models. {mean, std}: as given, per channel, of values in 0..1
    for bytes.

    Shapes: `shape` is one example's, (C, H, W) or (F,) or any other; `train()` gives the train inputs in chunks.

    Source: the checklist's lecture, "data preprocessing"; K. Simonyan and A. Zisserman 2014; A. Krizhevsky et al. 2012.

    Raises:
        UsageError: imagenet or {mean, std} for another number of channels.
    """
    if how == "none":
        return Normaliser()
    unit = 255.0 if dtype == torch.uint8 else 1.0
    if how == "imagenet" or isinstance(how, Mapping):
        mean, std = (how["mean"], how["std"]) if isinstance(how, Mapping) else IMAGENET
        channels = shape[0] if len(shape) in (1, 3) else 1
        if len(mean) not in (1, channels):
            given = "imagenet is" if how == "imagenet" else "mean and std are"
            raise UsageError(
                f"data.normalize: {given} for {len(mean)} channels, the inputs have {channels} (shape {shape})",
                'Use normalize = "standardize", or give one mean and std per channel.',
            )
        return _affine(torch.tensor(mean).double() * unit, 1 / (torch.tensor(std).double() * unit), shape)
    if how == "scale" and dtype == torch.uint8:
        return _affine(torch.zeros(1).double(), torch.full((1,), 1 / unit).double(), shape)
    if how == "scale":
        low, high = extremes(train())
        return _affine(torch.where(low.isfinite(), low, 0.0), _inverse(high - low, low), shape)
    found = moments(train(), per_position=how == "mean_image")
    if how == "standardize":
        return _affine(found.mean, _inverse(found.std, found.mean), shape)
    return _affine(found.mean, torch.full_like(found.mean, 1 / unit), shape)


def _inverse(spread: Tensor, centre: Tensor) -> Tensor:
    """Return 1 / spread, and 1 where the spread is nothing but rounding."""
    constant = ~(spread > CONSTANT * centre.abs()) | ~spread.isfinite()
    return 1 / torch.where(constant, 1.0, spread)


def _affine(shift: Tensor, factor: Tensor, shape: tuple[int, ...]) -> Normaliser:
    """Spread statistics over an example: pixel by pixel is five times as fast as broadcasting three channels."""

    def spread(values: Tensor) -> Tensor:
        if values.numel() == 1:
            values = values.reshape([1] * len(shape))
        elif values.dim() == 1 and len(shape) == 3:
            values = values[:, None, None]
        return _laid_out(values.float().expand(shape).contiguous())

    return Normaliser(spread(shift), spread(factor))


def _of_size(values: Tensor, batch: Tensor) -> Tensor:
    """Return statistics for a batch of images whose augmentation gave them another size, in that size."""
    if values.dim() != 3 or batch.dim() != 4 or values.shape[1:] in (batch.shape[2:], (1, 1)):
        return values
    return _laid_out(interpolate(values[None], tuple(batch.shape[2:]), mode="bilinear", align_corners=False)[0])


def _laid_out(values: Tensor) -> Tensor:
    """Give an image's statistics the memory order of a channels-last batch."""
    if values.dim() != 3:
        return values
    return values[None].contiguous(memory_format=torch.channels_last)[0]
