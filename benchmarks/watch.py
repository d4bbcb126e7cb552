"""What `tuner.watch` costs: the same training with and without it, interleaved; medians of CPU time.

python -m benchmarks.watch [--rounds N] [--epochs N] [--small]: a ResNet-8 on CIFAR-10-sized images (32 px, batch 64) on
one core, epochs of 40 updates, `w.epoch` after each; `--small`: a convolutional net of width 8 on images of 16 px, an
update of which takes milliseconds. The CPU time of the judgement at the end is given apart: it does not grow with the
training.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

import tuner
from tuner.parts.models import convnet, resnet8

UPDATES, BATCH = 40, 64


def trained(epochs: int, watched: bool, small: bool) -> tuple[float, float]:
    """Return the CPU seconds of a training, and those of the judgement after it (0 without the watch)."""
    torch.manual_seed(0)
    shape = (3, 16, 16) if small else (3, 32, 32)
    images, labels = torch.randn(BATCH * UPDATES, *shape), torch.randint(0, 10, (BATCH * UPDATES,))
    model = convnet(shape, 10, width=8) if small else resnet8(shape, 10)
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    watch = tuner.watch(model, optimizer, loss)
    begun = time.process_time()
    if watched:
        watch.__enter__()
    for epoch in range(epochs):
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        if watched:
            watch.epoch(val_loss=2.3 - 0.01 * epoch, val_accuracy=0.1 + 0.01 * epoch)
    training = time.process_time() - begun
    if watched:
        watch.__exit__(None, None, None)
    return training, time.process_time() - begun - training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trained(1, True, args.small)  # imports and warm-up
    ratios, judging = [], []
    for number in range(args.rounds):
        order = (True, False) if number % 2 else (False, True)
        seconds = {watched: trained(args.epochs, watched, args.small) for watched in order}
        ratios.append(seconds[True][0] / seconds[False][0] - 1)
        judging.append(seconds[True][1])
        print(f"round {number + 1}: {seconds[False][0]:.2f} s, watched {seconds[True][0]:.2f} s", flush=True)
    low, high = min(ratios), max(ratios)
    print(f"overhead of watch: median {statistics.median(ratios):+.2%} ({low:+.2%} to {high:+.2%}), n = {args.rounds}")
    print(f"judgement at the end: median {statistics.median(judging):.2f} s")


if __name__ == "__main__":
    main()
