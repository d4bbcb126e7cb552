"""What a search with a time budget was planned to take, and what it took: `tuner coarse` and `tuner fine --budget`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.part import Asked, cifar10_root
from benchmarks.task import make_subset

RECIPES = {"digits": "digits", "cifar10": "cifar10_folder"}
ROOT = Path(__file__).parents[1]
AIM = 0.25


@dataclass(frozen=True)
class Sizes:
    repeats: int = 2
    digits: int = 1  # 0: leave it out
    cifar10: int = 1
    images: int = 10_000
    coarse_seconds: int = 60
    fine_seconds: int = 120


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    """Run steps 1 to 3, then both searches with a budget, per recipe and repeat (each with a seed of its own)."""
    work = asked.work / "planned"
    work.mkdir(exist_ok=True)
    settings: dict[str, list[str]] = {"digits": []} if sizes.digits else {}
    if sizes.cifar10 and (root := cifar10_root(asked, "planned")) is not None:
        settings["cifar10"] = ["--set", f"data.root={json.dumps(str(make_subset(root, sizes.images, work)))}"]
    of = {key: value for key, value in asdict(sizes).items() if key not in ("repeats", *RECIPES)}
    found: dict[str, Any] = {"sizes": asdict(sizes)}
    for repeat in range(sizes.repeats):
        for kind, options in settings.items():
            one = {"part": "planned", **of, "kind": kind, "repeat": repeat}
            budgets = {"coarse": f"{sizes.coarse_seconds}s", "fine": f"{sizes.fine_seconds}s"}
            stages = asked.lines.once(one, lambda k=kind, o=options, b=budgets, r=repeat: search(work, k, o, b, r))
            found.setdefault(kind, []).append(stages)
            for name, stage in stages.items():
                asked.say(f"planned: {kind}, {name}: {stage['planned']:.0f} s planned, {stage['took']:.0f} s taken")
    return found


def search(work: Path, kind: str, options: list[str], budgets: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Return per stage what was planned and what it took."""
    run_dir = Path(tempfile.mkdtemp(dir=work))
    options = [
        str(ROOT / "recipes" / f"{RECIPES[kind]}.toml"),
        *options,
        "--seed",
        str(seed),
        "--run-dir",
        str(run_dir),
    ]
    tuner(work, "run", *options, "--through", "lr-sweep")
    found = {}
    for stage, budget in budgets.items():
        start = time.perf_counter()
        tuner(work, stage, *options, "--budget", budget)
        command = time.perf_counter() - start
        plan, manifest = (json.loads((run_dir / stage / name).read_text()) for name in ("plan.json", "manifest.json"))
        found[stage] = {
            "budget": budget,
            "trials": plan["trials"],
            "epochs": plan["epochs"],
            "planned": plan["expected_seconds"],
            "took": manifest["wall_seconds"],
            "command": round(command, 1),
        }
    return found


def tuner(work: Path, *arguments: str) -> None:
    """Give a command of tuner.

    Raises:
        SystemExit: it failed.
    """
    environment = {**os.environ, "TUNER_CACHE": str(work / "cache")}
    command = [sys.executable, "-m", "tuner", *arguments, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=work)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    lines = [
        "## Planned against actual wall time",
        "",
        "| recipe | stage | budget | trials x epochs | planned, s | taken, s | off by | whole command, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    off = []
    for kind in RECIPES:
        for stages in found.get(kind, ()):
            for name, stage in stages.items():
                off.append(stage["took"] / stage["planned"] - 1)
                cells = [RECIPES[kind], name, stage["budget"], f"{stage['trials']} x {stage['epochs']}"]
                cells += [
                    f"{stage['planned']:.1f}",
                    f"{stage['took']:.1f}",
                    f"{off[-1]:+.0%}",
                    f"{stage['command']:.1f}",
                ]
                lines.append(f"| {' | '.join(cells)} |")
    within = sum(abs(share) <= AIM for share in off)
    return [*lines, "", f"{within} of {len(off)} within {AIM:.0%} (aim: all)."]
