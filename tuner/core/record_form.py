"""What a line of trials.jsonl must look like before it becomes a Record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from tuner.core.formatting import shown
from tuner.core.result import FailureKind, Record, Status
from tuner.core.safe_files import TRIAL_ID, check_levels, kind_problem

NUMBER = (int, float)
WHOLE_OR_NONE = (int, type(None))
ITEM = {"number": int, "until_epoch": WHOLE_OR_NONE, "spec": dict}
SPEC = {"tables": dict, "overrides": dict, "seed": int}
RESULT = {
    "id": str,
    "until_epoch": WHOLE_OR_NONE,
    "status": str,
    "curve": list,
    "evidence": dict,
    "score": (*NUMBER, type(None)),
    "best_epoch": WHOLE_OR_NONE,
    "wall_seconds": NUMBER,
    "peak_memory_bytes": int,
    "error": (dict, type(None)),
}
VALUES = {int, float, type(None)}  # of a row of a curve


def read_record(line: Any, shared: Callable[[Any], Any] = lambda value: value) -> Record:
    """Return the record of a line's JSON value; `shared` may replace a table by an equal one that is there already.

    Raises:
        ValueError: "not a finished trial", with what is wrong.
    """
    if not isinstance(line, dict) or not isinstance(line.get("item"), dict) or not isinstance(line.get("result"), dict):
        raise ValueError("it has no item and result")
    item, result = line["item"], line["result"]
    spec = item.get("spec")
    wrong = kind_problem(item, ITEM) or kind_problem(spec, SPEC) or kind_problem(result, RESULT) or _wrong(result, spec)
    if wrong:
        raise ValueError(wrong)
    check_levels(spec)
    check_levels(result["evidence"])
    for key in ("tables", "measure", "user_files"):
        if isinstance(spec.get(key), dict):
            spec[key] = {name: shared(value) for name, value in spec[key].items()}
    try:
        return Record.from_json(line)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _wrong(result: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    if not TRIAL_ID.fullmatch(result["id"]):
        return f"its id is {shown(result['id'])}, not 12 hex digits"
    if result["status"] not in get_args(Status):
        return f"its status is {shown(result['status'])}"
    error = result["error"]
    if error is not None and (
        kind_problem(error, {"kind": str, "message": str}) or error["kind"] not in get_args(FailureKind)
    ):
        return f"its error is {shown(error)}"
    if not all(isinstance(table, dict) for table in spec["tables"].values()):
        return "a table of its recipe is none"
    if not all(isinstance(measured, dict) for measured in result["evidence"].values()):
        return "its evidence holds no tables"
    return next((wrong for row in result["curve"] if (wrong := _row_problem(row))), None)


def _row_problem(row: Any) -> str | None:
    """Return what is wrong with a row of a curve; there may be millions of them, so this is a short way to say it."""
    if (
        type(row) is dict
        and type(row.get("step")) is int
        and type(row.get("epoch")) is int
        and type(row.get("split")) is str
        and all(type(value) in VALUES or key == "split" for key, value in row.items())
    ):
        return None
    return f"a row of its curve is {shown(row)}"
