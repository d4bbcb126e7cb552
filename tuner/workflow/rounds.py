"""Step 7: apply what the diagnosis proposes, search again, and keep the change only if it measurably helped.

Round 1 is the user's recipe. Round k has its own `recipe-k.toml` (the recipe with the changes, as a readable diff), its
folders `fine-k`, `diagnose-k` (and `lr-sweep-k` where the change moves the good rates), and an entry in `rounds.json`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.formatting import shown
from tuner.core.metrics import FineMetrics
from tuner.core.result import Record, StageResult
from tuner.core.safe_files import kind_problem
from tuner.core.stage_ref import StageRef
from tuner.core.statistics import CLEAR, SIGNIFICANT, mcnemar_p
from tuner.core.store import RunDir, read_json, write_bytes, write_json
from tuner.core.trial import MAY_BE_ABSENT, TABLES, apply_overrides
from tuner.recipe.file import path_of
from tuner.recipe.model import Recipe
from tuner.recipe.space import RATE
from tuner.search.finalists import right_of

# changes of these move the band of good learning rates
MOVES_LR = ("model.", "optimizer.", "train.batch_size", "loss.")


def source_round(run: RunDir, ref: StageRef) -> int:
    """Return the round whose recipe and results a stage is made from: its own; on the test split, the winner's."""
    if not stages.traits(ref.stage).on_test_split:
        return ref.round
    with contextlib.suppress(InputError):  # the stage that reads the winner reports what is wrong with it
        return run.winner()["round"]
    return 1


def input_of(run: RunDir, ref: StageRef, need: str) -> StageRef:
    """Return where a stage finds a result that it needs: in the round that it is made from, or one which that is
    built on, whichever is the latest with a folder of its own.
    """
    return holding(run, StageRef(need, source_round(run, ref)))


def holding(run: RunDir, ref: StageRef) -> StageRef:
    """Return the stage of the latest round, among the round and those it is built on, that has its own folder."""
    chain = [StageRef(ref.stage, number) for number in bases(run.path, ref.round)]
    return next((found for found in chain if found.folder(run).path.exists()), chain[-1])


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
    known = {1}
    for item in entries:
        wrong = _entry_problem(item, known)
        if wrong:
            raise InputError(f"{path}: not what tuner wrote ({wrong})", hint)
        known.add(item["round"])
    return entries


KINDS = {"round": int, "base": int, "changes": list, "kept": (bool, type(None)), "why": str}
CHANGE_KEYS = {"key", "from", "to", "reason"}


def _entry_problem(item: Any, known: set[int]) -> str | None:
    """Return what is wrong with an entry; `known`: the rounds before it, on one of which it is built."""
    if not isinstance(item, dict):
        return f"an entry is {shown(item)}"
    if wrong := kind_problem(item, KINDS):
        return wrong
    if item["round"] in known or item["base"] not in known:
        return f"round {item['round']} built on round {item['base']}"
    for change in item["changes"]:
        if not isinstance(change, dict) or not set(change) >= CHANGE_KEYS or not _is_key(change["key"]):
            return f"a change is {shown(change)}"
    return None


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and key.partition(".")[0] in (*TABLES, *MAY_BE_ABSENT, "stages") and all(key.split("."))


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
    proposer = StageRef(stages.only("proposes_changes"), base)
    text = [f"# round {number}: {recipe_path} with these changes, proposed by {proposer}:"]
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


def stages_of(run: Path, round_number: int) -> list[StageRef]:
    """Return the stages that a round runs again; the sweep of learning rates where its changes move the good ones."""
    keys = [change["key"] for change in entry(run, round_number)["changes"]]
    moved = any(key.startswith(MOVES_LR) and key != RATE for key in keys)
    asked = {"always", "when the lr moves"} if moved else {"always"}
    return [StageRef(name, round_number) for name in stages.NAMES if stages.traits(name).repeats in asked]


def winner(result: StageResult[FineMetrics], round_number: int) -> dict[str, Any]:
    """Return the content of `winner.json` for a finished fine stage."""
    return {"round": round_number, **{key: result.choice[key] for key in ("trial", "checkpoint", "params")}}


def compare(
    old: StageResult[FineMetrics],
    new: StageResult[FineMetrics],
    old_records: Sequence[Record],
    new_records: Sequence[Record],
) -> tuple[bool, str]:
    """Return whether a round's winner is better than the one before it beyond noise, and why, in one sentence.

    Better means: a higher mean over seeds by more than twice the standard error of the difference
    (s1^2/n1 + s2^2/n2), and, where both winners' predictions on the same val examples are there, McNemar's p < 0.05.
    """
    a, b = old.metrics, new.metrics
    if a.mean is None or b.mean is None:
        return False, "one of the two searches has no winner to compare"
    gain = b.mean - a.mean
    error = ((a.std or 0.0) ** 2 / max(1, a.seeds) + (b.std or 0.0) ** 2 / max(1, b.seeds)) ** 0.5
    words = f"{a.mean:.4f} -> {b.mean:.4f} over {a.seeds} and {b.seeds} seeds (standard error {error:.4f})"
    if gain <= CLEAR * error:
        return False, f"no gain beyond noise: {words}"
    before, after = _right(old_records, old.choice["trial"]), _right(new_records, new.choice["trial"])
    if before is None or after is None or len(before) != len(after):
        return True, f"better: {words}"
    p_value = mcnemar_p(before, after)
    verdict = "better" if p_value < SIGNIFICANT else "not beyond noise on the same val examples"
    return p_value < SIGNIFICANT, f"{verdict}: {words}, McNemar p = {p_value:.3g}"


def _right(records: Sequence[Record], trial: str) -> Any:
    """Return a trial's right (1) and wrong (0) answers on val, or None where its predictions were not stored."""
    return next((right for r in records if r.result.id == trial and (right := right_of(r)) is not None), None)
