"""Trials on a pretended GPU (tests/pretended_gpu.py), which refuses what a real one refuses."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.pretended_gpu import OnGpu, pretended_gpu
from tests.train.training_cases import make_case
from tuner.core.errors import UserCodeError
from tuner.core.trial import WorkItem
from tuner.train.device import in_full_precision
from tuner.train.isolation import put_back
from tuner.train.kernel_asserts import as_on_cpu
from tuner.train.preflight import preflight
from tuner.train.setup import make_setup
from tuner.train.trial import run_trial

IMAGES = {"data.source": "mine.py:images", "model": {"name": "convnet", "width": 4, "depth": 1}}


@pytest.fixture
def gpu():
    with put_back(), pretended_gpu():
        yield


def trial(folder, overrides, code="", stops=(None,), precision="fp32"):
    case = make_case(folder, code, overrides)
    for stop in stops:
        result = run_trial(
            WorkItem(case.spec(horizon_epochs=3, precision=precision), 3, stop), replace(case.env, device="cuda")
        )
    return result


def pair():
    here = torch.arange(6.0).view(3, 2)
    return here, here.to("cuda")


TOGETHER = "same device"
REFUSED = {
    "a sum": (lambda c, g: c + g, TOGETHER),
    "a join": (lambda c, g: torch.cat([c, g]), TOGETHER),
    "a choice": (lambda c, g: g.index_select(0, torch.tensor([0])), TOGETHER),
    "an index of the GPU into the CPU's": (lambda c, g: c[(g.sum(1) > 1)], "indices should be either on cpu"),
    "a sum kept on the CPU": (lambda c, g: torch.zeros(()).add_(g.sum()), TOGETHER),
    "numbers for numpy": (lambda c, g: np.asarray(g), "can't convert cuda:0 device type tensor to numpy"),
    "a generator of the CPU": (
        lambda c, g: torch.randperm(3, generator=torch.Generator(), device="cuda"),
        "Expected a 'cuda' device type for generator",
    ),
    "a layer that was not moved": (lambda c, g: torch.nn.Linear(2, 2)(g), TOGETHER),
}
ALLOWED = {
    "a number of the CPU": lambda c, g: g * torch.tensor(2.0),
    "indices of the CPU": lambda c, g: g[torch.tensor([0, 2])],
    "a copy": lambda c, g: g.clone().copy_(c),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_pretended_gpu_refuses_what_torch_refuses(gpu, what):
    operation, words = REFUSED[what]
    with pytest.raises((RuntimeError, TypeError), match=words):
        operation(*pair())


@pytest.mark.parametrize("what", ALLOWED)
def test_the_pretended_gpu_does_what_torch_does(gpu, what):
    here, there = pair()
    found, wanted = ALLOWED[what](here, there), ALLOWED[what](here, here)
    assert isinstance(found, OnGpu) and torch.equal(found.cpu(), wanted)


def test_a_failed_assertion_ends_the_pretended_gpu_as_it_ends_a_real_one(gpu):
    _, there = pair()
    with pytest.raises(torch.AcceleratorError, match="device-side assert"):
        F.cross_entropy(there, torch.tensor([0, 1, 7]).to("cuda"))
    with pytest.raises(torch.AcceleratorError, match="an earlier call's"):
        there + 1


labels = torch.tensor([0, 1, 7])
scores = torch.randn(3, 4)
ASKED = {
    "cross-entropy": lambda to: F.cross_entropy(to(scores), to(labels)),
    "nll": lambda to: F.nll_loss(to(scores), to(labels)),
    "margins": lambda to: F.multi_margin_loss(to(scores), to(labels)),
    "probabilities": lambda to: F.binary_cross_entropy(to(scores) * 9, to(scores).sigmoid()),
    "an embedding": lambda to: F.embedding(to(labels), to(scores)),
    "one-hot": lambda to: F.one_hot(to(labels), 4),
    "gather": lambda to: to(scores).gather(1, to(labels)[:, None]),
    "an index": lambda to: to(scores)[:, to(labels)],
    "a selection": lambda to: to(scores).index_select(1, to(labels)),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_a_cpu_refuses_is_refused_before_the_gpu_is_lost(gpu, what):
    with pytest.raises((RuntimeError, IndexError)) as there, as_on_cpu("cuda"):
        ASKED[what](lambda value: value.to("cuda"))
    with pytest.raises((RuntimeError, IndexError)) as here:
        ASKED[what](lambda value: value)
    assert there.type is here.type and "device-side" not in str(there.value)
    assert (torch.ones(2).to("cuda") + 1).tolist() == [2, 2]


def test_labels_that_are_ignored_are_no_fault(gpu):
    with as_on_cpu("cuda"):
        loss = F.cross_entropy(scores.to("cuda"), torch.tensor([0, 1, -100]).to("cuda"))
    assert float(loss) == float(F.cross_entropy(scores, torch.tensor([0, 1, -100])))


SIGMOID = """
class Sigmoid(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 3), nn.Sigmoid())
def sigmoid(num_classes):
    return Sigmoid()
def several(n=40):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(5))
    return (x, (x[:, :3] > 0).float()), (x[:20], (x[:20, :3] > 0).float())
