"""What step 1 costs on models of real size, beside the model's own training steps.

python -m benchmarks.check_init [MODEL ...] [--each]: seconds and peak bytes of a training step (forward, backward and
update on one batch, as the recipe's own loop makes it) and of the whole of check-init, each in a process of its own,
with random weights and synthetic images. `--each` lists every measurement that takes more than a tenth of a second.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS = ("resnet50", "vit_b_16", "alexnet", "convnext_tiny")
IMAGES = {"train": 512, "val": 128}
CLASSES, STEPS = 10, 3
LOAD = f"""import torch

def load():
    made = torch.Generator().manual_seed(0)
    def split(count, side={{side}}):
        labels = torch.arange(count) % {CLASSES}
        images = torch.randint(0, 200, (count, 3, side, side), generator=made, dtype=torch.uint8)
        return images + (5 * labels).to(torch.uint8)[:, None, None, None], labels
    return split({IMAGES["train"]}), split({IMAGES["val"]})
"""
RECIPE = """name = "cost"
[data]
source = "data.py:load"
normalize = "scale"
[model]
name = "{model}"
[optimizer]
name = "sgd"
lr = 0.01
momentum = 0.9
[train]
batch_size = {batch}
threads_per_trial = {threads}
precision = "fp32"
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check_init", description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, help="names in torchvision.models, or dotted names")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--each", action="store_true", help="list the measurements too")
    parser.add_argument("--side-of", choices=("step", "check"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side_of:
        print(json.dumps((step if options.side_of == "step" else check)(Path(options.models[0]))))
        return
    print(
        "| model | training step, s (CPU) | its peak, GB | check-init, s (CPU) | in steps | peak, GB | x | longest, s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model in options.models:
        with tempfile.TemporaryDirectory(prefix="tuner-bench-") as work:
            write(Path(work), model, options)
            one, whole = (asked(kind, Path(work)) for kind in ("step", "check"))
        print(row(model, one, whole), flush=True)
        if options.each:
            for name, seconds, cpu, peak, why in whole["each"]:
                if seconds > 0.1 or why:
                    print(f"    {name:24} {seconds:6.2f} s ({cpu:.2f}) {peak / 1e9:5.2f} GB  {why}", flush=True)


def write(folder: Path, model: str, options: argparse.Namespace) -> None:
    (folder / "data.py").write_text(LOAD.format(side=options.side))
    name = model if "." in model else f"torchvision.models.{model}"
    (folder / "cost.toml").write_text(RECIPE.format(model=name, batch=options.batch, threads=options.threads))


def asked(kind: str, folder: Path) -> dict[str, Any]:
    """Measure one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.check_init", str(folder), "--side-of", kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(model: str, one: dict[str, Any], whole: dict[str, Any]) -> str:
    name, longest, _, _, _ = max(whole["each"], key=lambda entry: entry[1])
    return (
        f"| {model} | {one['seconds']:.2f} ({one['cpu']:.2f}) | {one['peak'] / 1e9:.2f} "
        f"| {whole['seconds']:.1f} ({whole['cpu']:.1f}) | {whole['cpu'] / one['cpu']:.1f} "
        f"| {whole['peak'] / 1e9:.2f} | {whole['peak'] / one['peak']:.2f} | {name} {longest:.1f} |"
    )


def made(folder: Path) -> Any:
    """Return the trial's setup, its data loaded."""
    import torch

    from tuner.core.trial import TrialEnv, TrialSpec
    from tuner.recipe.file import load_recipe
    from tuner.train.setup import make_setup

    recipe = load_recipe(folder / "cost.toml", settings={})
    torch.set_num_threads(recipe.train.threads_per_trial)
    return make_setup(TrialSpec(recipe.tables(), {}, 0), TrialEnv(folder))


def step(folder: Path) -> dict[str, float]:
    """Return the median seconds, wall and CPU, of a training step, and the peak bytes of the process."""
    from tuner.train.device import peak_memory_bytes, reset_peak_memory
    from tuner.train.step import default_step

    setup = made(folder)
    reset_peak_memory("cpu")
    model, loss = setup.model(), setup.loss()
    optimizer, seconds, cpu = setup.optimizer(model), [], []
    for number in range(STEPS):
        batch = next(iter(setup.data.epoch(0, number, setup.batch_size)))
        start, used = time.perf_counter(), time.process_time()
        default_step(model, batch, loss, optimizer)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    median = statistics.median
    return {"seconds": median(seconds), "cpu": median(cpu), "peak": peak_memory_bytes("cpu")}


def check(folder: Path) -> dict[str, Any]:
    """Return the seconds, wall and CPU, and the peak bytes of check-init's measurements: of all and of each."""
    from tuner.checks import measures
    from tuner.checks.init_battery.measure import init_battery
    from tuner.checks.tools.frame import BATTERY

    setup, each = made(folder), []
    measures()
    for name, measure in list(BATTERY.items()):
        BATTERY[name] = timed(measure, each)
    start, used = time.perf_counter(), time.process_time()
    found = init_battery(setup)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    each = [(*entry, found[entry[0]].get("skipped", "")) for entry in each]
    return {"seconds": seconds, "cpu": cpu, "peak": max(entry[3] for entry in each), "each": each}


def timed(measure: Any, each: list[Any]) -> Any:
    """Return a measure that notes its name, seconds, CPU seconds and peak bytes."""
    from tuner.train.device import peak_memory_bytes, reset_peak_memory

    @functools.wraps(measure)
    def wrapped(*args: Any, **given: Any) -> Any:
        reset_peak_memory("cpu")
        start, used = time.perf_counter(), time.process_time()
        try:
            return measure(*args, **given)
        finally:
            took = time.perf_counter() - start, time.process_time() - used
            each.append((measure.__name__, *took, peak_memory_bytes("cpu")))
            print(f"{measure.__name__} {took[0]:.1f} s ({took[1]:.1f})", file=sys.stderr, flush=True)

    return wrapped


if __name__ == "__main__":
    main()
