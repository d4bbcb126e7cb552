"""The run folder: every file is written whole (temporary name, flush, rename) and read with suspicion."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.core.errors import EnvironmentProblem, InputError
from tuner.core.formatting import clipped
from tuner.core.locks import Held, hold
from tuner.core.record_form import read_record
from tuner.core.result import Record, finite, last_of_each
from tuner.core.safe_files import cell, check_levels, kind_problem, open_regular, parse_json, read_regular, refuse_links

RESULT_KINDS = {
    "stage": str,
    "verdict": str,
    "headline": str,
    "findings": list,
    "checks": dict,
    "choice": dict,
    "metrics": dict,
}
WINNER_KINDS = {"round": int, "trial": str, "checkpoint": str, "params": dict}
CURVE_KEYS = ("step", "epoch", "split")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_FOLDER = {errno.EEXIST, errno.ENOTDIR}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_BROKEN = {errno.EIO, *(getattr(errno, name) for name in ("ESTALE", "ETIMEDOUT", "EREMOTEIO") if hasattr(errno, name))}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing `path` into an EnvironmentProblem that names it."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror or error}", _way_out(error)) from error


def of_the_disk(error: BaseException) -> EnvironmentProblem | None:
    """Return what to tell of an error that the disk alone can be at fault for, wherever it was met; else None."""
    if not isinstance(error, OSError) or error.errno not in _FULL | _REFUSED | _BROKEN:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return EnvironmentProblem(f"{where}{error.strerror}", _way_out(error))


def _way_out(error: OSError) -> str:
    if error.errno in _FULL:
        return "Free some space, then give the same command again: what was finished is kept."
    if error.errno in _NO_FOLDER:
        return "A file stands where a folder is needed: choose another folder with --run-dir."
    if error.errno in _REFUSED:
        return "Make the folder writable, or choose another with --run-dir."
    return "Look at the disk, then give the same command again."


def write_bytes(path: Path, content: bytes | memoryview, synced: bool = True) -> None:
    """Write a file whole: temporary name, flush, rename. Nothing half-written is left behind.

    `synced`: it is on the disk when this returns; without it the caller sees to that.

    Raises:
        EnvironmentProblem: the disk is full, or the folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; NaN and infinities become null."""
    write_bytes(path, (json.dumps(finite(value), indent=2, allow_nan=False) + "\n").encode())


def csv_bytes(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a CSV file of rows under the given columns; None is an empty cell, floats keep every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([cell(key) for key in columns])
    writer.writerows([["" if row.get(key) is None else cell(row[key]) for key in columns] for row in rows])
    return text.getvalue().encode()


def read_json(path: Path, of: type = dict, hint: str = "") -> Any:
    """Read a JSON artifact, an object or (`of = list`) a list.

    Raises:
        InputError: it is missing, broken, or of another kind; the message names it.
    """
    hint = hint or f"Run {path.parent.name} again with --fresh."
    try:
        value = parse_json(read_regular(path))
        check_levels(value)
    except FileNotFoundError:
        raise InputError(f"{path}: missing", hint) from None
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{path}: not readable as JSON ({clipped(reason, 200)})", hint) from None
    if not isinstance(value, of):
        raise InputError(f"{path}: not what tuner wrote (a {type(value).__name__}, not a {of.__name__})", hint)
    return value


def read_stored_result(path: Path) -> dict[str, Any]:
    """Read a stage's `result.json` as it is stored; `tuner.stages.read_result` gives it types.

    Raises:
        InputError: as `read_json`, and where a key is missing, or its value of another kind.
    """
    return _with_keys(path, RESULT_KINDS)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a stage's `recipe.json`; it raises as `read_result`."""
    return _with_keys(path, {"name": str})


