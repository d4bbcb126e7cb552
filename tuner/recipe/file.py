"""Reading a recipe: one TOML file, overridden and checked; every problem is reported at once, with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tuner.core.errors import UsageError, did_you_mean
from tuner.core.formatting import clipped, shown
from tuner.core.trial import TABLES, apply_overrides
from tuner.recipe.cards import default_range
from tuner.recipe.model import PATH_KEYS, Recipe, expand_path
from tuner.recipe.space import RATE, extremes, parse_space, space_of
from tuner.recipe.values import value_problems

MAX_FILE_BYTES = 1 << 22  # a recipe of 4 MB is another file given by mistake


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a syntax error becomes a UsageError that names file and line."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UsageError(f"{path}: no recipe: it has {size:,} bytes", "Give the path of a TOML text file.")
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such recipe", "Give the path of a .toml file, or `tuner new` to write one."
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x} is not UTF-8 text"
        raise UsageError(f"{path}:{line}: not valid TOML: {found}", "Save the file as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot read the recipe ({error})", "Give the path of a TOML text file.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place, cited = str(path), ""
        if line_found := re.search(r"line (\d+)", str(error)):
            number = int(line_found.group(1))
            place, cited = f"{path}:{number}", f": {clipped(text.splitlines()[number - 1].strip(), 120)}"
        raise UsageError(
            f"{place}: not valid TOML: {clipped(str(error), 200)}{cited}", "Strings need quotes; tables are [name]."
        ) from None
    except (ValueError, RecursionError) as error:
        number = _line_without_end(text)
        raise UsageError(f"{path}:{number}: cannot be read: {_endless(error)}", "Shorten that value.") from None


def _endless(error: Exception) -> str:
    nested = isinstance(error, RecursionError)
    return "lists and tables nested without end" if nested else "a number of thousands of digits"


def _line_without_end(text: str) -> int:
    """Return the line (from 1) of the longest number, or the one with the most brackets: what no parser reads."""
    lines = text.splitlines()
    weight = [
        max(map(len, re.findall(r"\d{1000,}", line)), default=0) + line.count("[") + line.count("{") for line in lines
    ]
    return weight.index(max(weight)) + 1


BARE = re.compile(r"([^\W\d]|[/~$]|\.\.?[/\\])[\w.:/\\~${}-]*")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `optimizer.lr=1e-3` into a dotted key and a TOML value; a bare word or path is taken as a string.

    Quotes in the key, as TOML has them around the keys of `[search]`, may be there or not.
    """
    key, equals, raw = text.partition("=")
    key = re.sub("[\"']", "", key).strip()
    if not equals or not all(key.split(".")):
        raise UsageError(
            f"--set {clipped(text, 80)}: expected key=value (got {shown(text)})", "Example: --set optimizer.lr=1e-3"
        )
    try:
        parsed = tomllib.loads(f"value = {raw.strip()}")
        if len(parsed) == 1:
            return key, parsed["value"]
    except tomllib.TOMLDecodeError:
        if BARE.fullmatch(raw.strip()):
            return key, raw.strip()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--set {clipped(text, 80)}: cannot be read: {_endless(error)}", "Shorten it.") from None
    raise UsageError(
        f"--set {clipped(text, 80)}: {shown(raw.strip())} is not a TOML value",
        "Numbers begin with a digit: 0.001, 1e-3. Text other than a word or a path needs quotes: --set name='\"a b\"'",
    )


def overrides_of(texts: Sequence[str], seed: int | None = None) -> dict[str, Any]:
    """Return {dotted key: value} of what the command line overrides: `key=value` texts, and the seed."""
    return dict(map(parse_assignment, texts)) | ({} if seed is None else {"seed": seed})


def path_of(key: str) -> list[str]:
    """Return the keys, from table to table, that lead to a dotted key; those of `[search]` are dotted themselves."""
    table, dot, searched = key.partition(".")
    return [table, searched] if dot and table == "search" else key.split(".")


FIX = "Fix the recipe, or override a key with --set key=value."
MAX_PROBLEMS = 20  # that are listed at once

SettingsModels = Mapping[str, type[BaseModel]]


