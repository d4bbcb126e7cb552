import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.core.errors import UsageError, UserCodeError
from tuner.recipe import registry
from tuner.recipe.registry import bind, call, hook, resolve


@pytest.fixture(autouse=True)
def _clean():
    yield
    registry.forget_user_modules()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_importing_the_registry_loads_no_torch():
    code = "import sys, tuner.recipe.registry; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_resolve_finds_built_ins_dotted_paths_and_files(tmp_path):
    import torch

    write(tmp_path, "mine.py", "def build():\n    return 42\n")
    assert resolve("loss", "cross_entropy", tmp_path).__module__ == "tuner.parts.losses.classification"
    assert resolve("optimizer", "torch.optim.RAdam", tmp_path) is torch.optim.RAdam
    assert resolve("model", "mine.py:build", tmp_path)() == 42


def test_a_public_function_of_the_module_is_a_built_in_and_a_private_or_imported_one_is_not(monkeypatch):
    from tuner.parts.losses import classification as losses

    def added():
        pass

    added.__module__ = losses.__name__
    monkeypatch.setattr(losses, "added", added, raising=False)
    monkeypatch.setattr(losses, "_hidden", added, raising=False)
    monkeypatch.setattr(losses, "foreign", os.path.join, raising=False)
    known = registry.built_ins("loss")
    assert known["added"] is added
    assert not {"_hidden", "foreign", "Sequence", "Tensor"} & set(known)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("model", "resnt8", r"^model\.name: unknown model 'resnt8' - did you mean 'resnet8'\? \(known: convnet, mlp, "),
        ("optimizer", "adamm", r"^optimizer\.name: unknown optimizer 'adamm' - did you mean 'adam'\?"),
        (
            "model",
            "torch.nn.Liner",
            r"^model\.name: 'torch\.nn\.Liner': torch\.nn has no 'Liner' - did you mean 'Linear'\?",
        ),
        ("model", "no_such.thing", r"^model\.name: 'no_such\.thing': there is no module 'no_such'"),
        ("model", "missing.py:build", r"^model\.name: no such file: .*missing\.py"),
        ("model", "mine.py:bild", r"^model\.name: .*mine\.py has no 'bild' - did you mean 'build'\?"),
        ("model", "mine.py:", r"^model\.name: 'mine\.py' names a file, but no function in it"),
        ("loss", "mine.py:number", r"^loss\.name: 'mine\.py:number' is not callable, it is of type int"),
        ("step", "my_step", r"^train\.step: 'my_step' names no function"),
    ],
)
def test_resolve_says_what_is_wrong_with_a_name(tmp_path, kind, name, message):
    write(tmp_path, "mine.py", "number = 3\ndef build():\n    pass\n")
    with pytest.raises(UsageError, match=message) as caught:
        resolve(kind, name, tmp_path)
    assert caught.value.hint


def test_resolve_names_the_users_line_when_their_file_raises_on_import(tmp_path):
    path = write(tmp_path, "mine.py", "x = 1\ny = x / 0\n")
    with pytest.raises(UserCodeError) as caught:
        resolve("model", "mine.py:build", tmp_path)
    assert caught.value.message.startswith(f"{path}:2: importing mine.py raised ZeroDivisionError: division by zero")
    assert "importlib" not in caught.value.message and "registry.py" not in caught.value.message
    assert "mine" not in sys.modules


def test_resolve_names_the_line_of_a_syntax_error(tmp_path):
    path = write(tmp_path, "mine.py", "x = 1\ndef build(:\n")
    with pytest.raises(UserCodeError, match=rf"{path}:2: not valid Python"):
        resolve("model", "mine.py:build", tmp_path)


def test_a_users_file_imports_its_siblings_and_is_one_module_within_a_trial(tmp_path):
    write(tmp_path, "helper_b.py", "calls = []\n")
    write(
        tmp_path, "mine.py", "import helper_b\ndef build():\n    helper_b.calls.append(1)\n    return helper_b.calls\n"
    )
    assert resolve("model", "mine.py:build", tmp_path)() == [1]
    assert resolve("model", "mine.py:build", tmp_path)() == [1, 1]
    registry.forget_user_modules()
    assert resolve("model", "mine.py:build", tmp_path)() == [1]


