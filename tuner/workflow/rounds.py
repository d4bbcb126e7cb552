"""Step 7: apply what the diagnosis proposes, search again, and keep the change only if it measurably helped.

Round 1 is the user's recipe. Round k has its own `recipe-k.toml` (the recipe with the changes, as a readable diff), its
folders `fine-k`, `diagnose-k` (and `lr-sweep-k` where the change moves the good rates), and an entry in `rounds.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from tuner.core.errors import InputError
from tuner.core.result import Record
from tuner.core.statistics import CLEAR, SIGNIFICANT, mcnemar_p
from tuner.core.store import read_json, write_bytes, write_json
from tuner.core.trial import apply_overrides
from tuner.recipe.file import path_of
from tuner.recipe.model import Recipe
from tuner.search.finalists import right_of

RESWEEP = ("model.", "optimizer.", "train.batch_size", "loss.")  # what moves the band of good rates
SEARCHED_AGAIN = ("fine", "diagnose")


def folder_name(stage: str, round_number: int) -> str:
    """Return the folder of a stage in a round: `fine`, `fine-2`."""
    return stage if round_number == 1 else f"{stage}-{round_number}"


def effective_round(run: Path, stage: str, round_number: int) -> int:
    """Return the round whose result of `stage` holds in a round: the latest one up to it that has its own folder."""
    base = bases(run, round_number)
    return next((number for number in base if number == 1 or (run / folder_name(stage, number)).exists()), 1)


def bases(run: Path, round_number: int) -> list[int]:
    """Return the round and those that it is built on, latest first, ending with 1."""
    chain = [round_number]
    while chain[-1] > 1:
        chain.append(entry(run, chain[-1])["base"])
    return chain


def read_rounds(run: Path) -> list[dict[str, Any]]:
    """Return the entries of `rounds.json`: {round, base, changes, kept, why}, by round."""
    path = run / "rounds.json"
    if not path.exists():
        return []
    hint = "Restore it, or move it away: then the rounds start over."
    entries = read_json(path, list, hint)
    keys = {"round", "base", "changes", "kept", "why"}
    if not all(isinstance(item, dict) and keys <= set(item) for item in entries):
        raise InputError(f"{path}: not what tuner wrote (each entry has {', '.join(sorted(keys))})", hint)
    return entries


def entry(run: Path, round_number: int) -> dict[str, Any]:
    """Return the entry of one round.

    Raises:
        InputError: there is no such round.
    """
    for item in read_rounds(run):
        if item["round"] == round_number:
            return item
    raise InputError(f"{run / 'rounds.json'} has no round {round_number}", "Start it with: tuner run RECIPE --rounds N")


def store_entry(run: Path, new: Mapping[str, Any]) -> None:
    """Add or replace the entry of one round."""
    others = [item for item in read_rounds(run) if item["round"] != new["round"]]
    write_json(run / "rounds.json", sorted([*others, dict(new)], key=lambda item: item["round"]))


def recipe_of(recipe: Recipe, run: Path, round_number: int) -> Recipe:
    """Return the recipe of a round: the user's, with the changes of the round and of those it is built on.

    A changed key is fixed: it leaves the search, whose old range was drawn around the old value.
    """
    raw = recipe.model_dump(exclude_none=True)
    for number in reversed(bases(run, round_number)[:-1]):
        for change in entry(run, number)["changes"]:
            raw = apply_overrides(raw, {change["key"]: change["to"]})
            raw["search"].pop(change["key"], None)
    return Recipe.model_validate(raw)


def begin(
    recipe_path: Path,
    overrides: Mapping[str, Any],
    run: Path,
    number: int,
    base: int,
    changes: Sequence[Mapping[str, Any]],
) -> None:
    """Start a round: its `recipe-k.toml` and its entry, which is left as it is where it has the same changes."""
    known = next((item for item in read_rounds(run) if item["round"] == number), None)
    _write_recipe(recipe_path, overrides, run, number, base, changes)
    if known is None or known["base"] != base or known["changes"] != list(changes):
        store_entry(run, {"round": number, "base": base, "changes": list(changes), "kept": None, "why": ""})


def _write_recipe(
    recipe_path: Path,
    overrides: Mapping[str, Any],
    run: Path,
    number: int,
    base: int,
    changes: Sequence[Mapping[str, Any]],
) -> None:
    """Write what a round is made from: the recipe, what the command line overrides, then the changes of all rounds."""
    document = tomlkit.parse(recipe_path.read_text(encoding="utf-8-sig"))
    chain = [item for step in reversed(bases(run, base)[:-1]) for item in entry(run, step)["changes"]]
    for key, value in overrides.items():
        _set(document, path_of(key), value)
    for change in [*chain, *changes]:
        _set(document, change["key"].split("."), change["to"])
        document.get("search", {}).pop(change["key"], None)  # fixed now, as in recipe_of
    text = [f"# round {number}: {recipe_path} with these changes, proposed by {folder_name('diagnose', base)}:"]
    text += [f"#   {item['key']}: {item['from']} -> {item['to']}  ({item['reason']})" for item in [*chain, *changes]]
    text += [f"# and with what the command line sets: {', '.join(overrides)}"] if overrides else []
    text += [f"# To run it, copy it to {recipe_path.resolve().parent}: its relative paths start there."]
    write_bytes(run / f"recipe-{number}.toml", ("\n".join(text) + "\n\n" + tomlkit.dumps(document)).encode())


def _set(table: Any, path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        if part not in table:
            table[part] = tomlkit.table()
        table = table[part]
    table[last] = value


def stages_of(run: Path, round_number: int) -> list[str]:
    """Return the stages that a round runs again: fine and diagnose, and lr-sweep first where the change asks for it."""
    keys = [change["key"] for change in entry(run, round_number)["changes"]]
    resweep = any(key.startswith(RESWEEP) and key != "optimizer.lr" for key in keys)
    return [*(["lr-sweep"] if resweep else []), *SEARCHED_AGAIN]


def winner(result: Mapping[str, Any], round_number: int) -> dict[str, Any]:
    """Return the content of `winner.json` for a finished fine stage."""
    choice = result["choice"]
    return {
        "round": round_number,
        "trial": choice["trial"],
        "checkpoint": choice["checkpoint"],
        "params": choice["params"],
    }


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], old_records: Sequence[Record], new_records: Sequence[Record]
) -> tuple[bool, str]:
    """Say whether a round's winner is better than the one before it beyond noise, and why, in one sentence.

    Better means: a higher mean over seeds by more than twice the standard error of the difference
    (s1^2/n1 + s2^2/n2), and, where both winners' predictions on the same val examples are there, McNemar's p < 0.05.
    """
    a, b = old["metrics"], new["metrics"]
    if a.get("mean") is None or b.get("mean") is None:
        return False, "one of the two searches has no winner to compare"
    gain = b["mean"] - a["mean"]
    error = ((a.get("std") or 0.0) ** 2 / max(1, a["seeds"]) + (b.get("std") or 0.0) ** 2 / max(1, b["seeds"])) ** 0.5
    words = f"{a['mean']:.4f} -> {b['mean']:.4f} over {a['seeds']} and {b['seeds']} seeds (standard error {error:.4f})"
    if gain <= CLEAR * error:
        return False, f"no gain beyond noise: {words}"
    before, after = _right(old_records, old["choice"]["trial"]), _right(new_records, new["choice"]["trial"])
    if before is None or after is None or len(before) != len(after):
        return True, f"better: {words}"
    p_value = mcnemar_p(before, after)
    verdict = "better" if p_value < SIGNIFICANT else "not beyond noise on the same val examples"
    return p_value < SIGNIFICANT, f"{verdict}: {words}, McNemar p = {p_value:.3g}"


def _right(records: Sequence[Record], trial: str) -> Any:
    """Return a trial's right (1) and wrong (0) answers on val, or None where its predictions were not stored."""
    return next((right for r in records if r.result.id == trial and (right := right_of(r)) is not None), None)
