"""Other tools' checks on the zoo, run as published: what they say of each planted bug and of each healthy look-alike.

    python -m benchmarks.peers --out build/peers        (pip install 'tuner[bench]')

Each tool gets what it asks for, made of the case's own recipe: the model, the loss, the optimizer, a train batch of the
recipe's size, normalised and augmented as in training, the user's train step where the tool looks into a running loop,
the user's file where it reads code. All arguments are the tools' defaults. A run is a process of its own with a limit
of time. Programs that cannot be built at all are left out.

A bug is detected where the tool warns or fails, named first where the first thing that it says may mean one of the
case's causes (`benchmarks.peers_said`, as kindly as the tools' pages allow), named at all where any of them may; a
look-alike that it warns of or fails is a false alarm. tuner's own rows are the stored evidence of the zoo, judged: by
check-init alone, and by all steps.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.peers_said import CAUSES
from tests.zoo import evidence, pool
from tests.zoo.case import STEPS, Case
from tests.zoo.catalog import _own_code, load_cases
from tests.zoo.certificates import why_not_certified
from tests.zoo.rejudge import judged_again
from tests.zoo.score import judged

LIMIT_SECONDS = 180.0
STEPS_WATCHED = 10


@dataclass(frozen=True)
class Task:
    """One tool on one case."""

    peer: str
    case: str
    out: Path

    @property
    def path(self) -> Path:
        return self.out / self.peer / f"{self.case}.json"


def main() -> None:
    """Run what is not done yet and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/peers"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--table", action="store_true", help="print the table of what is done")
    options = parser.parse_args()
    cases = [case for case in load_cases().values() if why_not_certified(case) is None]
    cases.sort(key=lambda case: hashlib.sha256(case.name.encode()).digest())  # a run that is ended early is a sample
    tasks = [Task(peer, case.name, options.out) for case in cases for peer in options.peers]
    todo = [] if options.table else [task for task in tasks if not task.path.is_file()]
    for number, ended in enumerate(pool.each(carry_out, todo, options.workers, LIMIT_SECONDS), 1):
        if ended.how != "finished":
            write(ended.task, {"status": ended.how, "said": [], "seconds": ended.seconds})
        if number % 20 == 0:
            print(f"{number}/{len(todo)} {ended.task.peer} {ended.task.case}", file=sys.stderr, flush=True)
    print(table(cases, options.peers, options.out))


def carry_out(task: Task) -> None:
    """Build the case's program, ask the tool, and store the names of the checks that warned or failed, in order."""
    task.path.parent.mkdir(parents=True, exist_ok=True)
    with task.path.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    case = load_cases()[task.case]
    try:
        program = built(case, task.out / "work" / task.case)
    except Exception:
        write(task, {"status": "not built", "said": [], "seconds": 0.0, "why": traceback.format_exc()[-500:]})
        return
    clock = time.perf_counter()
    try:
        said, status = list(dict.fromkeys(PEERS[task.peer](program, case))), "done"
    except Exception:
        traceback.print_exc()
        said, status = [], "raised"
    write(task, {"status": status, "said": said, "seconds": time.perf_counter() - clock})


def write(task: Task, found: Mapping[str, Any]) -> None:
    task.path.parent.mkdir(parents=True, exist_ok=True)
    task.path.write_text(json.dumps(dict(found)))


@dataclass(frozen=True)
class Program:
    """What a tool may ask for. `model` makes one of the seed; `batches`: the first of an epoch, as in training."""

    setup: Any
    batches: list[tuple[Any, Any]]

    def model(self) -> Any:
        return self.setup.model(seed=0).train()


def built(case: Case, folder: Path) -> Program:
    """Return the program of a case, from its recipe."""
    from tests.zoo.recipe import write_folder
    from tuner import stages
    from tuner.core.trial import TrialEnv
    from tuner.recipe import registry
    from tuner.recipe.file import load_recipe
    from tuner.stages import Facts, Inputs
    from tuner.train.setup import make_setup

    recipe = load_recipe(write_folder(case, folder), seed=0, settings=stages.settings_models())
    registry.forget_user_modules()
    stage = stages.load(STEPS[0])
    (item,) = stage.plan(recipe, Inputs({}, {}, Facts(), folder=STEPS[0]), stage.Settings(), [])
    setup = make_setup(replace(item.spec, measure={}), TrialEnv(folder.resolve()))
    size = setup.spec.tables["train"]["batch_size"]
    batches = [batch for _, batch in zip(range(STEPS_WATCHED), setup.data.epoch(0, 1, size), strict=False)]
    setup.optimizer(setup.model(seed=0))
    return Program(setup, batches)


def torchtest2(program: Program, case: Case) -> Iterable[str]:
    import torchtest2

    model = program.model()
    inputs, targets = program.batches[0]
    optimizer = program.setup.optimizer(model)
    found = torchtest2.check_model(model, inputs, targets, loss_fn=program.setup.loss(), optimizer=optimizer)
    return [result.name for result in found.results if result.status.value in ("WARN", "FAIL")]


def checklist(program: Program, case: Case) -> Iterable[str]:
    import torch
    from neural_net_checklist import torch_diagnostics
    from torch.utils.data import DataLoader, TensorDataset

    whole = TensorDataset(*(torch.cat(part) for part in zip(*program.batches, strict=True)))
    loader = DataLoader(whole, batch_size=len(program.batches[0][1]))
    try:
        torch_diagnostics.assert_all_for_classification_cross_entropy_loss(
            program.model, loader, num_classes=program.setup.data.num_classes, device="cpu"
        )
    except AssertionError as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        return [next(name for name in reversed(frames) if name in CAUSES["neural_net_checklist"])]
    return []


