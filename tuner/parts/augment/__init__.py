"""Augmentations: each example draws for itself, in a few tensor operations on the whole batch.

A function takes a batch as it was loaded, before normalisation (images: (N, C, H, W), bytes 0..255 or floats; tables:
(N, F)), its targets and a torch.Generator on the batch's device, and returns both. One that mixes examples asks for
`num_classes` as well, and returns shares of the classes, (N, C) float, as targets. Adding one is adding a function.
"""

from tuner.parts.augment.basic import color_jitter, cutout, gaussian_noise, hflip, random_crop, rotate, vflip

__all__ = ["color_jitter", "cutout", "gaussian_noise", "hflip", "random_crop", "rotate", "vflip"]