def test_a_file_in_a_subfolder_imports_from_the_recipes_folder(tmp_path):
    write(tmp_path, "helper_c.py", "value = 7\n")
    write(tmp_path, "sub/mine.py", "from helper_c import value\ndef build():\n    return value\n")
    assert resolve("model", "sub/mine.py:build", tmp_path)() == 7


@pytest.mark.parametrize("changed", ["mine.py", "helper_d.py"])
def test_a_changed_file_is_imported_again_even_when_its_size_and_second_are_the_same(tmp_path, changed):
    write(tmp_path, "helper_d.py", "value = 1\n")
    write(tmp_path, "mine.py", "import helper_d\nown = 1\ndef build():\n    return helper_d.value + 10 * own\n")
    assert resolve("model", "mine.py:build", tmp_path)() == 11
    path = tmp_path / changed
    info = path.stat()
    path.write_text(path.read_text().replace("= 1", "= 2"))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    assert resolve("model", "mine.py:build", tmp_path)() == {"mine.py": 21, "helper_d.py": 12}[changed]
    assert not (tmp_path / "__pycache__").exists()


def test_two_recipe_folders_with_files_of_the_same_name_do_not_mix(tmp_path):
    for number in (1, 2):
        write(tmp_path / str(number), "helper_e.py", f"value = {number}\n")
        write(tmp_path / str(number), "mine.py", "from helper_e import value\ndef build():\n    return value\n")
    assert resolve("model", "mine.py:build", tmp_path / "1")() == 1
    assert resolve("model", "mine.py:build", tmp_path / "2")() == 2
    assert str(tmp_path / "1") not in sys.path


@pytest.mark.parametrize("name", ["v1.2.py", "my.net.py", "my-net.py", "sub/v1.2.py"])
def test_a_file_whose_name_no_import_statement_could_have_is_loaded_all_the_same(tmp_path, name):
    write(tmp_path, name, "def build():\n    return 5\n")
    assert resolve("model", f"{name}:build", tmp_path)() == 5
    assert registry.user_module_files() == [tmp_path / name]


def test_a_users_file_named_like_a_loaded_module_replaces_nothing(tmp_path):
    import json

    write(tmp_path, "json.py", "def build():\n    return 'mine'\n")
    assert resolve("model", "json.py:build", tmp_path)() == "mine"
    assert sys.modules["json"] is json
    registry.forget_user_modules()
    assert sys.modules["json"] is json


def test_user_module_files_lists_what_was_loaded_from_the_folder(tmp_path):
    helper = write(tmp_path, "helper_f.py", "")
    mine = write(tmp_path, "mine.py", "import helper_f\ndef build():\n    pass\n")
    resolve("model", "mine.py:build", tmp_path)
    assert registry.user_module_files() == [helper, mine]


def test_bind_passes_offered_arguments_by_name_only():
    def build(num_classes, width=1, **rest):
        pass

    assert bind(build, {"input_shape": (1,), "num_classes": 3}, {"depth": 2}, "model") == {"num_classes": 3, "depth": 2}


def test_bind_passes_what_may_go_through_kwargs():
    def build(**rest):
        pass

    given = bind(build, {"input_shape": (1,), "num_classes": 3}, {}, "model", through_kwargs=("num_classes",))
    assert given == {"num_classes": 3}


def test_bind_lets_the_recipes_argument_win_over_an_offered_one():
    def build(num_classes):
        pass

    assert bind(build, {"num_classes": 3}, {"num_classes": 5}, "model") == {"num_classes": 5}


def test_bind_reports_every_problem_at_once():
    def build(input_shape, width, hidden):
        pass

    with pytest.raises(UsageError) as caught:
        bind(build, {"input_shape": (1,)}, {"widht": 3, "zzz": 1}, "model")
    assert caught.value.message.splitlines() == [
        "model.widht: build() takes no such argument - did you mean 'width'? (takes: width, hidden)",
        "model.zzz: build() takes no such argument (takes: width, hidden)",
        "model: build() needs 'width', which the recipe does not give (tuner passes: input_shape)",
        "model: build() needs 'hidden', which the recipe does not give (tuner passes: input_shape)",
    ]