def load_recipe(
    path: Path, overrides: Sequence[str] = (), seed: int | None = None, *, settings: SettingsModels
) -> Recipe:
    """Read, override (`key=value` texts) and check a recipe; `settings`: {stage: model of its `[stages]` table}.

    Raises:
        UsageError: every problem at once, as `file:line: key: what is wrong (got ...)`.
    """
    raw = read_toml(path)
    changes = overrides_of(overrides, seed)
    flags = frozenset(changes)
    raw = _with_default_ranges(raw)
    places = Places(path, key_lines(path), flags, seed_given=seed is not None)
    _only_plain_values({**raw, **changes}, places)
    search = {key: changes.pop(key) for key in list(changes) if key.startswith("search.")}
    try:
        raw = apply_overrides(raw, changes)
    except (AttributeError, TypeError):
        raise UsageError(
            f"--set {clipped(', '.join(changes), 80)}: a key leads through a value that is no table", "Check the dots."
        ) from None
    for key, value in search.items():
        if isinstance(raw.setdefault("search", {}), dict):
            raw["search"][path_of(key)[-1]] = value
    return _check_recipe(raw, places, settings)


def _only_plain_values(raw: Mapping[str, Any], places: Places) -> None:
    """Refuse what cannot be a value at all, before anything copies, compares or prints it."""
    if problems := value_problems(raw):
        lines = dict.fromkeys(f"{places.of(key)}: {key}: {text}" for key, text in problems[:MAX_PROBLEMS])
        raise UsageError("\n".join(lines), FIX)


def _with_default_ranges(raw: dict[str, Any]) -> dict[str, Any]:
    """Put the range of a part's card in the place of "auto" in `[search]`; the rate's is lr-sweep's."""
    search = raw.get("search")
    if not isinstance(search, Mapping):
        return raw
    ranges = {key: default_range(key, raw) for key, value in search.items() if value == "auto" and key != RATE}
    return {**raw, "search": {key: ranges.get(key) or value for key, value in search.items()}}


def _check_recipe(raw: Mapping[str, Any], places: Places, settings: SettingsModels) -> Recipe:
    problems: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(item, places) for item in error.errors()]
    problems += _unset_variables(raw.get("data"), places)
    problems += _check_stages(raw.get("stages", {}), places, settings)
    problems += _check_search(raw.get("search", {}), places)
    problems += _check_searched_values(recipe, places) if recipe is not None and not problems else []
    if recipe is not None and not problems:
        return recipe
    listed = list(dict.fromkeys(problems))
    more = [f"... and {len(listed) - MAX_PROBLEMS} more"] if len(listed) > MAX_PROBLEMS else []
    raise UsageError("\n".join([*listed[:MAX_PROBLEMS], *more]), FIX)


@dataclass(frozen=True)
class Places:
    """Where a key was given: on the command line, or in a line of the recipe."""

    path: Path
    lines: Mapping[str, int]
    from_flags: frozenset[str] = frozenset()
    seed_given: bool = False

    def of(self, dotted: str) -> str:
        flagged = any(f"{dotted}.".startswith(f"{flag}.") or flag.startswith(f"{dotted}.") for flag in self.from_flags)
        inside = dotted in self.from_flags or dotted not in self.lines
        if flagged and inside:
            return "--seed" if dotted == "seed" and self.seed_given else "--set"
        return place_of(dotted, self.path, self.lines)


def key_lines(path: Path) -> dict[str, int]:
    """Return the line (from 1) of every key and table of a TOML file, by dotted name."""
    lines: dict[str, int] = {}
    table = ""
    if not path.exists():
        return lines
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            table = header.group(1).replace('"', "")
            lines.setdefault(table, number)
        elif entry := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|[\w-]+))*)\s*=""", line):
            key = entry.group(1).replace('"', "").replace("'", "").replace(" ", "")
            lines.setdefault(f"{table}.{key}" if table else key, number)
    return lines


def place_of(dotted: str, path: Path, lines: Mapping[str, int]) -> str:
    """Return `file:line` of a key, of its nearest table, or the file alone."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if (line := lines.get(".".join(parts[:end]))) is not None:
            return f"{path}:{line}"
    return str(path)