def torch_audit(program: Program, case: Case) -> Iterable[str]:
    import torch_audit

    from tuner.checks.tools.frame import train_once

    model, loss = program.model(), program.setup.loss()
    optimizer = program.setup.optimizer(model)
    auditor = torch_audit.autopatch(model, optimizer=optimizer, every_n_steps=1)
    try:
        for batch in program.batches:
            train_once(program.setup, model, batch, loss, optimizer)
    finally:
        found = auditor.finish(report=False)
        auditor.unpatch()
    return [item.rule_id for item in found.findings if item.severity.value != "INFO" and not item.suppressed]


def guardtower(program: Program, case: Case) -> Iterable[str]:
    import guardtower as tower

    model, loss = program.model(), program.setup.loss()
    inputs, targets = program.batches[0]
    found = tower.audit(
        model, lambda: loss(model(inputs), targets), optimizer=program.setup.optimizer(model), inputs=inputs
    )
    return [item.check for item in found.findings if item.severity.label != "INFO"]


def preflight(program: Program, case: Case) -> Iterable[str]:
    path = program.setup.env.recipe_dir / "of_this_case.py"
    path.write_text(_own_code(case))
    command = [sys.executable, "-m", "torch_preflight", "check", "-f", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return [item["code"] for item in found["diagnostics"] if item["severity"] != "note"]


PEERS: dict[str, Callable[[Program, Case], Iterable[str]]] = {
    "torchtest2": torchtest2,
    "neural_net_checklist": checklist,
    "torch-audit": torch_audit,
    "guardtower": guardtower,
    "torch-preflight": preflight,
}

HEAD = (
    "tool",
    "bugs",
    "detected",
    "named first",
    "named at all",
    "look-alikes",
    "false alarms",
    "no answer",
    "median seconds",
)


def table(cases: Sequence[Case], peers: Sequence[str], out: Path) -> str:
    """Return the table of what is done, in Markdown."""
    asked = {peer: [(case, Task(peer, case.name, out).path) for case in cases] for peer in peers}
    whole, meant = ([row(peer, paths, only) for peer, paths in asked.items()] for only in (False, True))
    others = [
        (f"{new[0]}, less its advice of style", *new[1:]) for old, new in zip(whole, meant, strict=True) if old != new
    ]
    rows = [*whole, *others]
    return "\n".join([line(HEAD), f"|{'---|' * len(HEAD)}", *map(line, [*rows, *ours(cases)])])


def row(peer: str, asked: Sequence[tuple[Case, Path]], meant: bool = False) -> tuple[str, ...]:
    """Return the row of a tool; `meant`: checks that may mean none of our causes (style, hardware) are not counted."""
    found = [(case, json.loads(path.read_text())) for case, path in asked if path.is_file()]
    found = [(case, entry) for case, entry in found if entry["status"] != "not built"]
    means = CAUSES[peer]
    if meant:
        found = [(case, {**entry, "said": [said for said in entry["said"] if said in means]}) for case, entry in found]
    bugs, sound = ([pair for pair in found if pair[0].healthy is healthy] for healthy in (False, True))
    detected = sum(bool(entry["said"]) for _, entry in bugs)
    right = [[bool(set(means.get(said, ())) & set(case.causes)) for said in entry["said"]] for case, entry in bugs]
    first, any_ = sum(hits[:1] == [True] for hits in right), sum(map(any, right))
    alarms = sum(bool(entry["said"]) for _, entry in sound)
    silent = sum(entry["status"] != "done" for _, entry in found)
    seconds = statistics.median([entry["seconds"] for _, entry in found]) if found else 0.0
    name = f"{peer} {importlib.metadata.version(peer)}"
    return cells(name, (len(bugs), detected, first, any_), (len(sound), alarms), silent, seconds)


def ours(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """Return our own rows, of the stored evidence: by step 1 alone, by all steps, and by all on what is held out."""
    names = {case.name: case for case in cases}
    runs = [judged_again(run) for run in evidence.stored() if run["case"] in names]
    held_out = [run for run in runs if names[run["case"]].held_out]
    rows = []
    parts = (
        ("check-init alone", 1, runs),
        ("all steps", len(STEPS), runs),
        ("all steps, held out", len(STEPS), held_out),
    )
    for label, last, some in parts:
        cut = [{**run, "steps": run["steps"][:last]} for run in some]
        seen = [judged(run, names[run["case"]]) for run in cut]
        bugs = [one for one in seen if not one.case.healthy]
        sound = [one for one in seen if one.case.healthy]
        alarms = sum(one.false_error or one.false_warn for one in sound)
        seconds = statistics.median(sum(step["seconds"] for step in run["steps"]) for run in cut)
        found = [one for one in bugs if one.detected]
        counts = (
            len(bugs),
            len(found),
            sum(one.named(1) for one in found),
            sum(one.named(len(one.said)) for one in found),
        )
        rows.append(cells(f"tuner, {label}", counts, (len(sound), alarms), 0, seconds))
    return rows


def cells(
    name: str, bugs: tuple[int, int, int, int], sound: tuple[int, int], silent: int, seconds: float
) -> tuple[str, ...]:
    def share(part: int, whole: int) -> str:
        return f"{part} ({100 * part / max(whole, 1):.0f} %)"

    count, *said = bugs
    looked, alarms = sound
    return (
        name,
        str(count),
        *(share(part, count) for part in said),
        str(looked),
        share(alarms, looked),
        str(silent),
        f"{seconds:.1f}",
    )


def line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    main()