def test_bind_skips_positional_parameters_and_checks_that_they_are_there():
    def loss(scores, labels, margin=1.0):
        pass

    def short(scores):
        pass

    assert bind(loss, {}, {"margin": 2.0}, "loss", positional=2) == {"margin": 2.0}
    with pytest.raises(UsageError, match=r"loss\.scores: loss\(\) takes no such argument \(takes: margin\)"):
        bind(loss, {}, {"scores": 2.0}, "loss", positional=2)
    with pytest.raises(UsageError, match=r"loss: short\(\) must take 2 positional arguments, it takes 1"):
        bind(short, {}, {}, "loss", positional=2)


def test_call_turns_a_librarys_refusal_into_a_usage_error(tmp_path):
    import torch

    with pytest.raises(
        UsageError, match=r"optimizer: SGD\(\) does not accept its arguments: Invalid momentum value: -1"
    ):
        call(torch.optim.SGD, {"params": [torch.zeros(1)], "momentum": -1.0}, "optimizer", tmp_path)


def test_call_shows_the_users_frames_only_when_their_function_raises(tmp_path):
    path = write(tmp_path, "mine.py", "import torch\ndef build():\n    return torch.zeros(2) @ torch.zeros(3)\n")
    fn = resolve("model", "mine.py:build", tmp_path)
    with pytest.raises(UserCodeError) as caught:
        call(fn, {}, "model", tmp_path)
    assert caught.value.message.startswith(f"{path}:3: model raised RuntimeError")
    assert "registry.py" not in caught.value.message


def test_a_hook_gets_what_it_asks_for_by_position_and_by_name(tmp_path):
    write(tmp_path, "mine.py", "def step(optimizer, model):\n    return optimizer, model\n")
    step = hook("step", "mine.py:step", ("model", "batch", "loss", "optimizer"), tmp_path)
    assert step("m", "b", "l", "o") == ("o", "m")
    assert step(model="m", batch="b", loss="l", optimizer="o") == ("o", "m")


def test_a_hook_that_asks_for_something_else_is_refused(tmp_path):
    write(tmp_path, "mine.py", "def step(model, batch, criterion):\n    pass\n")
    with pytest.raises(
        UsageError, match=r"train\.step: step\(\) needs 'criterion'.*\(tuner passes: model, batch, loss, opt"
    ):
        hook("step", "mine.py:step", ("model", "batch", "loss", "optimizer"), tmp_path)


def test_arguments_are_the_tables_other_keys_and_those_in_args():
    table = {"name": "x", "lr": 1, "momentum": 0.9, "args": {"name": "inner"}}
    assert registry.arguments(table, ("name", "lr")) == {"momentum": 0.9, "name": "inner"}


PACKAGE = {
    "pkg/__init__.py": "from .net import Net\n",
    "pkg/net.py": "from .layers import WIDTH\n\nclass Net:\n    width = WIDTH\n",
    "pkg/layers.py": "WIDTH = 3\n",
}


@pytest.mark.parametrize("name", ["pkg/net.py:Net", "pkg.Net", "pkg.net.Net", "pkg/__init__.py:Net"])
def test_a_package_beside_the_recipe_is_found_with_its_relative_imports(tmp_path, name):
    for file, text in PACKAGE.items():
        write(tmp_path, file, text)
    assert resolve("model", name, tmp_path).width == 3


def test_a_package_beside_the_recipe_is_imported_again_when_it_changes(tmp_path):
    for file, text in PACKAGE.items():
        write(tmp_path, file, text)
    resolve("model", "pkg.Net", tmp_path)
    write(tmp_path, "pkg/layers.py", "WIDTH = 44\n")
    assert resolve("model", "pkg.Net", tmp_path).width == 44


def test_a_folder_beside_the_recipe_does_not_hide_a_loaded_library(tmp_path):
    import torch

    write(tmp_path, "torch/optim.py", "class SGD: pass\n")
    assert resolve("optimizer", "torch.optim.SGD", tmp_path) is torch.optim.SGD