def _problem(item: Any, places: Places) -> str:
    location = [str(part) for part in item["loc"] if not str(part).startswith(("str", "dict["))]
    dotted = clipped(".".join(location), 100)
    place = places.of(dotted)
    if item["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        return f"{place}: {dotted}: unknown key{did_you_mean(location[-1], known)} (known: {', '.join(known)})"
    if item["type"] == "missing":
        what = "table" if dotted in TABLES else "key"
        return f"{place}: {dotted}: this {what} is missing"
    if not dotted:  # of tables that do not fit each other, which the text names
        return f"{place}: {_words(item, dotted)}"
    return f"{place}: {dotted}: {_words(item, dotted)} (got {shown(item['input'])})"


def _words(item: Any, dotted: str) -> str:
    """Say a problem of pydantic's in the words of a recipe."""
    if item["type"] in ("dict_type", "model_type") and dotted.startswith("data.augment."):
        return 'must be a name, or a table with a name: { name = "random_crop", padding = 4 }'
    if item["type"] == "string_type" and dotted.startswith("data.augment."):
        return 'must be a name, or a table with a name: { name = "random_crop", padding = 4 }'
    if item["type"] in ("dict_type", "model_type"):
        return f"must be a table: [{dotted}]"
    if dotted == "name" and item["type"] == "string_pattern_mismatch":
        return "letters, digits, '.', '_' and '-' only, and a letter or digit first: it names a folder"
    text = item["msg"].removeprefix("Value error, ")
    return f"{text[0].lower()}{text[1:]}"


def _fields_at(location: Sequence[str]) -> list[str]:
    model: Any = Recipe
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _unset_variables(data: Any, places: Places) -> list[str]:
    problems = []
    for key, value in data.items() if isinstance(data, Mapping) else ():
        if key in PATH_KEYS and isinstance(value, str):
            try:
                expand_path(value, places.path.parent)
            except UsageError as error:
                problems.append(f"{places.of(f'data.{key}')}: data.{key}: {error.message}")
    return problems


def _check_stages(stages: Any, places: Places, settings: SettingsModels) -> list[str]:
    if not isinstance(stages, Mapping):
        return []
    problems = []
    for name, values in stages.items():
        if name not in settings:
            place = places.of(f"stages.{name}")
            problems.append(f"{place}: stages.{name}: unknown stage{did_you_mean(name, settings)}")
            continue
        try:
            settings[name].model_validate(values)
        except ValidationError as error:
            problems += [_stage_problem(name, item, settings[name], places) for item in error.errors()]
    return problems


def _stage_problem(name: str, item: Any, model: type[BaseModel], places: Places) -> str:
    key = ".".join(["stages", name, *(str(part) for part in item["loc"])])
    place = places.of(key)
    if item["type"] == "extra_forbidden":
        known = list(model.model_fields)
        return f"{place}: {key}: unknown key{did_you_mean(str(item['loc'][-1]), known)} (known: {', '.join(known)})"
    return f"{place}: {key}: {_words(item, key)} (got {shown(item['input'])})"


def _check_search(search: Any, places: Places) -> list[str]:
    if not isinstance(search, Mapping):
        return []
    _, problems = parse_space(search)
    return [f"{places.of(f'search.{key}')}: search.{key}: {text}" for key, text in problems]


def _leading_values(whole: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of what leads to a key, from its table on, as far as the recipe has it."""
    parts = key.split(".")
    node: Any = whole
    for end in range(1, len(parts)):
        if not isinstance(node, Mapping) or parts[end - 1] not in node:
            return
        node = node[parts[end - 1]]
        yield ".".join(parts[:end]), node


def _check_searched_values(recipe: Recipe, places: Places) -> list[str]:
    """Check the values that a search may take, its ends and choices, as if they stood in the recipe."""
    whole = recipe.model_dump()
    space = space_of(recipe.search)
    problems = [
        f"{places.of(f'search.{key}')}: search.{key}: {outer} is {shown(value)}, no table: it holds no such key"
        for key in space.keys
        for outer, value in _leading_values(whole, key)
        if not isinstance(value, Mapping)
    ]
    if problems:
        return problems
    for dimension in space.dimensions:
        for key, wanted in dimension.when.items():
            value = recipe.value(key)
            if key not in space and value not in (wanted if isinstance(wanted, list) else [wanted]):
                place = places.of(f"search.{dimension.key}")
                problems.append(
                    f"{place}: search.{dimension.key}: when: {key} is {shown(value)} in this recipe: never varied"
                )
    for key, value in extremes(space):
        table = key.partition(".")[0]
        try:
            Recipe.model_fields[table].annotation.model_validate(apply_overrides(whole, {key: value})[table])  # type: ignore[union-attr]
        except ValidationError as error:
            place = places.of(f"search.{key}")
            problems += [
                f"{place}: search.{key}: {_words(item, key)} (got {shown(value)})"
                for item in error.errors()
                if key.startswith(".".join([table, *map(str, item["loc"][:1])]))
            ]
    return problems
