"""The winner taken home: what is written answers as the run's own test did, without tuner's data code."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import tuner
from tests.conftest import refused
from tuner.core.errors import InputError
from tuner.core.store import read_json, write_json
from tuner.core.trial import TrialEnv
from tuner.train.data import load_data
from tuner.train.handover.weights import description
from tuner.train.handover.winner import Winner
from tuner.train.interface import Interface, compact
from tuner.workflow.winner import about, find_winner


@pytest.fixture(scope="module")
def test_split(finished_run):
    """Raw inputs and targets of the finished run's test split, as loaded."""
    spec = tuner.open_run(finished_run / "runs/small").records("fine")[0].item.spec
    data = load_data(dict(spec.tables), TrialEnv(finished_run), with_test=True)
    return data.inputs("test"), data.targets("test")


def accuracy_of(run):
    return read_json(run / "test/result.json")["metrics"]["accuracy"]


def test_the_loaded_winner_takes_raw_inputs_and_scores_what_the_test_said(finished_run, test_split):
    run = finished_run / "runs/small"
    winner = tuner.open_run(run).load_model()
    inputs, targets = test_split
    assert inputs.dtype == torch.uint8 and not winner.training
    assert winner.class_names == tuple("0123456789")
    with torch.no_grad():
        hits = (winner(inputs).argmax(1) == targets).float().mean()
    assert float(hits) == pytest.approx(accuracy_of(run))


def test_an_exported_winner_names_the_task_that_the_first_step_found(finished):
    run = finished / "runs/small"
    assert about(find_winner(run), "small")["task"] == "classification"
    path = run / "check-init/result.json"
    found = read_json(path)
    write_json(path, {**found, "metrics": {**found["metrics"], "task": "multilabel"}})
    assert about(find_winner(run), "small")["task"] == "multilabel"


def test_a_run_without_a_winner_says_so(finished):
    (finished / "runs/small/winner.json").unlink()
    with pytest.raises(InputError, match="has no winner yet"):
        tuner.open_run(finished / "runs/small").load_model()


def test_a_winner_of_an_unknown_trial_is_refused(finished):
    path = finished / "runs/small/winner.json"
    write_json(path, {**read_json(path), "trial": "feedfeedfeed"})
    with pytest.raises(InputError, match="names a trial that fine does not have: 'feedfeedfeed'"):
        tuner.open_run(finished / "runs/small").load_model()


def test_a_checkpoint_of_an_earlier_version_says_what_to_do():
    with pytest.raises(InputError, match="w.pt does not say what its inputs are"):
        Interface.from_checkpoint({"model": {}}, "w.pt")


def test_exported_weights_are_used_by_ten_lines_without_tuner(finished, command, test_split):
    pytest.importorskip("safetensors")
    done = command("export", "small.toml", "--weights", "winner.safetensors")
    assert done.code == 0 and "wrote winner.json" in done.out, done.err
    np.savez(finished / "test.npz", x=test_split[0].numpy(), y=test_split[1].numpy())
    script = """
import json, sys, numpy, torch
from safetensors.torch import load_file
sys.modules["tuner"] = None
card = json.load(open("winner.json"))
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
model.load_state_dict(load_file(card["weights"]))
how = card["inputs"]["normalise"]
raw, targets = (torch.from_numpy(array) for array in numpy.load("test.npz").values())
inputs = (raw.float() - torch.tensor(how["shift"])) * torch.tensor(how["factor"])
print((model.eval()(inputs).argmax(1) == targets).float().mean().item(), card["class_names"][3], card["task"])
"""
    out = subprocess.run([sys.executable, "-c", script], cwd=finished, capture_output=True, text=True, timeout=60)
    score, name, task = out.stdout.split()
    assert float(score) == pytest.approx(accuracy_of(finished / "runs/small")), out.stderr
    assert (name, task) == ("3", "classification")


@pytest.mark.parametrize("fold", [(), ("--fold",)])
def test_the_onnx_file_answers_the_test_split_as_torch_does(finished, command, test_split, fold):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done = command("export", "small.toml", "--onnx", "winner.onnx", *fold)
    assert done.code == 0 and "100.0% equal answers" in done.out, done.err
    session = runtime.InferenceSession(finished / "winner.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.run(["outputs"], {"inputs": test_split[0].contiguous().numpy()})
    winner = tuner.open_run(finished / "runs/small").load_model()
    with torch.no_grad():
        expected = winner(test_split[0])
    assert np.allclose(given, expected, atol=1e-4)
    assert (given.argmax(1) == test_split[1].numpy()).mean() == pytest.approx(accuracy_of(finished / "runs/small"))


def test_folding_takes_the_batch_norms_away_and_keeps_the_outputs():
    pytest.importorskip("onnx")
    from tuner.train.handover.onnx_file import folded

    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten())
    winner = Winner(net, Interface((1, 5, 5), torch.float32, None, None, 2, ("a", "b"), None))
    small = folded(winner)
    inputs = torch.randn(3, 1, 5, 5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert torch.allclose(small(inputs), winner(inputs), atol=1e-6)


def test_statistics_that_only_repeat_are_kept_once():
    per_channel = torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 4, 4)
    assert compact(per_channel).tolist() == [[[1.0]], [[2.0]], [[3.0]]]
    assert compact(torch.full((2, 3, 3), 7.0)).shape == (1, 1, 1)
    assert compact(torch.arange(4.0)).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert compact(None) is None


def test_the_description_of_inputs_that_are_passed_on_has_no_statistics():
    winner = Winner(nn.Linear(2, 2), Interface((2,), torch.float32, None, None, 2, ("a", "b"), ("x", "y")))
    found = description(winner)
    assert found["inputs"]["normalise"]["shift"] is None and found["inputs"]["columns"] == ["x", "y"]
    assert json.loads(json.dumps(found)) == found


class Viewing(nn.Module):
    """A conv net of a user's that flattens by `view`, which fails on channels-last images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).view(len(x), -1)


def test_a_winner_that_needs_images_in_the_plain_layout_gets_them_so():
    winner = Winner(Viewing(), Interface((3, 6, 6), torch.float32, None, None, 2, ("a", "b"), None))
    images = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(winner(images), winner.model(images.contiguous()))


@pytest.mark.parametrize("file", ["runs/small/winner.safetensors", "small.json", "settings.bin"])
def test_weights_are_not_put_beside_a_json_file_that_no_export_wrote(finished, command, file):
    pytest.importorskip("safetensors")
    (finished / "settings.json").write_text("[1]")
    before = (finished / "runs/small/winner.json").read_text()
    refused(
        command("export", "small.toml", "--weights", file), 2, "--weights: what is needed to use them is written to"
    )
    assert (finished / "runs/small/winner.json").read_text() == before and not (finished / file).exists()


def test_an_export_without_a_way_names_the_ways(finished, command):
    refused(command("export", "small.toml"), 2, "nothing to export was named", "--weights", "--onnx", "--optuna")
    refused(command("export", "small.toml", "--fold", "--weights", "w.safetensors"), 2, "--fold goes with --onnx")


def test_an_export_without_its_package_says_what_to_install(finished, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    refused(command("export", "small.toml", "--weights", "w"), 5, "--weights needs safetensors", "tuner[export]")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(command("export", "small.toml", "--onnx", "w"), 5, "--onnx needs onnx")
