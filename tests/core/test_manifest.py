"""Freshness: what is compared, and how a change is told."""

import pytest

from tuner.core.errors import InputError
from tuner.core.manifest import Provenance, Reason, depended, flatten, output_hashes, read_manifest, verify_outputs
from tuner.core.store import StageDir, write_bytes, write_json
from tuner.recipe.file import load_recipe


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name = "r"\n[data]\nsource = "digits"\n[model]\nname = "mlp"\nwidth = 4\n')
    return lambda *overrides: load_recipe(path, overrides, settings={})


def provenance(recipe, depends=("data", "model"), **fields):
    base = {"settings": {"epochs": 3}, "stage_table": {}, "user_files": {}, "data_hash": "", "inputs": {}}
    return Provenance(tables=depended(recipe.model_dump(), depends), **{**base, **fields})


def manifest_of(value):
    return {"stage": "coarse", **vars(value)}


def test_equal_recipes_are_fresh(recipe):
    assert provenance(recipe()).differences(manifest_of(provenance(recipe())), own_settings=True) == []


def test_changed_and_new_keys_are_listed_with_old_and_new(recipe):
    old = manifest_of(provenance(recipe()))
    reasons = provenance(recipe("model.width=8", "model.depth=2")).differences(old, own_settings=True)
    assert [str(reason) for reason in reasons] == ["model.depth: (absent) -> 2", "model.width: 4 -> 8"]


def test_tables_that_are_not_depended_on_do_not_count(recipe):
    old = manifest_of(provenance(recipe()))
    assert provenance(recipe("optimizer.lr=0.5", "train.batch_size=9")).differences(old, own_settings=True) == []


def test_a_flag_stales_the_stage_itself_but_not_what_reads_it(recipe):
    old = manifest_of(provenance(recipe(), settings={"epochs": 5}))
    now = provenance(recipe())
    assert now.differences(old, own_settings=False) == []
    assert now.differences(old, own_settings=True) == [Reason("settings.epochs", 5, 3)]


def test_files_data_and_inputs_count(recipe):
    old = manifest_of(provenance(recipe(), user_files={"m.py": "a"}, inputs={"lr-sweep": {"choice": "x" * 64}}))
    now = provenance(recipe(), user_files={"m.py": "b"}, data_hash="d", inputs={"lr-sweep": {"choice": "y" * 64}})
    assert [reason.key for reason in now.differences(old, own_settings=True)] == [
        "m.py",
        "data files",
        "choice of lr-sweep",
    ]


def test_flatten_keeps_empty_tables_and_lists_as_leaves():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_changed_output_is_refused_by_name(tmp_path):
    stage = StageDir(tmp_path / "coarse")
    write_json(stage.result_path, {"a": 1})
    write_bytes(stage.path / "plots" / "a.png", b"x")
    manifest = {"stage": "coarse", "outputs": output_hashes(stage)}
    assert set(manifest["outputs"]) == {"result.json", "plots/a.png"}
    write_bytes(stage.path / "plots" / "a.png", b"y")
    verify_outputs(stage, manifest)
    with pytest.raises(InputError, match="a.png was changed after it was written"):
        verify_outputs(stage, manifest, ["plots/a.png"])
    stage.result_path.unlink()
    with pytest.raises(InputError, match="result.json is missing"):
        verify_outputs(stage, manifest)


def test_a_manifest_that_is_none_is_refused(tmp_path):
    stage = StageDir(tmp_path)
    assert read_manifest(stage) is None
    write_json(stage.manifest_path, [])
    with pytest.raises(InputError, match="not what tuner wrote"):
        read_manifest(stage)
