"""`tuner.run`: the whole checklist from Python, as the command does it, from a recipe or from tables and functions."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import UsageError, did_you_mean
from tuner.core.result import TrialResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import write_bytes
from tuner.core.trial import Progress
from tuner.recipe.file import load_recipe
from tuner.recipe.model import NAME_PATTERN
from tuner.recipe.templates import NAME_HINT, find_recipe
from tuner.stages import checklist
from tuner.view.progress import Epochs
from tuner.workflow.accepted_codes import check_codes
from tuner.workflow.engine import Workflow
from tuner.workflow.options import GIVEN, Options
from tuner.workflow.run_folder import Run

MADE = "# Made by tuner.run from Python; the next call writes it again.\n"
FUNCTIONS = {"model": ("model", "name"), "data": ("data", "source"), "loss": ("loss", "name")}


class Quiet:
    """Hears of trials, and says nothing: what happened is in the run."""

    def start(self, title: str, total: int, done: int, epochs: Epochs | None = None) -> None: ...

    def update(self, progress: Progress) -> None: ...

    def finish(self, result: TrialResult, number: int | None = None) -> None: ...

    def stop(self) -> None: ...

    def note(self, text: str) -> None: ...


def run(
    recipe: str | Path | Mapping[str, Any],
    *,
    model: Callable[..., Any] | None = None,
    data: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    set: str | Sequence[str] = (),
    budget: str | None = None,
    rounds: int = 0,
    test: bool = False,
    **options: Any,
) -> Run:
    """Carry out the checklist, from where it stopped, and return the run; `test` looks at the test split at the end.

    `recipe`: the path or the name of one, or its tables as a dictionary, which are written beside the functions as
    <name>.toml. `model`, `data`, `loss`: functions (or a loss class) that stand for the recipe's names: each is
    imported from its file in the worker processes, so it must stand in one. `set`: texts as of `--set`, "key=value".
    `options`: as of the command: run_dir, workers, engine, address, device, trials_per_device, stack, deadline, seed,
    force, fresh, allow_stale.

    Raises:
        UsageError: the recipe, a function that stands in no file, an option that is unknown or contradicts another.
        TunerError: what the command would end with.
    """
    given = {"model": model, "data": data, "loss": loss}
    functions = {table: fn for table, fn in given.items() if fn is not None}
    if rounds < 0:
        raise UsageError(f"rounds: must be 0 or more (got {rounds})", "0 runs the checklist once.")
    path, named = _recipe(recipe, functions)
    chosen = Options(assignments=[*named, *([set] if isinstance(set, str) else set)], **_known(options)).checked()
    loaded = load_recipe(path, chosen.assignments, chosen.seed, settings=stages.settings_models())
    check_codes(path, loaded)
    workflow = Workflow(path, loaded, chosen, Quiet())
    try:
        with workflow.locked():
            passed = workflow.run_all(list(checklist.BEFORE_TEST), _nothing, budget, test)
            if passed and rounds:
                workflow.run_rounds(rounds, _nothing, _nothing)
            if passed and test:
                workflow.run_stage(StageRef(stages.only("on_test_split")))
    finally:
        workflow.close()
    return Run(workflow.run.path)


def _nothing(*_: Any) -> None:
    """Show nothing."""


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in GIVEN:
            close = did_you_mean(name, GIVEN)
            raise UsageError(f"tuner.run: unknown option {name!r}{close}", f"One of: {', '.join(GIVEN)}.")
    found = dict(options)
    if found.get("run_dir") is not None:
        found["run_dir"] = Path(found["run_dir"])
    return found


def _recipe(
    recipe: str | Path | Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> tuple[Path, list[str]]:
    """Return the recipe's path, and what names the functions in it, as texts of `--set`."""
    if isinstance(recipe, (str, Path)):
        path = find_recipe(str(recipe))
        named = {table: _named(fn, path.parent) for table, fn in functions.items()}
        return path, [f'{".".join(FUNCTIONS[table])}="{name}"' for table, name in named.items()]
    folders = {_file_of(fn).parent for fn in functions.values()}
    if len(folders) > 1:
        raise UsageError(
            f"tuner.run: the functions stand in several folders: {', '.join(map(str, sorted(folders)))}",
            "Import them in one file, and give that file's names.",
        )
    folder = next(iter(folders), Path.cwd())
    tables = copy.deepcopy({key: dict(v) if isinstance(v, Mapping) else v for key, v in recipe.items()})
    for table, fn in functions.items():
        table_name, key = FUNCTIONS[table]
        tables.setdefault(table_name, {})[key] = _named(fn, folder)
    name = tables.get("name", "run")
    if not re.match(NAME_PATTERN, str(name)):
        raise UsageError(f"tuner.run: {name!r} cannot name a recipe", NAME_HINT)
    return _written(tables, folder / f"{name}.toml"), []


def _written(tables: Mapping[str, Any], path: Path) -> Path:
    """Write the tables as a recipe beside the functions, so that every command works on the run as well.

    Raises:
        UsageError: another recipe is there already; a value that cannot stand in a recipe.
    """
    import tomlkit

    try:
        text = MADE + tomlkit.dumps(tables)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"tuner.run: the tables cannot be a recipe: {error}", "Give functions as model=, data= and loss=."
        ) from error
    if path.is_file() and not path.read_text(encoding="utf-8").startswith(MADE):
        raise UsageError(f"tuner.run: {path} is there, and was not made from Python", "Give the tables another name.")
    write_bytes(path, text.encode())
    return path


def _named(fn: Callable[..., Any], folder: Path) -> str:
    """Return a function as a recipe names it: file.py:name, the file relative to the recipe's folder."""
    file = _file_of(fn)
    shown = file.relative_to(folder) if file.is_relative_to(folder) else file
    return f"{shown.as_posix()}:{fn.__name__}"


def _file_of(fn: Callable[..., Any]) -> Path:
    """Return the file that a function stands in.

    Raises:
        UsageError: it stands in none, or inside another function.
    """
    name = getattr(fn, "__qualname__", type(fn).__name__)
    try:
        file = Path(inspect.getsourcefile(fn) or "")
    except TypeError:
        file = Path("")
    if not file.is_file() or "." in name or "<" in name:
        raise UsageError(
            f"tuner.run: {name} stands in no file that workers can import",
            "Write it at the top level of a .py file and import it; in a notebook: %%writefile my_model.py.",
        )
    return file.resolve()
