"""Examples blended with a partner of the same batch; the targets become shares of the classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tuner.parts.augment._images import Batch, as_loaded, beta, images, within


def mixup(inputs: Tensor, targets: Tensor, generator: Generator, num_classes: int, alpha: float = 0.2) -> Batch:
    """Add to `share` of each example 1 - share of a partner, inputs and labels alike; share is of Beta(alpha, alpha).

    When: longer training of a net that overfits; also for tables. Train accuracy is counted against the larger share.
    alpha: 0.1 to 1, log.
    Source: H. Zhang et al. 2018, mixup; the lecture, regularisation: Mixup (cat 0.4, dog 0.6).
    """
    within("mixup", "alpha", alpha, 1e-3, 100)
    share = beta(len(inputs), alpha, generator).float()
    partner = torch.randperm(len(inputs), generator=generator, device=inputs.device)
    column = share.view(-1, *[1] * (inputs.dim() - 1))
    values = inputs.float()
    mixed = as_loaded(column * values + (1 - column) * values[partner], inputs.dtype)
    return mixed, _shared(targets, partner, share, num_classes)


def cutmix(inputs: Tensor, targets: Tensor, generator: Generator, num_classes: int, alpha: float = 1.0) -> Batch:
    """Paste a box of a partner into each image; the labels are shared as the areas, of about Beta(alpha, alpha).

    When: images, where mixup's ghosts are unlike anything real.
    alpha: 0.2 to 2, log.
    Source: S. Yun et al. 2019, CutMix.
    """
    images(inputs, "cutmix")
    within("cutmix", "alpha", alpha, 1e-3, 100)
    n, _, rows, columns = inputs.shape
    device = inputs.device
    side = (1 - beta(n, alpha, generator)).sqrt().float()
    centre_y = torch.randint(0, rows, (n,), generator=generator, device=device)
    centre_x = torch.randint(0, columns, (n,), generator=generator, device=device)
    top, bottom = _edges(centre_y, side, rows)
    left, right = _edges(centre_x, side, columns)
    y, x = torch.arange(rows, device=device), torch.arange(columns, device=device)
    inside_y = (y >= top[:, None]) & (y < bottom[:, None])
    inside_x = (x >= left[:, None]) & (x < right[:, None])
    box = inside_y[:, None, :, None] & inside_x[:, None, None, :]
    partner = torch.randperm(n, generator=generator, device=device)
    share = 1 - ((bottom - top) * (right - left)).float() / (rows * columns)
    return torch.where(box, inputs[partner], inputs), _shared(targets, partner, share, num_classes)


def _edges(centre: Tensor, side: Tensor, size: int) -> tuple[Tensor, Tensor]:
    half = (side * size / 2).long()
    return (centre - half).clamp(0, size), (centre + half).clamp(0, size)


def _shared(targets: Tensor, partner: Tensor, share: Tensor, num_classes: int) -> Tensor:
    before = targets if targets.is_floating_point() else F.one_hot(targets, num_classes).float()
    factor = share.view(-1, *[1] * (before.dim() - 1)).to(before.dtype)
    return factor * before + (1 - factor) * before[partner]
