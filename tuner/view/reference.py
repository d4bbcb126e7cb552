"""The page of every recipe key, made from the recipe's own model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel

LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "max_length": "at most so many characters:"}


INTRO = """\
Made from the recipe's model by `make docs`. Every key can be given as `--set table.key=value` as well; the keys of a
stage are also its command's options. A table that names a component takes its arguments as further keys.
"""


def keys_page(recipe: type[BaseModel], stages: Mapping[str, type[BaseModel]]) -> str:
    """Return `docs/recipe-keys.md`. `recipe`: the pydantic model; `stages`: {stage: its Settings}."""
    parts = [
        "# Every key of a recipe\n",
        INTRO,
        "## At the top\n",
        _table(recipe, lambda name: not _is_table(recipe.model_fields[name].annotation)),
    ]
    for name, info in recipe.model_fields.items():
        if (model := _is_table(info.annotation)) is not None:
            parts += [f"## [{name}]\n", f"{first_line(model)}\n", _table(model)]
    parts += ["## [search]\n", SEARCH]
    for stage, settings in stages.items():
        if settings.model_fields:
            parts += [f"## [stages.{stage}]\n", _table(settings)]
    return "\n".join(parts)


SEARCH = """\
What coarse and fine vary: any dotted key of the recipe, quoted.

| value | meaning |
|---|---|
| `"auto"` | for `optimizer.lr`: the band that lr-sweep found |
| `{ low = 1e-6, high = 1e-2, log = true }` | a range; `int = true` for whole numbers |
| `{ choices = [16, 32] }` | one of these |
| `{ ..., when = { "optimizer.name" = "sgd" } }` | only where another key has this value |
"""


def first_line(model: type[BaseModel]) -> str:
    """Return the first sentence of a model's docstring."""
    return (inspect.getdoc(model) or "").split("\n")[0]


def _is_table(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a key that is a table, else None."""
    members: list[Any] = [annotation, *get_args(annotation)]
    return next((item for item in members if hasattr(item, "model_fields")), None)


def _table(model: type[BaseModel], wanted: Callable[[str], bool] = lambda name: True) -> str:
    lines = ["| key | type | default | range |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        if wanted(name) and name != "args":
            cells = (f"`{name}`", _type(info.annotation), _default(info), ", ".join(_limits(info)))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    if inspect.isclass(annotation) and not get_args(annotation):
        return str(annotation.__name__)
    text = str(annotation).replace("typing.", "").replace("NoneType", "None").replace("dict[str, Any]", "table")
    text = re.sub(r"Optional\[(.*)\]$", r"\1 | None", text)
    return re.sub(r"Literal\[([^\]]*)\]", r"\1", text).replace("'", "")


def _default(info: Any) -> str:
    if info.is_required():
        return "must be given"
    value = info.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return "-" if value is None else str(value).lower()
    return f"`{value!r}`".replace("'", '"')


def _limits(info: Any) -> Iterator[str]:
    for item in info.metadata:
        for name, words in LIMITS.items():
            if (value := getattr(item, name, None)) is not None:
                yield f"{words} {value}"
        if (pattern := getattr(item, "pattern", None)) is not None:
            yield f"matches `{pattern}`"
    if info.description:
        yield info.description
