"""What a run is made from: the user's modules found without importing them, and the data's files."""

import os

from tuner.recipe.user_files import (
    copy_user_files,
    hash_data,
    hash_user_files,
    libraries,
    referenced_files,
    user_modules,
)

TABLES = {
    "data": {"source": "mine.py:load", "augment": [{"name": "aug.py:flip"}]},
    "model": {"name": "torch.nn.Linear"},
}


def test_references_are_found_in_tables_lists_and_choices():
    search = {"model.name": {"choices": ["mlp", "other.py:build"]}}
    assert referenced_files(TABLES, search) == ["aug.py", "mine.py", "other.py"]


def test_local_imports_are_followed_and_others_are_not(tmp_path):
    (tmp_path / "mine.py").write_text("import os\nimport helper\nfrom pack import part\nraise RuntimeError\n")
    (tmp_path / "helper.py").write_text("import mine\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "part.py").write_text("from . import rest\n")
    (tmp_path / "pack" / "rest.py").write_text("")
    (tmp_path / "unused.py").write_text("")
    modules = user_modules(TABLES, {}, tmp_path)
    assert list(modules) == ["helper.py", "mine.py", "pack/__init__.py", "pack/part.py", "pack/rest.py"]
    copy_user_files(modules, tmp_path / "run")
    assert (tmp_path / "run" / "pack" / "part.py").read_text() == "from . import rest\n"


def test_imports_are_followed_from_every_encoding_through_packages_and_upwards(tmp_path):
    deep = tmp_path / "pack" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "mine.py").write_bytes(b"\xef\xbb\xbfimport helper\n")
    (tmp_path / "aug.py").write_bytes("# -*- coding: latin-1 -*-\nimport pack.deep.part  # für\n".encode("latin-1"))
    (tmp_path / "helper.py").write_text("x = 1\n")
    for package in (deep.parent, deep):
        (package / "__init__.py").write_text("")
    (deep / "part.py").write_text("from ..beside import x\nfrom . import near\n")
    (deep / "near.py").write_text("from .. import over\n")
    (deep.parent / "beside.py").write_text("x = 1\n")
    (deep.parent / "over.py").write_text("from ..... import nothing\n")
    for unused in (deep / "beside.py", tmp_path / "__init__.py"):
        unused.write_text("never = 'imported'\n")
    assert set(user_modules(TABLES, {}, tmp_path)) == {
        "mine.py",
        "aug.py",
        "helper.py",
        *(f"pack/{name}.py" for name in ("__init__", "beside", "over", "deep/__init__", "deep/part", "deep/near")),
    }


def test_a_changed_module_changes_its_hash_alone(tmp_path):
    for name in ("mine.py", "aug.py"):
        (tmp_path / name).write_text("x = 1\n")
    before = hash_user_files(user_modules(TABLES, {}, tmp_path))
    (tmp_path / "aug.py").write_text("x = 2\n")
    after = hash_user_files(user_modules(TABLES, {}, tmp_path))
    assert before["mine.py"] == after["mine.py"] and before["aug.py"] != after["aug.py"]


def test_data_hash_sees_files_but_not_names_of_other_things(tmp_path):
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(b"a")
    data = {"source": "image_folder", "root": "images"}
    before = hash_data(data, tmp_path)
    assert before and before == hash_data({**data, "image_size": 32}, tmp_path)
    os.utime(folder / "1.png", ns=(1, 1))
    assert hash_data(data, tmp_path) != before
    assert hash_data({"source": "digits"}, tmp_path) == ""


def test_data_hash_takes_a_link_to_nowhere_as_it_is(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").symlink_to("gone.png")
    data = {"source": "image_folder", "root": "images"}
    before = hash_data(data, tmp_path)
    (tmp_path / "images" / "gone.png").write_bytes(b"a")
    assert before and hash_data(data, tmp_path) != before


def test_data_hash_of_a_file_is_its_content(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    before = hash_data({"path": "t.csv"}, tmp_path)
    os.utime(path, ns=(1, 1))
    assert hash_data({"path": "t.csv"}, tmp_path) == before
    path.write_text("a\n2\n")
    assert hash_data({"path": "t.csv"}, tmp_path) != before


def test_a_package_that_a_dotted_path_names_is_hashed_where_it_lies_beside_the_recipe(tmp_path):
    for name, text in {"pkg/__init__.py": "from .net import Net\n", "pkg/net.py": "class Net: pass\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    tables = {"model": {"name": "pkg.Net"}, "optimizer": {"name": "torch.optim.SGD"}}
    assert list(user_modules(tables, {}, tmp_path)) == ["pkg/__init__.py", "pkg/net.py"]


def test_libraries_are_what_the_recipe_and_its_files_use(tmp_path):
    (tmp_path / "mine.py").write_text("import os, helper\nimport torchvision.models\nfrom sklearn import svm\n")
    (tmp_path / "helper.py").write_text("from pandas.api import types\nimport no_such_package\n")
    tables = {"model": {"name": "mine.py:build"}, "optimizer": {"name": "torch.optim.RAdam"}, "data": {"root": "a.b"}}
    assert libraries(tables, {}, tmp_path) == ["pandas", "sklearn", "torch", "torchvision"]
