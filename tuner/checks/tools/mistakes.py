"""The val examples that the winner gets wrong while it is surest, with their pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.tools.predictions import BATCH, _predict
from tuner.train.setup import Setup

SHOWN = 8
SIDE = 64  # pixels; larger pictures are made smaller


def surest_mistakes(setup: Setup, model: nn.Module) -> list[dict[str, Any]]:
    """Return up to eight wrong answers on val, the surest first; none where inputs are no grey or colour images.

    Each: `target` and `answer` (names of classes), `share` (the softmax of the answer), `place` (the file or the row of
    the example), `png` (base64). From val, so that nobody is tempted by pictures of the test split.
    """
    data = setup.data
    if not (data.one_class_each and data.is_image and data.input_shape[0] in (1, 3)):
        return []
    outputs, targets = _predict(setup, model, data.batches("val", BATCH))
    if not outputs.isfinite().all():
        return []
    shares, answers = outputs.softmax(1).max(1)
    wrong = torch.nonzero(answers != targets).flatten()
    chosen = wrong[shares[wrong].argsort(descending=True, stable=True)][:SHOWN]
    names = data.class_names
    return [
        {
            "target": names[int(targets[i])],
            "answer": names[int(answers[i])],
            "share": float(shares[i]),
            "place": data.describe("val", int(i)),
            "png": png(data.inputs("val", [int(i)])[0]),
        }
        for i in chosen
    ]


def png(image: Tensor) -> str:
    """Return an image (C, H, W) as a PNG in base64; what is no byte is spread from its least to its greatest value."""
    from PIL import Image

    if image.dtype != torch.uint8:
        low, high = image.min(), image.max()
        image = ((image - low) / (high - low).clamp(min=1e-12) * 255).to(torch.uint8)
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
