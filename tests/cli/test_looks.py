"""`tuner parts`, `tuner inspect` and `tuner data` on the command line."""

import json

import pytest

from tests.conftest import tuner

RECIPE = 'name = "a"\n[data]\nsource = "digits"\n[model]\nname = "convnet"\nwidth = 4\n[train]\nbatch_size = 32\n'


@pytest.mark.parametrize(
    ("name", "words"), [(None, "loss (loss.name): arcface"), ("schedule", "wsd"), ("focal", "gamma")]
)
def test_parts_lists_kinds_the_parts_of_a_kind_and_one_part(name, words):
    code, out, _ = tuner("parts", *([name] if name else []))
    assert code == 0 and words in out


def test_parts_in_json_has_the_arguments_with_their_ranges():
    _, out, _ = tuner("parts", "focal", "--json")
    (card,) = json.loads(out)
    assert card["arguments"][0] == {"name": "gamma", "default": "2.0", "low": 0.5, "high": 5.0, "log": False}


def test_an_unknown_part_is_refused_with_the_nearest_name():
    code, _, err = tuner("parts", "focl")
    assert code == 2 and "focl: no such kind or part - did you mean 'focal'" in err


def test_json_of_data_with_missing_cells_is_read_by_every_parser(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i if i % 7 else ''},{i % 2}\n" for i in range(40)))
    (tmp_path / "a.toml").write_text(
        'name = "a"\n[data]\nsource = "table"\npath = "a.csv"\ntarget = "y"\n[model]\nname = "mlp"\n'
    )
    code, out, err = tuner("data", "a.toml", "--no-suspects", "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out, parse_constant=pytest.fail)["statistics"]["mean"] is None


def test_the_pictures_go_into_the_folder_of_the_run_by_the_recipes_name(tmp_path):
    (tmp_path / "file.toml").write_text(RECIPE)
    code, out, err = tuner("inspect", "file.toml", "--json", cwd=tmp_path)
    assert code == 0 and all("runs/a/inspect" in path for path in json.loads(out)["files"]), err


def test_inspect_and_data_say_what_a_recipe_is(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(RECIPE)
    code, out, _ = tuner("inspect", str(path), "--out", str(tmp_path / "out"))
    assert code == 0 and "Conv2d" in out and (tmp_path / "out" / "first-layer.png").exists()
    code, out, _ = tuner("inspect", str(path), "--schedule", "--set", "schedule.name=cosine", "--json")
    assert code == 0 and json.loads(out)[0] == 0.01
    code, out, _ = tuner("data", str(path), "--no-suspects", "--out", str(tmp_path / "out"))
    assert code == 0 and "duplicates: " in out and (tmp_path / "out" / "samples.png").exists()
