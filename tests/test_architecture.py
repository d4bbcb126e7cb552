"""The layout's promises, from the ASTs and from fresh interpreters: who imports whom, and what is never loaded."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tuner"
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "optuna", "sklearn", "scipy")

# room -> the rooms of tuner that it may import, at any depth of its code. Every module is in a room.
ROOMS = {
    "core": set(),
    "recipe": {"core"},
    "checks": {"core"},
    "tasks": {"core"},
    "search": {"core", "recipe"},
    "stages": {"core", "recipe", "checks", "tasks", "search"},
    "parts": {"core", "recipe"},
    "train": {"core", "recipe", "tasks", "parts"},
    "measures": {"core", "recipe", "tasks", "parts", "train", "checks"},
    "execute": {"core", "train"},
    "view": {"core"},
    "workflow": {"core", "recipe", "checks", "search", "stages", "execute", "view"},
    "api": {"core", "recipe", "tasks", "checks", "search", "stages", "parts", "train", "view", "workflow"},
    "cli": {"core", "recipe", "checks", "stages", "view", "workflow", "api"},
}
FRONT_DOORS = {"__init__.py": {"api", "workflow"}, "__main__.py": {"cli"}}
# names of modules in strings, loaded when they are asked for: these are the only ones, and where they stand
BY_NAME = {
    ("recipe", "parts"): {"recipe/registry.py"},
    ("recipe", "checks"): {"recipe/registry.py"},
}
TORCHLESS = ("core", "recipe", "checks", "search", "stages", "view", "workflow", "cli")

MOST_PARAMETERS = 6
# functions of more parameters outside cli, where options are parameters; ARCHITECTURE.md gives the reason of each
LONG_SIGNATURES = {
    ("parts/datasets.py", "table"),
    ("api/checking.py", "check"),
    ("api/running.py", "run"),
    ("checks/cards.py", "rule"),
    ("parts/augment/basic.py", "color_jitter"),
    ("parts/augment/geometry.py", "affine"),
    ("parts/models.py", "convnet"),
    ("parts/optimizers/own.py", "muon"),
    ("search/tpe.py", "ask"),
}

TYPED = {"setup", "recipe", "result", "results", "card", "optimizer", "schedule", "finding", "record", "env"}


def room(path):
    """Return a module's room; what of checks/ measures, with torch and in workers only, is a room of its own."""
    parts = path.relative_to(ROOT).parts
    return "measures" if parts[0] == "checks" and ("tools" in parts or parts[-1] == "measure.py") else parts[0]


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            if node.module == "tuner":
                yield from (f"tuner.{alias.name}" for alias in node.names)


def module_level(tree):
    """The tree without the bodies of functions, and without what is for type checkers alone."""
    kept = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    kept += [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for node in kept:
        node.body = []
    return tree


def rooms_of(names):
    return {room_of_module(name) for name in names if name.startswith("tuner.")}


def room_of_module(name):
    parts = name.split(".")
    return "measures" if parts[1] == "checks" and ("tools" in parts or "measure" in parts) else parts[1]


def test_every_module_has_a_room():
    assert len(FILES) > 150
    assert {room(path) for path in FILES} == {*ROOMS, *FRONT_DOORS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    tree = ast.parse(path.read_text())
    own = room(path)
    allowed = FRONT_DOORS[own] if own in FRONT_DOORS else {own, *ROOMS[own]}
    modules = [
        name
        for name in imports(tree)
        if (ROOT.parent / name.replace(".", "/")).with_suffix(".py").exists()
        or (ROOT.parent / name.replace(".", "/")).is_dir()
    ]
    assert rooms_of(modules) <= allowed
    if own != "cli":
        assert not any(name.split(".")[0] in ("typer", "click") for name in imports(tree))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_named_in_strings_are_known(path):
    strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    named = rooms_of(text for text in strings if isinstance(text, str) and re.fullmatch(r"tuner(\.\w+)+", text))
    for other in named - {room(path)}:
        assert str(path.relative_to(ROOT)) in BY_NAME.get((room(path), other), ())


def test_no_room_imports_up_through_another():
    order = list(ROOMS)
    for name, allowed in ROOMS.items():
        assert all(order.index(other) < order.index(name) for other in allowed), name


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "stages"], ids=lambda path: path.name)
def test_no_stage_imports_another(path):
    stages = {p.stem for p in FILES if room(p) == "stages"} - {"__init__", "checklist", "base"}
    used = {name.split(".")[2] for name in imports(ast.parse(path.read_text())) if name.startswith("tuner.stages.")}
    used |= {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "tuner.stages"
        for alias in node.names
    }
    assert not used & stages - {path.stem}


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) in TORCHLESS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_heavy_packages_are_not_imported_with_the_module(path):
    names = {name.split(".")[0] for name in imports(module_level(ast.parse(path.read_text())))}
    assert not names & set(HEAVY)


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) in ("core", "checks", "tasks", "search", "stages", "view")], ids=str
)
def test_deciding_and_drawing_never_import_torch(path):
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert not names & {"torch", "torchvision"}


def parameters(function):
    found = function.args
    named = [item.arg for item in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(found.vararg) + bool(found.kwarg)


def test_functions_of_more_than_six_parameters_are_those_that_the_architecture_page_explains():
    long = {
        (str(path.relative_to(ROOT)), node.name)
        for path in FILES
        if room(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and parameters(node) > MOST_PARAMETERS
    }
    assert long == LONG_SIGNATURES
    page = (ROOT.parent / "ARCHITECTURE.md").read_text()
    section = page[page.index("more than six parameters") :]
    assert [name for _, name in LONG_SIGNATURES if f"`{name}`" not in section] == []


def test_what_has_an_obvious_type_is_not_taken_as_anything():
    loose = {
        (str(path.relative_to(ROOT)), node.name, item.arg)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for item in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if item.arg in TYPED and item.annotation is not None and ast.unparse(item.annotation) == "Any"
    }
    assert loose == set()


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        (["--help"], HEAVY),
        (["coarse", "--help"], HEAVY),
        (["status"], ("torch", "torchvision")),
        (["explain", "LR301"], ("torch", "torchvision")),
    ],
)
def test_a_command_loads_no_more_than_it_needs(arguments, banned, tmp_path):
    code = (
        "import sys; sys.argv = ['tuner', *sys.argv[1:]]\n"
        "from tuner.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {banned!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout[-500:] + done.stderr[-500:]


def test_python_m_tuner_works(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "tuner")
