"""(c) The limit of torch's own operations: what makes the engine fast, by hand for this one task, a process per core.

No search, no records, no checkpoints, no errors handled: data decoded once and mapped, whole-batch augmentation,
channels-last, bf16 where the CPU has it, one kernel per update, freed memory kept, pooling before the activation.
The engine may pass it: its batch norm and max pooling are its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.task import BATCH, CLASSES, MEAN, STD, WIDTHS, Clock, Outcome, Task, digits, serve

EVAL = {"cifar10": 64, "digits": 1024}


def side(task: Task) -> Outcome:
    clock = Clock()
    work = Path(task.work) / "bare"
    prepare(task, work)
    apart = {"decoding": clock()}
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for index in range(len(cores)):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=work_on, args=(task, work, task.rates[index :: len(cores)], theirs)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    apart["start-up"] = clock()
    for pipe in pipes:
        pipe.send("go")
    bests = [pipe.recv() for pipe in pipes]
    seconds = clock()
    for process in processes:
        process.join()
    count = len(np.load(work / "train-targets.npy", mmap_mode="r"))
    return Outcome(seconds, count * task.epochs * task.trials, max(bests), apart, f"{len(cores)} processes")


def prepare(task: Task, work: Path) -> None:
    """Decode the data into .npy files."""
    work.mkdir(parents=True, exist_ok=True)
    if task.kind == "digits":
        x, y, xv, yv = digits()
        arrays = {"train-inputs": x, "train-targets": y, "val-inputs": xv, "val-targets": yv}
    else:
        from concurrent.futures import ProcessPoolExecutor

        arrays = {}
        for split in ("train", "val"):
            classes = sorted(Path(task.folder, split).iterdir())
            files = [(str(file), i) for i, folder in enumerate(classes) for file in sorted(folder.iterdir())]
            with ProcessPoolExecutor() as pool:
                arrays[f"{split}-inputs"] = np.stack(list(pool.map(decode, [f for f, _ in files], chunksize=200)))
            arrays[f"{split}-targets"] = np.array([i for _, i in files])
    for name, array in arrays.items():
        np.save(work / f"{name}.npy", array)


def decode(file: str) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def work_on(task: Task, work: Path, rates: list[float], pipe: Connection) -> None:
    """Train the rates one after the other in this process, on one thread."""
    import torch
    import torch._dynamo

    torch.set_num_threads(1)
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(-3, 1 << 30)
        ctypes.CDLL(None).mallopt(-1, 2**31 - 1)
    data = {path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in sorted(work.glob("*.npy"))}
    pipe.send("ready")
    pipe.recv()
    pipe.send(max([train(task, data, lr) for lr in rates], default=0.0))


def train(task: Task, data: dict[str, Any], lr: float) -> float:
    import torch
    from torch import nn

    torch.manual_seed(0)
    images = task.kind == "cifar10"
    bf16 = images and torch.cpu._is_avx512_bf16_supported()
    model = build(nn, task.kind)
    if images:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, fused=True)
    inputs, targets = data["train-inputs"], data["train-targets"]
    val, val_targets = data["val-inputs"], data["val-targets"]
    shift = torch.tensor(MEAN).mul(255).repeat(32 * 32).view(32, 32, 3)
    factor = 1 / torch.tensor(STD).mul(255).repeat(32 * 32).view(32, 32, 3)

    def ready(batch: torch.Tensor) -> torch.Tensor:
        return torch.sub(batch, shift).mul_(factor).permute(0, 3, 1, 2) if images else batch

    best = 0.0
    for _ in range(task.epochs):
        model.train()
        order = torch.randperm(len(targets))
        losses = []
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = inputs.view(len(inputs), -1).index_select(0, chosen).view(-1, *inputs.shape[1:])
            batch = ready(crop(torch, flip(torch, batch)) if images else batch)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                outputs = model(batch)
            loss = nn.functional.cross_entropy(outputs.float(), targets.index_select(0, chosen))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        model.eval()
        hits = 0
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for start in range(0, len(val), EVAL[task.kind]):
                outputs = model(ready(val[start : start + EVAL[task.kind]]))
                hits += int((outputs.argmax(1) == val_targets[start : start + EVAL[task.kind]]).sum())
        best = max(best, hits / len(val))
    return best


def build(nn: Any, kind: str) -> Any:
    if kind == "digits":
        layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
        return nn.Sequential(*layers)
    blocks, channels = [], 3
    for width in WIDTHS:
        blocks += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        blocks += [nn.MaxPool2d(2), nn.ReLU()]
        channels = width
    return nn.Sequential(*blocks, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(channels, CLASSES))


def flip(torch: Any, batch: Any) -> Any:
    chosen = (torch.rand(len(batch)) < 0.5).nonzero()[:, 0]
    return batch.index_copy_(0, chosen, batch.index_select(0, chosen).flip(2))


def crop(torch: Any, batch: Any, padding: int = 4) -> Any:
    n, height, width, channels = batch.shape
    rows, columns = height + 2 * padding, width + 2 * padding
    padded = batch.new_zeros(n, rows, columns, channels)
    padded[:, padding:-padding, padding:-padding] = batch
    offsets = torch.randint(0, 2 * padding + 1, (2, n))
    windows = padded.view(-1).as_strided((n * rows * columns - width + 1, width * channels), (channels, 1))
    top = torch.arange(n) * rows + offsets[0]
    starts = (top[:, None] + torch.arange(height)) * columns + offsets[1][:, None]
    return windows.index_select(0, starts.view(-1)).view(n, height, width, channels)


if __name__ == "__main__":
    serve(side)
