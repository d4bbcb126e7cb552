"""Data files that cannot be used are refused in one clear sentence."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from tests.conftest import RECIPE, refused

TABLE = "source = 'table', path = 'd.csv', target = 'y'"
NPZ = "source = 'npz', path = 'd.npz'"
IMAGES = "source = 'image_folder', root = 'img'"
X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
LABELS = (X[:, 0] > 0).astype(int)


def csv(rows=60, line=lambda i: f"{i % 7},{i * 0.5},{'ab'[i % 2]}", head="x,z,y"):
    return "\n".join([head, *map(line, range(rows))]) + "\n"


def png(size=8):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (size, 10, 200)).save(file, "PNG")
    return file.getvalue()


def check(command, tmp_path, table, files):
    (tmp_path / "small.toml").write_text(RECIPE)
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return command("check-init", "small.toml", "--set", f"data={{{table}}}", "--set", "train.batch_size=8")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (csv(line=lambda i: f"{i},1,{'a' if i != 9 else ''}"), 3, "the target 'y' is missing in row 9 (line 11)"),
        (csv(head="x,z,why"), 2, "data.target: "),
        (csv(line=lambda i: f"{i},1,{i * 0.37}"), 2, "hint: By its targets the task is regression"),
        (csv(line=lambda i: f"{i},1,a"), 3, "are of one class ('a')"),
        (
            csv(line=lambda i: f"{i},1,c{i}"),
            3,
            "too few examples of a class to be in train, val, test: class 'c0' has 1",
        ),
        (csv(line=lambda i: f"{i if i != 5 else 'oops'},1,{'ab'[i % 2]}"), 2, "row 5 (line 7), column 'x': 'oops'"),
        (csv(line=lambda i: f"{i},id{i},{'ab'[i % 2]}"), 2, "add it to data.drop or data.categorical"),
        (csv().replace(",", ";"), 2, "hint: The columns seem to be separated by ';': set data.separator."),
        (csv() + "1,2,3,4,5\n", 3, "Expected 3 fields in line 62, saw 5"),
        (csv().replace("a", "ä").encode("latin-1"), 3, "hint: Save it as UTF-8."),
        ("x,y\n", 3, "a header but no rows"),
        ("", 3, "not a readable table"),
    ],
)
def test_a_table_is_refused(command, tmp_path, content, code, message):
    refused(check(command, tmp_path, TABLE, {"d.csv": content}), code, message)


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (archive(a=X, b=LABELS), 2, "hint: Name them x and y."),
        (archive(x=X, y=LABELS + 0.5), 2, "the loss fails on the model's outputs"),
        (archive(x=X, y=np.where(np.arange(60) == 3, np.nan, LABELS)), 2, "e.g. nan at 3)"),
        (archive(x=X, y=np.eye(2)[LABELS]), 2, "looks one-hot or multi-hot"),
        (archive(x=X, y=LABELS[:50]), 3, "d.npz: train: 60 inputs but 50 targets"),
        (archive(x=X, y=LABELS, x_val=X[:, :3], y_val=LABELS), 2, "val has inputs of shape (3,), train of (4,)"),
        (archive(x=X[:, 0], y=LABELS), 3, "the inputs have shape (60,), not (examples, ...)"),
        (archive(x=np.float32(3), y=LABELS), 3, "the inputs have shape (), not (examples, ...)"),
        (archive(x=X[:0], y=LABELS[:0]), 3, "train: no examples"),
        (archive(x=X.astype(str), y=LABELS), 3, "the inputs must be numbers"),
        (archive(x=X, y=LABELS)[:300], 3, "not a readable .npz archive"),
        (b"junk", 3, "not a readable .npz archive"),
    ],
)
def test_an_archive_of_arrays_is_refused(command, tmp_path, content, code, message):
    refused(check(command, tmp_path, NPZ, {"d.npz": content}), code, message)


def test_negative_labels_are_a_finding_wherever_they_lie(command, tmp_path):
    done = check(command, tmp_path, NPZ, {"d.npz": archive(x=X, y=LABELS - 1)})
    assert (done.code, "DA102" in done.out, done.err) == (1, True, "")


def test_labels_that_start_at_1_are_said(command, tmp_path):
    done = check(command, tmp_path, NPZ, {"d.npz": archive(x=X, y=LABELS + 1)})
    said = " ".join(done.out.split())
    assert (done.code, "the label 0: do the labels start at 1?" in said) == (0, True)


FOLDER = {f"img/{name}/{i}.png": png(8) for name in ("cat", "dog") for i in range(20)}


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"img/.keep": ""}, 3, "no class folder in it"),
        ({f"img/{i}.png": png() for i in range(9)}, 3, "no class folder in it"),
        ({**FOLDER, "img/emu/.keep": ""}, 3, "no image in class folder"),
        ({**FOLDER, "img/cat/bad.png": png()[:45]}, 3, "img/cat/bad.png: not a readable image"),
        ({**FOLDER, "img/cat/bad.png": b""}, 3, "img/cat/bad.png: not a readable image"),
        ({**FOLDER, "img/cat/big.png": png(16)}, 3, "hint: Set data.image_size"),
        ({name: file for name, file in FOLDER.items() if "cat" in name}, 3, "only one class folder ('cat')"),
        (dict(list(FOLDER.items())[:2] + list(FOLDER.items())[-2:]), 3, "class 'cat' has 2, class 'dog' has 2"),
    ],
)
def test_a_folder_of_images_is_refused(command, tmp_path, files, code, message):
    refused(check(command, tmp_path, IMAGES, files), code, message)


def test_a_text_file_among_images_is_passed_over(command, tmp_path):
    assert check(command, tmp_path, IMAGES, {**FOLDER, "img/cat/notes.txt": "x", "img/README": "x"}).code in (0, 1)


def test_a_run_from_another_folder_finds_the_recipes_files(command, tmp_path):
    elsewhere = tmp_path / "a" / "b"
    elsewhere.mkdir(parents=True)
    text = RECIPE.replace('source = "digits"', "source = 'table'\npath = 'd.csv'\ntarget = 'y'").replace("= 64", "= 8")
    (elsewhere / "small.toml").write_text(text)
    (elsewhere / "d.csv").write_text(csv())
    assert command("check-init", os.path.join("a", "b", "small.toml")).code == 0
    assert (tmp_path / "runs" / "small" / "check-init" / "result.json").exists()