def test_a_module_that_parses_arguments_when_imported_gets_its_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tuner", "run", "r.toml"])
    text = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--n', type=int, default=7)\n"
    write(tmp_path, "mine.py", f"{text}n = p.parse_args().n\ndef build():\n    return n\n")
    assert resolve("model", "mine.py:build", tmp_path)() == 7
    assert sys.argv == ["tuner", "run", "r.toml"]


def test_a_module_that_needs_arguments_is_told_where_to_put_them(tmp_path):
    text = "import argparse\np = argparse.ArgumentParser()\np.add_argument('file')\np.parse_args()\n"
    write(tmp_path, "mine.py", text)
    with pytest.raises(UserCodeError, match=r"mine\.py:4: importing mine\.py raised SystemExit") as caught:
        resolve("model", "mine.py:build", tmp_path)
    assert "__main__" in caught.value.hint


def test_a_model_that_is_built_already_is_refused(tmp_path):
    write(tmp_path, "mine.py", "from torch import nn\nmodel = nn.Linear(2, 3)\n")
    with pytest.raises(UsageError, match=r"model\.name: 'mine\.py:model' is a model that is built already"):
        resolve("model", "mine.py:model", tmp_path)


@pytest.mark.parametrize("name", [f"{'a' * 5000}.py:build", ".".join(["a"] * 1000), "a..b", ".", "..a", "torch."])
def test_a_name_that_nothing_can_have_is_refused_briefly(tmp_path, name):
    with pytest.raises(UsageError, match=r"^model\.name: (no such file|.* is no dotted path|unknown)") as caught:
        resolve("model", name, tmp_path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", [0, None, ["resnet8"], {"name": 0}])
def test_a_name_that_is_no_text_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"^model\.init: expected a name, text in quotes \(got "):
        resolve("init", name, tmp_path)


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("float division by zero"), "ZeroDivisionError: float division by zero"),
        (IndexError("tuple index out of range"), "IndexError: tuple index out of range"),
        (KeyError("resnet18.pt"), "KeyError: 'resnet18.pt'"),
        (RuntimeError("size\nException raised from c10 ..."), r"size\n"),
        (Unspeakable(), r"Unspeakable: \(its message cannot be shown: __str__ raised ValueError\)"),
        (SystemExit(3), "SystemExit: 3"),
        (AssertionError(), r"AssertionError\n"),
    ],
)
def test_whatever_a_librarys_constructor_raises_is_about_its_arguments(tmp_path, error, message):
    def build():
        raise error

    with pytest.raises(UsageError, match=rf"^model: build\(\) does not accept its arguments: {message}"):
        call(build, {}, "model", tmp_path)


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit(0)", "GeneratorExit", "BaseException('x')"])
def test_whatever_the_users_function_raises_shows_their_line(tmp_path, raised):
    from tuner.core import signals

    before = {number: signals.signal.getsignal(number) for number in (signals.signal.SIGINT, signals.signal.SIGTERM)}
    signals.listen()  # as the command line does: a KeyboardInterrupt of its handler is told from the user's own
    write(tmp_path, "mine.py", f"def build():\n    raise {raised}\n")
    try:
        with pytest.raises(UserCodeError, match=r"mine\.py:2: model raised "):
            call(resolve("model", "mine.py:build", tmp_path), {}, "model", tmp_path)
    finally:
        for number, handler in before.items():
            signals.signal.signal(number, handler)


def test_an_interrupt_while_the_users_function_runs_is_an_interrupt(tmp_path):
    from tuner.core import signals

    before = {number: signals.signal.getsignal(number) for number in (signals.signal.SIGINT, signals.signal.SIGTERM)}
    signals.listen()
    write(
        tmp_path, "mine.py", "import os, signal\ndef build():\n    os.kill(os.getpid(), signal.SIGINT)\n    return 1\n"
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            call(resolve("model", "mine.py:build", tmp_path), {}, "model", tmp_path)
    finally:
        for number, handler in before.items():
            signals.signal.signal(number, handler)
