"""Augmentation that harms some classes only, beside the same one where it is sound."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from tests.zoo.case import bug, healthy


def letters(text, train=1200, val=500, seed=0):
    """Return (train, val) of rendered letters (N, 1, 16, 16): each turned a little, shifted, with noise."""
    generator = np.random.default_rng(seed)
    font = ImageFont.load_default(size=40)
    labels = generator.permutation(np.arange(train + val) % len(text))
    images = []
    for label in labels:
        picture = Image.new("L", (64, 64))
        left, top, right, bottom = font.getbbox(text[label])  # the ink stands in the middle
        x, y = generator.uniform(28, 36, 2) - ((left + right) / 2, (top + bottom) / 2)
        ImageDraw.Draw(picture).text((x, y), text[label], fill=255, font=font)
        small = picture.rotate(generator.uniform(-12, 12), Image.Resampling.BILINEAR).resize((16, 16))
        images.append(np.asarray(small) * generator.uniform(0.5, 1) + generator.normal(0, 25, (16, 16)))
    pixels = np.clip(np.stack(images), 0, 255).astype(np.uint8)[:, None]
    return (pixels[:train], labels[:train]), (pixels[train:], labels[train:])


def with_mirror_twins():
    """Four of ten letters are one another's mirror images."""
    return letters("bdpqaekmst")


def with_turned_twins():
    """Four of ten letters are one another's pictures upside down."""
    return letters("nupdaekcht")


def symmetric():
    """Letters that look the same in a mirror."""
    return letters("AHIMOTUVWX")


LOWER = {"data.source": "mirrored.py:with_mirror_twins", "data.normalize": "standardize"}
TURNED = {"data.source": "mirrored.py:with_turned_twins", "data.normalize": "standardize"}
UPPER = {"data.source": "mirrored.py:symmetric", "data.normalize": "standardize"}

bug(
    "digits-conv",
    name="letters_mirrored_left_and_right",
    causes=["augmentation-harms"],
    step="diagnose",
    changes={**LOWER, "data.augment": ["hflip"]},
    twin=LOWER,
    what="Letters are mirrored: b becomes d and p becomes q, the other six are none the worse.",
    source="https://github.com/AlexeyAB/darknet/issues/674",
)
healthy(
    "digits-conv",
    name="symmetric_letters_mirrored",
    changes={**UPPER, "data.augment": ["hflip"]},
    twin=UPPER,
    what="Capitals that look the same in a mirror are mirrored.",
)


@bug(
    "digits-conv",
    "data.augment",
    causes=["augmentation-harms"],
    step="diagnose",
    changes=TURNED,
    twin=TURNED,
    source="https://github.com/AlexeyAB/darknet/issues/2630",
)
def letters_turned_upside_down(inputs, targets, generator):
    """Half of the letters are turned upside down: n becomes u and p becomes d, the others are none the worse."""
    turned = torch.rand(len(inputs), generator=generator) < 0.5
    return torch.where(turned[:, None, None, None], inputs.flip(2, 3), inputs), targets
