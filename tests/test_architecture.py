"""The layout's promises, from the ASTs and from fresh interpreters: who imports whom, and what is never loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tuner"
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "optuna", "sklearn", "scipy")

# package -> the packages of tuner that it may import (at any depth of its code)
LAYERS = {
    "core": {"errors", "core"},
    "rules": {"errors", "core", "rules"},
    "search": {"errors", "core", "search"},
    "stages": {"errors", "core", "search", "rules", "stages", "checklist"},
    "parts": {"errors", "core", "parts", "registry", "usermodules"},
    "train": {"errors", "core", "parts", "train", "registry"},
    "execute": {"errors", "core", "execute", "train"},
    "view": {"errors", "core", "view"},
    "registry": {"errors", "core", "parts", "usermodules"},
    "usermodules": {"errors"},
}
TORCHLESS = (
    "core",
    "rules",
    "search",
    "stages",
    "view",
    "workflow",
    "cli",
    "exits",
    "failures",
    "interrupts",
    "pipes",
    "reporter",
    "rounds",
    "overview",
    "registry",
    "recipes",
    "session",
    "artifacts",
    "attempts",
    "budgets",
    "dryrun",
    "study",
)


def package(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


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


def test_the_walk_sees_the_whole_package():
    assert len(FILES) > 50
    assert set(LAYERS) <= {package(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    allowed = LAYERS.get(package(path))
    used = {name.split(".")[1] for name in imports(ast.parse(path.read_text())) if name.startswith("tuner.")}
    if allowed is not None:
        assert used <= allowed, f"{path} imports {used - allowed}"
    if package(path) != "cli":
        assert not any(name.split(".")[0] in ("typer", "click") for name in imports(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "path", [p for p in FILES if package(p) in TORCHLESS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_heavy_packages_are_not_imported_with_the_module(path):
    names = {name.split(".")[0] for name in imports(module_level(ast.parse(path.read_text())))}
    assert not names & set(HEAVY)


@pytest.mark.parametrize(
    "path", [p for p in FILES if package(p) in ("core", "rules", "search", "stages", "view")], ids=str
)
def test_deciding_and_drawing_never_import_torch(path):
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert not names & {"torch", "torchvision"}


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
        "from tuner.cli import main\n"
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
