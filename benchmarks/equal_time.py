"""At equal wall time: the whole checklist, start-up and test included, against what a user writes around a plain loop.

tuner goes first with a budget; the seconds that it took are the others'. Compared are the winners on untouched data,
and what each side says of its own: the others their best val accuracy, tuner its interval.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import equal_data
from benchmarks.equal_space import CHOICES, MODELS, OPTIMIZER, RANGES
from benchmarks.part import Asked
from benchmarks.search import t_half
from benchmarks.task import BATCH, ask

SIDES = {
    "a1": "Optuna TPE + halving, one process",
    "a2": "the same, a process per core",
    "b": "Ray Tune ASHA, a trial per core",
    "c": "random search, a process per core",
    "d": "tuner, test included",
}


@dataclass(frozen=True)
class Sizes:
    sets: str = "digits,letters,fashion,cifar10"
    seconds: str = "60,120,300,900"
    sides: str = "a1,a2,b,c"  # beside tuner


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    """Run the sides one after the other, per budget, seed and set."""
    work = asked.work / "equal_time"
    work.mkdir(exist_ok=True)
    found: dict[str, Any] = {"sizes": asdict(sizes), "runs": []}
    names = []
    for name in sizes.sets.split(","):
        if path := equal_data.lacking(name):
            asked.say(f"equal_time: {name} skipped, there is no {path}")
        else:
            names.append(name)
    if "b" in sizes.sides.split(",") and importlib.util.find_spec("ray") is None:
        asked.say("equal_time: (b) skipped, ray is not installed: pip install 'tuner[bench]'")
        sizes = replace(sizes, sides=",".join(side for side in sizes.sides.split(",") if side != "b"))
    for seconds in map(int, sizes.seconds.split(",")):
        for seed in range(asked.seeds):
            for name in names:
                found["runs"].append(_compared(asked, sizes, work, {"set": name, "seconds": seconds, "seed": seed}))
    return found


def _compared(asked: Asked, sizes: Sizes, work: Path, what: Mapping[str, Any]) -> dict[str, Any]:
    """Return {side: what it came to} of one set, budget and seed."""
    given = {**what, "work": str(work), "data": str(equal_data.make(what["set"], work, what["seed"]))}
    found: dict[str, Any] = {**what, "sides": {}}
    for side in ("d", *sizes.sides.split(",")):

        def run(side: str = side) -> dict[str, Any]:
            if side == "d":
                return ours(given)
            return usual({**given, "side": side}, found["sides"]["d"]["wall"])

        one = asked.lines.once({"part": "equal_time", **what, "side": side}, run)
        found["sides"][side] = one
        told = f"test {one['test']:.4f}, claims {one['claim']}, {one['epochs']} epochs"
        asked.say(f"equal_time: {what}: ({side}) {told}, {one['wall']:.0f} s, load {one['load']:.1f}")
    return found


def usual(given: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Give one of the others as many seconds as tuner took, its start included."""
    watch = _Watch()
    module = "benchmarks.equal_ray" if given["side"] == "b" else "benchmarks.equal_usual"
    one = ask(module, {**given, "ends_at": time.time() + seconds})
    return {"test": one["test"], "claim": one["val"], "trials": one["trials"], "epochs": one["epochs"], **watch()}


def ours(given: Mapping[str, Any]) -> dict[str, Any]:
    """Run the checklist within the budget, the test included."""
    run_dir = Path(tempfile.mkdtemp(dir=given["work"]))
    recipe = run_dir.with_suffix(".toml")
    recipe.write_text(recipe_text(given))
    common = [str(recipe), "--run-dir", str(run_dir), "--quiet", "--force"]
    watch = _Watch()
    _tuner(run_dir, "run", *common, "--budget", f"{given['seconds']}s", "--through", "test")
    taken = watch()
    stages = {path.parent.name: json.loads(path.read_text()) for path in run_dir.glob("*/result.json")}
    seconds = {p.parent.name: json.loads(p.read_text())["wall_seconds"] for p in run_dir.glob("*/manifest.json")}
    plans = {p.parent.name: json.loads(p.read_text()) for p in run_dir.glob("*/plan.json")}
    searched = [stages[name]["metrics"] for name in ("coarse", "fine") if name in stages]
    claim = (stages.get("fine") or stages["coarse"])["metrics"].get("interval")
    return {
        "test": stages["test"]["metrics"]["accuracy"],
        "claim": claim,
        "trials": sum(metrics["trials"] for metrics in searched),
        "epochs": sum(metrics["epochs_run"] for metrics in searched),
        "stages": seconds,
        "plans": {
            name: {key: plan[key] for key in ("trials", "epochs", "repeats", "epochs_in_all", "expected_seconds")}
            for name, plan in plans.items()
        },
        **taken,
    }


