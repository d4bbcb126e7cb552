"""What the rules saw in every run of the zoo, kept beside what they said: all rules are judged again on it in a second.

`evidence/<case>-s<seed>.json.gz` holds one run: per step what the step's rules were given, what they found and, where
the step ended with an error instead, its message. It is read back from the run's own folder: each finished step is
judged once more on its stored trials, and what its rules are given is written down. Nothing is trained for it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.zoo.case import HERE, Case
from tuner import stages
from tuner.core.result import Record
from tuner.core.store import RunDir
from tuner.recipe.file import load_recipe
from tuner.recipe.model import Recipe
from tuner.stages import Facts, Inputs

STORE = HERE / "evidence"
DIGITS = 9  # significant digits that a stored number keeps


def stored(store: Path = STORE) -> list[dict[str, Any]]:
    """Return all stored runs, by name; `about` is the case as it was, `left_out` why it does not count, if so."""
    return [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(store.glob("*.json.gz"))]


def case_of(run: Mapping[str, Any]) -> Case:
    """Return the case of a stored run; its program is not loaded."""
    about = run["about"]
    return Case(**{**about, "file": HERE / about["file"], "causes": tuple(about["causes"])})


def about(case: Case) -> dict[str, Any]:
    """Return what a stored run says of its case."""
    return {**asdict(case), "file": case.file.relative_to(HERE).as_posix(), "causes": list(case.causes)}


def keep(case: Case, left_out: str | None, record: Mapping[str, Any], folder: Path, store: Path = STORE) -> Path:
    """Write what the rules saw in the run of `record`, whose files are in `folder`."""
    steps = [dict(step) for step in record["steps"]]
    if any(step["verdict"] for step in steps):
        recipe = load_recipe(folder / "recipe.toml", seed=record["seed"], settings=stages.settings_models())
        for step in steps:
            if step["verdict"] is not None:
                step["evidence"] = given_to_rules(recipe, RunDir(folder / "run"), step["step"])
                step["accepted"] = list(recipe.accept.codes)
    path = store / f"{record['case']}-s{record['seed']}.json.gz"
    write(path, {**record, "about": about(case), "left_out": left_out, "steps": steps})
    return path


def write(path: Path, run: Mapping[str, Any]) -> None:
    """Store a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_short(run), separators=(",", ":"), sort_keys=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def given_to_rules(recipe: Recipe, run: RunDir, step: str) -> Any:
    """Return what a finished step gives to its rules, from its stored trials. Units and keys are those of the rules."""
    stage = stages.load(step)
    needed = _needed(step)
    results = {name: stages.read_result(run.path / name / "result.json") for name in needed}
    trials = {name: list(_records(run.path / name)) for name in stage.NEEDS}
    specs = [record.item.spec for records in trials.values() for record in records]
    facts = Facts(specs[0].user_files, specs[0].data_hash, specs[0].device) if specs else Facts()
    inputs = Inputs(results, trials, facts, folder=step, planned_epochs=stages.planned_epochs(recipe))
    with _listening(stage) as heard:
        stage.judge(recipe, inputs, stage.Settings(**recipe.stages.get(step, {})), list(_records(run.path / step)))
    return heard[-1] if heard else None


def _needed(step: str) -> list[str]:
    direct = stages.load(step).NEEDS
    return list(dict.fromkeys(name for need in direct for name in (*_needed(need), need)))


def _records(folder: Path) -> Iterator[Record]:
    path = folder / "trials.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else ():
        yield Record.from_json(json.loads(line))


@contextmanager
def _listening(stage: Any) -> Iterator[list[Any]]:
    """Write down what the stage gives to its rules while the block runs."""
    heard: list[Any] = []
    apply_rules = stage.apply_rules

    def listen(name: str, evidence: Any, accepted: Sequence[str] = ()) -> Any:
        heard.append({place: seen.to_json() for place, seen in evidence.items()})
        return apply_rules(name, evidence, accepted)

    stage.apply_rules = listen
    try:
        yield heard
    finally:
        stage.apply_rules = apply_rules


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, (list, tuple)) else value
