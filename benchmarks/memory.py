"""How well preflight foresees the peak memory of a trial: ten models, of which a larger one trains at a larger batch.

python -m benchmarks.memory [NAME ...]: for each, what is foreseen from training steps of the recipe's configuration
(and of another width where one is searched) at two batch sizes, and the peak of a real trial of two
epochs of another configuration and batch, in a process of its own. Synthetic data, on the device that is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES, CLASSES = 256, 10
MINE = f"""import torch
from torch import nn

def images(side=32, count={EXAMPLES}):
    made = torch.Generator().manual_seed(0)
    def split(count):
        return torch.rand(count, 3, side, side, generator=made), torch.arange(count) % {CLASSES}
    return split(count), split(32)

def vectors(features=256, count={EXAMPLES}):
    made = torch.Generator().manual_seed(0)
    def split(count):
        return torch.rand(count, features, generator=made), torch.arange(count) % {CLASSES}
    return split(count), split(32)

class Sequence(nn.Module):
    def __init__(self, width, classes, kind):
        super().__init__()
        self.into = nn.Linear(16, width)
        layer = lambda: nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
        self.body = nn.LSTM(width, width, 2, batch_first=True) if kind == "lstm" else nn.Sequential(layer(), layer())
        self.head = nn.Linear(width, classes)
    def forward(self, inputs):
        found = self.body(self.into(inputs.unflatten(1, (-1, 16))))
        return self.head((found[0] if isinstance(found, tuple) else found).mean(1))

def sequence(num_classes, width=64, kind="lstm"):
    return Sequence(width, num_classes, kind)

class Unet(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        def block(inside, out):
            return nn.Sequential(nn.Conv2d(inside, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())
        self.down, self.low = block(3, width), block(width, 2 * width)
        self.up, self.head = block(3 * width, width), nn.Linear(width, classes)
    def forward(self, inputs):
        high = self.down(inputs)
        low = nn.functional.interpolate(self.low(nn.functional.max_pool2d(high, 2)), scale_factor=2)
        return self.head(self.up(torch.cat([high, low], 1)).mean((2, 3)))

def unet(num_classes, width=16):
    return Unet(width, num_classes)
"""
IMAGES, VECTORS = {"source": "mine.py:images"}, {"source": "mine.py:vectors"}
VISION = "torchvision.models."
# name: (data, model, optimizer, batch of the recipe, searched width and batch of the trial)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, int, int | None, int]] = {
    "mlp": ({**VECTORS, "features": 2048}, {"name": "mlp", "width": 256, "depth": 3}, "adam", 64, 4096, 256),
    "convnet": (IMAGES, {"name": "convnet", "width": 16}, "sgd", 32, 64, 128),
    "resnet8": (IMAGES, {"name": "resnet8", "width": 16}, "sgd", 32, 64, 128),
    "lstm": ({**VECTORS, "features": 1024}, {"name": "mine.py:sequence", "width": 64}, "adam", 32, 512, 128),
    "transformer": (
        {**VECTORS, "features": 2048},
        {"name": "mine.py:sequence", "kind": "transformer", "width": 64},
        "adamw",
        16,
        256,
        64,
    ),
    "unet": ({**IMAGES, "side": 64}, {"name": "mine.py:unet", "width": 8}, "adam", 16, 32, 64),
    "resnet18": ({**IMAGES, "side": 64}, {"name": f"{VISION}resnet18"}, "sgd", 16, None, 64),
    "mobilenet_v2": ({**IMAGES, "side": 64}, {"name": f"{VISION}mobilenet_v2"}, "adam", 16, None, 64),
    "densenet121": ({**IMAGES, "side": 64}, {"name": f"{VISION}densenet121"}, "sgd", 16, None, 64),
    "convnext_tiny": ({**IMAGES, "side": 64}, {"name": f"{VISION}convnext_tiny"}, "adamw", 16, None, 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--side-of", choices=("foresee", "train"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side_of:
        print(json.dumps((foresee if options.side_of == "foresee" else train)(options.names[0])))
        return
    print("| model | width, batch of the recipe | of the trial | foreseen, GB | taken, GB | error |")
    print("|---|---|---|---|---|---|")
    errors = []
    for name in options.names:
        foreseen, taken = asked("foresee", name), asked("train", name)
        errors.append(foreseen / taken - 1)
        _, model, _, batch, width, target = CASES[name]
        before, after = (f"{model['width']}, {batch}", f"{width}, {target}") if width else (str(batch), str(target))
        print(
            f"| {name} | {before} | {after} | {foreseen / 1e9:.2f} | {taken / 1e9:.2f} | {errors[-1]:+.1%} |",
            flush=True,
        )
    off = sorted(map(abs, errors))
    print(f"\nn = {len(off)}: error median {statistics.median(off):.1%}, worst {off[-1]:.1%}")


def asked(side: str, name: str) -> int:
    """Measure one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", name, "--side-of", side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def recipe_of(name: str) -> dict[str, Any]:
    data, model, optimizer, batch, width, target = CASES[name]
    return {
        "name": "memory",
        "data": data,
        "model": model,
        "optimizer": {"name": optimizer, "lr": 1e-4},
        "train": {"batch_size": batch, "precision": "fp32"},
        "search": {
            "train.batch_size": {"choices": [batch, target]},
            **({"model.width": {"choices": [model["width"], width // 2, width]}} if width else {}),
        },
    }


def foresee(name: str) -> int:
    """Return the peak that is foreseen for the trial, in bytes."""
    from tuner.core.trial import TrialEnv
    from tuner.execute.processes import ProcessExecutor
    from tuner.execute.slots import Wish
    from tuner.train.memory import needs_of
    from tuner.train.setup import make_setup

    with tempfile.TemporaryDirectory(prefix="tuner-bench-") as folder:
        spec = trial(name, Path(folder))
        env = TrialEnv(Path(folder), device="auto", cache_dir=Path(folder) / "cache")
        executor = ProcessExecutor(Wish(workers=1), lambda progress: None)
        found = executor.preflight({**recipe(name).tables(), "search": recipe(name).search}, env)
        assert found.room is not None and not found.problems, found.problems
        return found.room.model.predict(needs_of(make_setup(spec, env)), CASES[name][5])


def train(name: str) -> int:
    """Return the peak of the trial, in bytes."""
    from tuner.core.trial import TrialEnv, WorkItem
    from tuner.execute.processes import ProcessExecutor
    from tuner.execute.slots import Wish
    from tuner.train.device import inventory

    with tempfile.TemporaryDirectory(prefix="tuner-bench-") as folder:
        spec = trial(name, Path(folder))
        executor = ProcessExecutor(Wish(workers=1), lambda progress: None, inventory=inventory())
        env = TrialEnv(Path(folder), Path(folder) / "stage", "auto", Path(folder) / "cache")
        (result,) = executor.run([WorkItem(spec, 0)], env)
        assert result.error is None, result.error.message
        return result.peak_memory_bytes


def recipe(name: str) -> Any:
    from tuner.recipe.model import Recipe

    return Recipe.model_validate(recipe_of(name))


def trial(name: str, folder: Path) -> Any:
    from tuner.core.trial import TrialSpec, apply_overrides

    (folder / "mine.py").write_text(MINE)
    _, _, _, _, width, target = CASES[name]
    overrides = {"train.batch_size": target, **({"model.width": width} if width else {})}
    return TrialSpec(apply_overrides(recipe(name).tables(), overrides), overrides, 0, horizon_epochs=2)


if __name__ == "__main__":
    main()
