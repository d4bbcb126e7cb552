"""The pages name commands, options, keys, codes, files and modules that are there. Nothing is run, no torch loaded."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer.main

from tuner.checks.engine import all_rules
from tuner.cli.app import build_app
from tuner.recipe.cards import cards, kinds
from tuner.recipe.model import Recipe
from tuner.recipe.registry import KINDS
from tuner.stages import checklist, settings_models
from tuner.view.reference import _is_table

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "ARCHITECTURE.md"]
MADE = ("codes.md", "parts.md", "recipe-keys.md")  # by `make docs`, as those in docs/checks are
WRITTEN = [page for page in PAGES if page.name not in MADE and page.parent.name != "checks"]
OTHERS = {"--logdir", "--small", "--head", "--name-only", "--only", "--help", "--version", "--cases"}
KEY = re.compile(r"(\w+)\.([a-z_0-9]+)")


def spans(page):
    """The code of a page: inline, and each line of its fenced blocks that is a command."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    plain = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    return re.findall(r"`([^`\n]+)`", plain), [line for line in lines if re.match(r"(srun )?tuner ", line)]


@cache
def options(command):
    """The options of a command, as its --help lists them."""
    found = typer.main.get_command(build_app([command])).commands
    return {name for parameter in found[command].params for name in (*parameter.opts, *parameter.secondary_opts)}


COMMANDS = set(typer.main.get_command(build_app([])).commands)


def words_of(line):
    try:
        return shlex.split(line.partition("  #")[0].partition(" //")[0])
    except ValueError:
        return line.split()


def test_the_pages_name_commands_options_and_keys_in_numbers():
    inline = [text for page in WRITTEN for text in spans(page)[0]]
    lines = [line for page in WRITTEN for line in spans(page)[1]]
    of_kind = [sum(text.startswith(start) for text in inline) for start in ("tuner ", "--", "train.", "data.")]
    assert len(WRITTEN) >= 18 and len(lines) >= 15 and min(of_kind) >= 3, (len(WRITTEN), len(lines), of_kind)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_every_command_of_a_page_has_the_options_that_it_is_given(page):
    inline, lines = spans(page)
    for line in [*[text for text in inline if text.startswith("tuner ")], *lines]:
        words = words_of(line.removeprefix("srun "))
        names = set(checklist.NAMES) if words[1] == "STAGE" else {words[1]}
        if words[1].startswith("-"):
            continue
        assert names <= COMMANDS, line
        for word in words[2:]:
            option = re.match(r"--[a-z-]+", word.strip("[]"))
            assert option is None or all(option[0] in {*options(name), "--help"} for name in names), (line, word)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_every_option_that_a_page_names_is_one_of_some_command(page):
    known = set.union(*map(options, COMMANDS)) | OTHERS
    for text in spans(page)[0]:
        if text.startswith("--"):
            assert re.match(r"--[a-z-]+", text)[0] in known, text


@cache
def keys():
    """Every dotted key of a recipe: of its tables, of the stages' settings, and of the parts that a table can name."""
    found = {f"{table}.{key}" for table, info in Recipe.model_fields.items() for key in _fields(info)}
    found |= {f"stages.{name}" for name in settings_models()}
    for kind in kinds():
        for card in cards(kind):
            table = card.key.partition(".")[0]
            found |= {f"{table}.{argument.name}" for argument in card.arguments} | {card.key}
    return found


def _fields(info):
    model = _is_table(info.annotation)
    return [] if model is None else model.model_fields


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.parent.name == "docs"], ids=lambda page: page.stem)
def test_every_key_that_a_page_names_is_one_of_a_recipe(page):
    for text in spans(page)[0]:
        found = KEY.match(text)
        if found and found[1] in Recipe.model_fields and not re.search(r"\.(py|toml|json|md|csv|pt)\b", text):
            assert found[0] in keys(), text


def test_the_page_of_hooks_has_every_kind_of_component_that_a_file_can_give():
    text = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    named = {kind: key for kind, (key, _) in KINDS.items() if kind not in ("probe", "regulariser")}  # only ours
    assert len(named) > 15 and [key for key in named.values() if f"`{key}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_code_file_module_and_link_of_a_page_is_there(page):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"\b(?:IN|DA|OV|LR|CO|FI|CU|TE)\d{3}\b", text):
        assert code in all_rules(), code
    for name in re.findall(r"\brecipes/[\w/]+\.toml", text):
        assert (ROOT / name).is_file(), name
    for module in re.findall(r"python -m ([\w.]+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() or module in ("venv", "pip"), (
            module
        )
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
