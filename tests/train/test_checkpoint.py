import pickle
from pathlib import Path

import pytest
import torch

from tuner.core.errors import EnvironmentProblem, InputError
from tuner.core.store import StageDir
from tuner.train import checkpoint


def test_save_and_load_give_tensors_and_plain_values_back(tmp_path):
    path = StageDir(tmp_path).checkpoint("abc")
    checkpoint.save(path, {"model": {"w": torch.tensor([1.5, -2.0])}, "epoch": 3, "spec_id": "abc", "x": [None, 0.5]})
    found = checkpoint.load(path)
    assert path == tmp_path / "checkpoints" / "abc.pt"
    assert torch.equal(found["model"]["w"], torch.tensor([1.5, -2.0]))
    assert (found["epoch"], found["spec_id"], found["x"]) == (3, "abc", [None, 0.5])
    assert [item.name for item in path.parent.iterdir()] == ["abc.pt"]


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_load_refuses_a_file_that_would_run_code_and_runs_nothing(tmp_path, how):
    class Marker:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "evil.pt"
    if how == "torch":
        torch.save({"model": Marker()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Marker()}))
    with pytest.raises(InputError, match=rf"{path}: not a checkpoint of tensors and plain values"):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


def test_load_refuses_what_is_missing_torn_or_of_another_kind(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(InputError, match=rf"{path}: no such checkpoint"):
        checkpoint.load(path)
    checkpoint.save(path, {"w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=rf"{path}: not a checkpoint"):
        checkpoint.load(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=rf"{path}: not a checkpoint \(it holds a list\)"):
        checkpoint.load(path)


def test_save_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(path, {"epoch": lambda: 2})
    assert checkpoint.load(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_save_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*/file/a\.pt: "):
        checkpoint.save(tmp_path / "file" / "a.pt", {})


def test_is_plain_tells_what_load_would_give_back():
    assert checkpoint.is_plain({"a": [1, 2.0, None, True, "x", (torch.zeros(1),)], 0: {}})
    assert not checkpoint.is_plain({"a": [object()]})
    assert not checkpoint.is_plain({"a": {1, 2}})