def _with_keys(path: Path, kinds: Mapping[str, type], hint: str = "") -> dict[str, Any]:
    value = read_json(path, hint=hint)
    if wrong := kind_problem(value, kinds):
        hint = hint or f"Run {path.parent.name} again with --fresh."
        raise InputError(f"{path}: not what tuner wrote ({wrong})", hint)
    return value


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class StageDir:
    """The folder of one stage in a run."""

    path: Path

    @property
    def label(self) -> str:
        return self.path.name

    @property
    def result_path(self) -> Path:
        return self.path / "result.json"

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def plan_path(self) -> Path:
        """What a search with a budget has planned: written before its first trial."""
        return self.path / "plan.json"

    @property
    def trials_path(self) -> Path:
        return self.path / "trials.jsonl"

    @property
    def plots_path(self) -> Path:
        """The folder of the plots, which appears whole when the last of them is drawn."""
        return self.path / "plots"

    def checkpoint(self, trial_id: str) -> Path:
        return self.path / "checkpoints" / f"{trial_id}.pt"

    def so_far(self, trial_id: str) -> Path:
        """Return where the best weights of a trial lie that is still training."""
        return self.path / "checkpoints" / f"{trial_id}.so-far.pt"

    def state(self, trial_id: str) -> Path:
        """Return where an unfinished trial's state lies."""
        return self.path / "checkpoints" / f"{trial_id}.state.pt"

    def begin(self, recipe: Mapping[str, Any]) -> None:
        """Mark the stage as unfinished (no manifest, result, plots) and note the recipe it is run with."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.manifest_path.unlink(missing_ok=True)
            self.result_path.unlink(missing_ok=True)
            shutil.rmtree(self.plots_path, ignore_errors=True)
        write_json(self.path / "recipe.json", recipe)

    def append(self, record: Record) -> None:
        """Add a finished work item: its curve first, then its line, flushed to the disk."""
        write_curve(self.path / "curves" / f"{record.result.id}.csv", record)
        line = json.dumps(record.to_json(), allow_nan=False) + "\n"
        with writing(self.trials_path):
            drop_torn_line(self.trials_path)
            with open(self.trials_path, "ab") as file:
                start = file.tell()
                try:
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.trials_path, start)
                    raise

    def records(self) -> list[Record]:
        """Return the finished work items; a torn last line (the writer was killed) is dropped.

        Raises:
            InputError: the file cannot be read, or a line in the middle is not what tuner wrote.
        """
        if not os.path.lexists(self.trials_path):
            return []
        known: dict[str, Any] = {}

        def shared(value: Any) -> Any:
            """Return a table that equals `value`: one for all trials, of which there may be many thousands."""
            return known.setdefault(repr(value), value)

        records: list[Record] = []
        try:
            with open_regular(self.trials_path) as file:
                records += (read_record(parse_json(line), shared) for line in file if line.endswith(b"\n"))
        except OSError as error:
            hint = f"Put the file back, or start the stage over with --fresh ({self.label})."
            raise InputError(f"{self.trials_path}: cannot be read ({error.strerror or error})", hint) from None
        except ValueError as error:
            raise InputError(
                f"{self.trials_path}:{len(records) + 1}: not a finished trial ({clipped(str(error), 200)})",
                f"The file was changed by hand or damaged; start the stage over with --fresh ({self.label}).",
            ) from None
        return records

    def rewrite(self, records: Sequence[Record]) -> None:
        """Write trials.jsonl, trials.csv and the curves of exactly these records, by number.

        Curves were written when their trials ended: only those that differ are written again, and synced together.
        """
        ordered = sorted(records, key=lambda record: record.order)
        lines = [json.dumps(record.to_json(), allow_nan=False) + "\n" for record in ordered]
        write_bytes(self.trials_path, "".join(lines).encode())
        last = last_of_each(ordered)
        changed = [write_curve(self.path / "curves" / f"{record.result.id}.csv", record, False) for record in last]
        if any(changed) and hasattr(os, "sync"):
            os.sync()
        kept = {record.result.id for record in last}
        for path in (self.path / "curves").glob("*.csv"):
            if path.stem not in kept:
                path.unlink()
        rows = trial_rows(ordered)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        write_bytes(self.path / "trials.csv", csv_bytes(columns, rows))

    def keep_checkpoints(self, trial_ids: set[str]) -> None:
        """Delete the weights of every trial but these."""
        kept = {f"{trial_id}.pt" for trial_id in trial_ids}
        for path in (self.path / "checkpoints").glob("*"):
            if path.name not in kept:  # states and what a killed writer left as well
                path.unlink(missing_ok=True)


def drop_torn_line(path: Path) -> None:
    """Cut off what follows the last newline: a line whose writer was killed."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def write_curve(path: Path, record: Record, synced: bool = True) -> bool:
    """Write a trial's curve (step, epoch, split, metrics) unless it is there already; return whether it wrote."""
    rows = record.result.curve
    metrics = dict.fromkeys(key for row in rows for key in row if key not in CURVE_KEYS)
    content = csv_bytes([*CURVE_KEYS, *metrics], rows)
    with contextlib.suppress(OSError):
        if read_regular(path) == content:
            return False
    write_bytes(path, content, synced)
    return True