"""


def test_a_loss_of_probabilities_is_not_asked_on_the_gpu_about_what_is_none(gpu, tmp_path):
    tables = {"data.source": "mine.py:several", "model": {"name": "mine.py:sigmoid"}}
    result = trial(tmp_path, {**tables, "loss": {"name": "torch.nn.BCELoss"}, "data.task": "multilabel"}, SIGMOID)
    assert result.status == "completed", result.error


def test_a_label_out_of_range_on_the_gpu_is_said_to_be_one(gpu, tmp_path):
    wrong = "\ndef wrong():\n    train, val = load()\n    train[1][3] = 7\n    return train, val\n"
    result = trial(tmp_path, {"data.source": "mine.py:wrong", "data.num_classes": 3}, wrong)
    assert result.status == "failed" and result.error.kind == "user-code"
    assert "the GPU refuses an index, a label or a probability" in result.error.message
    assert "--device cpu shows the line" in result.error.hint


RESUMED = {
    "ema": {"train.ema": 0.9},
    "swa": {"train.swa": 0.3},
    "center": {"loss": [{"name": "cross_entropy"}, {"name": "center", "factor": 0.1}]},
    "center alone": {"loss": {"name": "center"}},
    "factors, accumulated": {"loss": {"name": "cross_entropy", "weight": [0.2, 1.0, 5.0]}, "train.accumulate": 2},
    "lookahead": {"optimizer": {"name": "lookahead", "lr": 0.01}},
    "muon": {"optimizer": {"name": "muon", "lr": 0.01}, "model.depth": 2},
    "mean teacher": {"teacher": {"mean_teacher": 0.9}},
}


@pytest.mark.parametrize("what", RESUMED)
def test_a_trial_goes_on_on_the_gpu_after_a_break(gpu, tmp_path, what):
    whole = trial(tmp_path / "whole", RESUMED[what])
    parts = trial(tmp_path / "parts", RESUMED[what], stops=(1, 2, None))
    assert whole.status == "completed", whole.error
    assert parts.status == "completed", parts.error
    assert parts.curve == whole.curve


@pytest.mark.parametrize(("name", "fused"), [("adamw", True), ("adagrad", None)])
def test_an_optimizer_is_fused_on_a_gpu_where_every_torch_can(gpu, tmp_path, name, fused):
    case = make_case(tmp_path, "", {"optimizer": {"name": name, "lr": 0.1}})
    with put_back():
        setup = make_setup(case.spec(), replace(case.env, device="cuda"))
        assert setup.optimizer(setup.model()).defaults["fused"] is fused
    assert case.setup().optimizer(case.setup().model()).defaults["fused"] is True


def test_a_gpu_is_asked_for_the_same_numbers_twice_and_what_was_set_is_put_back(gpu, tmp_path):
    case = make_case(tmp_path, "", {})
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
    with put_back():
        make_setup(case.spec(), replace(case.env, device="cuda"))
        assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


def test_a_measurement_on_a_gpu_multiplies_in_full_precision(gpu):
    assert torch.backends.cudnn.allow_tf32
    with in_full_precision("cuda"):
        assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32


CPU_IN_FORWARD = """
class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
    def forward(self, x):
        return self.head(x + torch.arange(4))
def shifted(num_classes):
    return Shifted()
"""


def test_a_model_that_makes_tensors_on_the_cpu_is_shown_its_line_and_what_to_write(gpu, tmp_path):
    case = make_case(tmp_path, CPU_IN_FORWARD, {"model": {"name": "mine.py:shifted"}})
    with pytest.raises(UserCodeError, match=r"mine.py:\d+: model raised RuntimeError: Expected all tensors") as found:
        preflight(case.tables, replace(case.env, device="cuda"))
    assert "torch.arange(n, device=x.device)" in found.value.hint


@pytest.mark.parametrize("how", ["standardize", "mean_image", "scale"])
def test_a_batch_is_normalised_alike_on_either_device(gpu, tmp_path, how):
    case = make_case(tmp_path, "", {**IMAGES, "data.normalize": how})
    data = make_setup(case.spec(), replace(case.env, device="cuda")).data
    raw = data.inputs("train")
    here, there = data.normalise(raw), data.normalise(raw.to("cuda"))
    assert torch.equal(there.cpu(), here) and isinstance(there, OnGpu) and not isinstance(here, OnGpu)


def alike(found, wanted):
    """Assert that evidence is the same: every number within rounding, everything else equal."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
    if isinstance(wanted, (dict, list)):
        assert len(found) == len(wanted)
        for key in wanted if isinstance(wanted, dict) else range(len(wanted)):
            alike(found[key], wanted[key])
    else:
        assert found == (pytest.approx(wanted, rel=1e-3, abs=1e-5) if isinstance(wanted, float) else wanted)


def test_step_1_measures_on_a_gpu_what_it_measures_on_a_cpu(tmp_path):
    case = make_case(tmp_path, "", {"data.augment": []})
    item = WorkItem(case.spec(horizon_epochs=None, measure={"init_battery": {}}), 1)
    wanted = run_trial(item, case.env)
    with pretended_gpu(), put_back():
        found = run_trial(item, replace(case.env, device="cuda"))
    assert found.error is None and wanted.error is None
    measured = [name for name, value in wanted.evidence["init_battery"].items() if "skipped" not in value]
    assert len(measured) > 30
    alike(found.evidence["init_battery"], wanted.evidence["init_battery"])
