"""Wall time of the same trials on one node and on two, of one CPU each on this machine: `python -m benchmarks.nodes`.

Each node has a core of its own, where the system can bind processes to one, and the baseline is one node on one core.
The sides take turns, after one trial each that is not counted: what a node does once (starting Python, loading torch)
is not of the trials. Beside other work `--sleep` makes trials that wait: then the engine's own cost shows, and the
processor's share does not.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.base import Executor
from tuner.execute.folder_engine import FolderExecutor, Shared
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe

On = Callable[[int], AbstractContextManager[Executor]]

WAITING = """
import time
from torch import nn

def build(input_shape, num_classes, seconds):
    time.sleep(seconds)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=__doc__)
    parser.add_argument("--engine", choices=("ray", "folder"), default="folder")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=60, help="of each trial (about 0.05 s of a core each)")
    parser.add_argument("--sleep", type=float, help="seconds that each trial waits; it trains for one epoch then")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuner-nodes-", ignore_cleanup_errors=True) as work, ExitStack() as stack:
        items = trials(Path(work), options)
        took: dict[int, list[float]] = {1: [], 2: []}
        on = stack.enter_context({"ray": ray_nodes, "folder": folder_nodes}[options.engine](Path(work)))
        for count in reversed(took):
            with on(count) as engine:
                timed(engine, items(2 * count, "warm"), Path(work))
        for repeat in range(options.repeats):
            for count in took:
                with on(count) as engine:
                    took[count].append(timed(engine, items(options.trials, repeat), Path(work)))
                print(f"{count} nodes: {took[count][-1]:.1f} s", flush=True)
    ratios = [one / two for one, two in zip(took[1], took[2], strict=True)]
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{options.engine}: two nodes are {statistics.median(ratios):.2f} times as fast as one ({listed})")


def trials(work: Path, options: Any) -> Callable[[int, Any], list[WorkItem]]:
    """Return what makes trials, other ones for each round."""
    (work / "mine.py").write_text(WAITING)
    waits = {"name": "mine.py:build", "seconds": options.sleep}
    model = {"name": "mlp"} if options.sleep is None else waits
    raw = {"name": "t", "data": {"source": "digits"}, "model": model}
    tables = Recipe.model_validate(raw).tables()
    epochs = options.epochs if options.sleep is None else 1

    def make(count: int, part: Any) -> list[WorkItem]:
        first = 1000 * (part + 1) if part != "warm" else 0
        return [WorkItem(TrialSpec(tables, {}, seed=first + i, horizon_epochs=epochs), i) for i in range(count)]

    return make


def timed(engine: Executor, items: list[WorkItem], work: Path) -> float:
    """Return the seconds that an engine takes for trials."""
    with tempfile.TemporaryDirectory(dir=work) as run:
        began = time.perf_counter()
        results = list(engine.run(items, TrialEnv(work, Path(run) / "run/coarse")))
        took = time.perf_counter() - began
    assert [result.status for result in results] == ["completed"] * len(items)
    return took


@contextmanager
def folder_nodes(work: Path) -> Iterator[On]:
    """Start workers that take one trial at a time, each with a cache of its own: one in a folder, two in another."""
    workers = [worker(work, count, i) for count in (1, 2) for i in range(count)]

    @contextmanager
    def on(count: int) -> Iterator[Executor]:
        engine = FolderExecutor(Wish("cpu"), Shared(work / f"nodes-{count}"), lambda progress: None)
        yield engine
        engine.close()

    try:
        yield on
    finally:
        for process in workers:
            process.send_signal(signal.SIGTERM)
        for process in workers:
            process.wait()


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Start what is started here on one core, the next one for the next number; where there are too few, on any."""
    known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if number >= len(known):
        yield
        return
    os.sched_setaffinity(0, {known[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, known)


def worker(work: Path, count: int, number: int) -> subprocess.Popen[bytes]:
    """Start a worker of the folder for so many nodes."""
    command = [sys.executable, "-m", "tuner", "worker", str(work / f"nodes-{count}"), "--workers", "1", "--quiet"]
    env = {**os.environ, "TUNER_CACHE": str(work / f"cache-{count}-{number}")}
    with on_core(number):
        return subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)


@contextmanager
def ray_nodes(work: Path) -> Iterator[On]:
    """Start a cluster of two nodes with one CPU each; one of them is kept busy where one node is asked for."""
    import ray
    from ray.cluster_utils import Cluster as Nodes
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from tuner.execute.ray_engine import Cluster, RayExecutor

    with on_core(0):
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    with on_core(1):
        second = nodes.add_node(num_cpus=1)
    engine = RayExecutor(Wish("cpu"), Cluster(nodes.address), lambda progress: None)
    assert len(engine.slots) == 2

    @contextmanager
    def on(count: int) -> Iterator[Executor]:
        free = work / "free"
        free.unlink(missing_ok=True)
        there = NodeAffinitySchedulingStrategy(second.node_id, soft=False)
        busy = [ray.remote(wait_for).options(scheduling_strategy=there).remote(str(free))] if count == 1 else []
        if busy:
            ray.wait(busy, timeout=10)  # it has begun by then
        yield engine
        free.touch()
        ray.get(busy)

    try:
        yield on
    finally:
        engine.close()
        nodes.shutdown()


def wait_for(path: str) -> None:
    """Hold a node's only CPU until there is such a file."""
    while not Path(path).exists():
        time.sleep(0.1)


if __name__ == "__main__":
    main()