def trial_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the rows of trials.csv, one per trial; one that went on after a rung took the time of all its parts."""
    records = list(records)
    cost: dict[str, float] = {}
    for record in records:
        cost[record.result.id] = cost.get(record.result.id, 0.0) + record.result.wall_seconds
    return [trial_row(record) | {"wall_seconds": cost[record.result.id]} for record in last_of_each(records)]


def trial_row(record: Record) -> dict[str, Any]:
    """Return a trial's row of trials.csv: parameters, status, score, last and best metrics, cost."""
    result = record.result
    row: dict[str, Any] = {"number": record.number, "trial": result.id, "seed": record.item.spec.seed}
    row |= {
        key: value if not isinstance(value, (dict, list)) else json.dumps(value) for key, value in record.params.items()
    }
    row |= {"status": result.status, "score": record.measured_score, "best_epoch": result.best_epoch}
    row["epochs"] = max((entry["epoch"] for entry in result.curve), default=0)
    for split in ("train", "train_eval", "val"):
        rows = record.rows(split)
        ends = {"final": rows[-1] if rows else None, "best": record.best_row(split)}
        for when, entry in ends.items():
            for metric in ("loss", "accuracy"):
                row[f"{when}_{split}_{metric}"] = entry.get(metric) if entry else None
    row["error"] = f"{result.error.kind}: {result.error.line}" if result.error else None
    return row | {"wall_seconds": result.wall_seconds, "peak_memory_bytes": result.peak_memory_bytes}


@dataclass(frozen=True)
class RunDir:
    """The folder of one run."""

    path: Path

    def stage(self, label: str) -> StageDir:
        return StageDir(self.path / label)

    @property
    def winner_path(self) -> Path:
        return self.path / "winner.json"

    def winner(self) -> dict[str, Any]:
        """Return `winner.json`: {round, trial, checkpoint, params}; it raises as `read_result`."""
        return _with_keys(self.winner_path, WINNER_KINDS, "Have it written again: tuner fine RECIPE --fresh")

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Hold the run: one writer at a time. The lock dies with its process; what killed ones left half-written goes.

        Raises:
            InputError: another process holds it; the message names that process.
        """
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        words = f"process {os.getpid()} on {socket.gethostname()} since {started}: {command}\n"
        with contextlib.ExitStack() as held:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                refuse_links(self.path)
                try:
                    held.enter_context(hold(self.path / "lock", words))
                except Held as error:
                    raise InputError(
                        f"{self.path} is in use by {clipped(error.holder, 200)}",
                        "Wait for it or stop it, or give this command its own folder with --run-dir.",
                    ) from None
                for left in filter(Path.is_file, self.path.rglob(".*.tmp")):
                    left.unlink(missing_ok=True)
            yield