def recipe_text(given: Mapping[str, Any]) -> str:
    """Write the recipe of a set as TOML."""
    name = given["set"]
    space = {key: {"low": low, "high": high, "log": log} for key, (low, high, log) in RANGES.items()}
    space |= {key: {"choices": values} for key, values in CHOICES[name].items()}
    tables: dict[str, dict[str, Any]] = {
        "data": {"source": "npz", "path": given["data"], "normalize": "none"},
        "model": MODELS[name],
        "optimizer": OPTIMIZER,
        "schedule": {"name": "cosine"},
        "train": {"batch_size": BATCH},
        "search": {**space, "optimizer.lr": "auto"},
    }
    lines = [f'name = "equal-{name}"', f"seed = {given['seed']}"]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{json.dumps(key)} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def _tuner(run_dir: Path, *arguments: str) -> None:
    """Give a command of tuner; a failed verdict is a result too.

    Raises:
        SystemExit: it ended otherwise.
    """
    command = [sys.executable, "-m", "tuner", *arguments]
    environment = {**os.environ, "TUNER_CACHE": f"{run_dir}-cache"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1])
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")


class _Watch:
    """Wall seconds since it was made, and the machine's load over the last minute: who else was at work."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def __call__(self) -> dict[str, float]:
        return {"wall": round(time.perf_counter() - self.started, 1), "load": round(os.getloadavg()[0], 1)}


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    runs = found["runs"]
    sides = list(dict.fromkeys(side for run in runs for side in run["sides"]))
    lines = ["## At equal wall time: accuracy of the winner on untouched data", ""]
    lines += [f"- ({side}) {SIDES[side]}" for side in sides]
    head = "| set | seconds | n | " + " | ".join(f"({side}) test / claim" for side in sides)
    others = [side for side in sides if side != "d"]
    lines += ["", head + " | " + " | ".join(f"tuner - ({side})" for side in others) + " |"]
    lines.append("|---" * (3 + len(sides) + len(others)) + "|")
    for name, seconds in dict.fromkeys((run["set"], run["seconds"]) for run in runs):
        group = [run["sides"] for run in runs if (run["set"], run["seconds"]) == (name, seconds)]
        cells = [_side_words([one[side] for one in group]) for side in sides]
        gaps = [_gap_words([one["d"]["test"] - one[side]["test"] for one in group]) for side in others]
        lines.append(f"| {name} | {seconds} | {len(group)} | {' | '.join([*cells, *gaps])} |")
    ours = [run["sides"]["d"] for run in runs if run["sides"]["d"]["claim"]]
    held = sum(one["claim"][0] <= one["test"] <= one["claim"][1] for one in ours)
    over = [run["sides"]["d"]["wall"] / run["seconds"] - 1 for run in runs]
    lines += ["", f"tuner's interval held the test accuracy in {held} of {len(ours)}."]
    lines.append(f"It took {statistics.median(over):+.0%} more than the budget (median; at most {max(over):+.0%}).")
    loads = [one["load"] for run in runs for one in run["sides"].values()]
    words = (
        f"Load of the machine at the end of a side: {statistics.median(loads):.1f} (median; at most {max(loads):.1f})."
    )
    return [*lines, words]


def _side_words(group: Sequence[Mapping[str, Any]]) -> str:
    test = statistics.fmean(one["test"] for one in group)
    claims = [one["claim"] for one in group if one["claim"] is not None]
    if claims and isinstance(claims[0], list):
        low, high = (statistics.fmean(claim[i] for claim in claims) for i in (0, 1))
        return f"{test:.4f} / {low:.3f}-{high:.3f}"
    return f"{test:.4f} / {statistics.fmean(claims):.4f}" if claims else f"{test:.4f}"


def _gap_words(gaps: Sequence[float]) -> str:
    half = t_half(gaps)
    noise = "" if half is None else f" +- {100 * half:.1f}"
    return f"{100 * statistics.fmean(gaps):+.1f}{noise}"
