import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.train.training_cases import Case
from tuner.core import cached
from tuner.parts import models
from tuner.train import kernels

COMPILER = any(map(shutil.which, ("cc", "gcc", "clang"))) and "avx512f" in kernels._processor().split()
FP32, BF16 = torch.float32, torch.bfloat16
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler, or no AVX-512")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """Look for the kernels anew, in an empty cache; the fixture is what forgets them once more."""

    def forget():
        kernels._is_usable.cache_clear()
        kernels._library.cache_clear()

    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    forget()
    yield forget
    forget()


@pytest.fixture
def called(monkeypatch):
    """Note which kernels are called from here on."""
    assert all(map(kernels._is_usable, kernels.FORMATS)) or not COMPILER
    names = []
    call = kernels._call
    monkeypatch.setattr(kernels, "_call", lambda name, *args: (names.append(name), call(name, *args)))
    return names


def images(dtype=torch.bfloat16, channels=32, side=16, n=16, seed=0):
    values = torch.randn(n, side, side, channels, dtype=FP32, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).permute(0, 3, 1, 2)


def normed_and_pooled(dtype, channels, side, size):
    """Return outputs, running statistics and gradients of batch norm, and outputs and gradients of pooling."""
    x, rough = images(dtype, channels, side).requires_grad_(), (3 * images(dtype, channels, side, seed=1)).round()
    rough.requires_grad_()
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -1, 1, generator=torch.Generator().manual_seed(2))
    y = norm(x)
    y.backward(images(dtype, channels, side, seed=3))
    pooled = nn.MaxPool2d(size)(rough)
    pooled.backward(images(dtype, channels, pooled.shape[2], seed=4))
    return [y, norm.running_mean, norm.running_var, x.grad, norm.weight.grad, norm.bias.grad, pooled, rough.grad]


@needs_compiler
@pytest.mark.parametrize(
    "dtype, channels, side, size", [(FP32, 32, 16, 2), (BF16, 32, 16, 2), (BF16, 80, 11, 3), (FP32, 48, 9, 4)]
)
def test_the_kernels_give_the_bits_of_torch(called, dtype, channels, side, size):
    wanted = normed_and_pooled(dtype, channels, side, size)
    assert called == []
    with kernels.installed():
        found = normed_and_pooled(dtype, channels, side, size)
    assert set(called) == {"batch_norm", "batch_norm_backward", "max_pool", "max_pool_backward"}
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride()


@needs_compiler
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("model", [models.convnet, models.resnet8])
def test_a_net_trains_to_the_same_weights(called, model, autocast):
    def train():
        torch.manual_seed(0)
        net = model((3, 32, 32), 10).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        inputs = torch.randn(16, 3, 32, 32).to(memory_format=torch.channels_last)
        for _ in range(4):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                outputs = net(inputs)
            F.cross_entropy(outputs.float(), torch.arange(16) % 10).backward()
            optimizer.step()
        return net.state_dict()

    wanted = train()
    with kernels.installed():
        found = train()
    assert "batch_norm_backward" in called
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


DATA = """
import torch
def images():
    x = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return (x, torch.arange(64) % 4), (x[:32], torch.arange(32) % 4)
"""


@needs_compiler
def test_a_trial_uses_them_and_gives_back_what_it_found(tmp_path, called):
    (tmp_path / "mine.py").write_text(DATA)
    tables = {"data": {"source": "mine.py:images"}, "model": {"name": "convnet", "depth": 2}}
    tables |= {"loss": {"name": "cross_entropy"}, "schedule": {"name": "constant"}, "train": {"batch_size": 32}}
    case = Case(tmp_path, {**tables, "optimizer": {"name": "sgd", "lr": 0.1}})
    torchs = F.batch_norm, F.max_pool2d
    result = case.run(precision="fp32", train_subset=False)
    assert result.status == "completed", result.error
    assert {"batch_norm", "batch_norm_backward", "max_pool", "max_pool_backward"} <= set(called)
    assert (F.batch_norm, F.max_pool2d) == torchs


@needs_compiler
def test_the_first_of_equal_values_gets_the_gradient_and_nan_wins():
    x = torch.zeros(16, 32, 16, 16).to(memory_format=torch.channels_last)
    x[0, 0, 0, 1] = torch.nan
    x.requires_grad_()
    with kernels.installed():
        y = F.max_pool2d(x, 2)
    y.backward(torch.ones_like(y))
    assert y[0, 0, 0, 0].isnan() and x.grad[0, 0, 0, 0] == 0 and x.grad[0, 0, 0, 1] == 1
    assert torch.equal(x.grad[1:, :, ::2, ::2], torch.ones(15, 32, 8, 8))
    assert x.grad[1:].sum() == 15 * 32 * 64


@needs_compiler
def test_pixels_that_no_window_holds_get_no_gradient(called):
    x = images(torch.bfloat16, side=15).requires_grad_()
    with kernels.installed():
        y = F.max_pool2d(x, 2)
    y.backward(torch.ones_like(y))
    assert "max_pool_backward" in called
    assert y.shape[2:] == (7, 7) and not x.grad[:, :, 14].any() and not x.grad[..., 14].any()


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


OTHERS = {
    "overlapping windows": lambda x: F.max_pool2d(x, 3, 2),
    "padding": lambda x: F.max_pool2d(x, 2, padding=1),
    "dilation": lambda x: F.max_pool2d(x, 2, dilation=2),
    "ceil mode": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[1],
    "oblong windows": lambda x: F.max_pool2d(x, (2, 1)),
    "windows larger than the images": lambda x: F.max_pool2d(
        x[..., :3, :3].contiguous(memory_format=torch.channels_last), 3
    ),
    "rows first": lambda x: F.max_pool2d(x.contiguous(), 2),
    "odd channels": lambda x: F.max_pool2d(channels_last(x[:, :30]), 2),
    "double": lambda x: F.max_pool2d(x.double(), 2),
    "few values": lambda x: F.max_pool2d(x[:2], 2),
    "evaluation": lambda x: F.batch_norm(x, torch.zeros(32), torch.ones(32)),
    "no weights": lambda x: F.batch_norm(x, torch.zeros(32), torch.ones(32), training=True),
    "no running statistics": lambda x: F.batch_norm(x, None, None, torch.ones(32), torch.zeros(32), training=True),
    "tables": lambda x: F.batch_norm(x[..., 0, 0], torch.zeros(32), torch.ones(32), training=True),
    "mapped over": lambda x: torch.vmap(lambda one: F.max_pool2d(one, 2))(torch.stack([x, x])),
}


@needs_compiler
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_case_is_left_to_torch(called, name):
    x = images(torch.float32)
    wanted = OTHERS[name](x)
    with kernels.installed():
        found = OTHERS[name](x)
    assert torch.equal(found, wanted) and called == []


def test_several_threads_are_left_to_torch(called):
    torch.set_num_threads(2)
    with kernels.installed():
        F.max_pool2d(images(), 2)
    assert called == []


@needs_compiler
@pytest.mark.parametrize("function", [lambda x: F.max_pool2d(x, 2), lambda x: nn.BatchNorm2d(32)(x) ** 3])
def test_a_gradient_can_be_differentiated_again(function):
    def penalty():
        x = images(torch.float32).requires_grad_()
        (slope,) = torch.autograd.grad((function(x) ** 2).sum(), x, create_graph=True)
        (slope**2).sum().backward()
        return x.grad

    wanted = penalty()
    with kernels.installed():
        found = penalty()
    assert found.abs().sum() > 0 and torch.equal(found, wanted)


@needs_compiler
def test_a_gradient_in_another_layout_gives_the_bits_of_torch(called):
    def slopes():
        x = images(torch.float32).requires_grad_()
        norm = nn.BatchNorm2d(32)
        norm(x).backward(images(torch.float32, seed=3).contiguous())
        return x.grad, norm.weight.grad

    wanted = slopes()
    with kernels.installed():
        found = slopes()
    assert called == ["batch_norm"]
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@needs_compiler
def test_a_frozen_layer_and_a_frozen_input_get_no_gradient():
    x = images(torch.float32)
    norm = nn.BatchNorm2d(32)
    norm.weight.requires_grad_(False)
    with kernels.installed():
        norm(x).sum().backward()
    assert x.grad is None and norm.weight.grad is None and torch.equal(norm.bias.grad, torch.full((32,), 16 * 256.0))


@needs_compiler
def test_inference_and_another_default_type_change_nothing(called, anew):
    def outputs():
        norm = nn.BatchNorm2d(32).float()
        return norm(images(FP32)), nn.MaxPool2d(2)(images(FP32))

    wanted = outputs()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), kernels.installed():
            found = outputs()
    finally:
        torch.set_default_dtype(torch.float32)
    assert called[-2:] == ["batch_norm", "max_pool"]
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def no_compiler(folder):
    pass


def failing_compiler(folder):
    (folder / "cc").write_text("#!/bin/sh\nexit 1\n")
    (folder / "cc").chmod(0o755)


@pytest.mark.parametrize("compiler", [no_compiler, failing_compiler])
def test_without_a_compiler_torch_does_it(tmp_path, monkeypatch, called, anew, compiler):
    compiler(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    x = images()
    with kernels.installed():
        found = F.max_pool2d(x, 2)
    assert called == [] and torch.equal(found, F.max_pool2d(x, 2))
    assert not list(tmp_path.rglob("*.so"))


def test_a_processor_with_narrower_vectors_leaves_it_to_torch(tmp_path, monkeypatch, called, anew):
    monkeypatch.setattr(kernels, "_processor", lambda: "flags : fpu sse2 avx2 fma avx512f_not")
    with kernels.installed():
        F.max_pool2d(images(), 2)
    assert called == [] and not list(tmp_path.rglob("*.so"))


def test_a_cache_that_cannot_be_written_leaves_it_to_torch(tmp_path, called, anew):
    (tmp_path / "cache").touch()
    with kernels.installed():
        F.max_pool2d(images(), 2)
    assert called == []


@needs_compiler
def test_a_torn_file_leaves_it_to_torch(called, anew):
    path = kernels._compiled(torch.bfloat16)
    path.write_bytes(path.read_bytes()[:100])
    with kernels.installed():
        F.max_pool2d(images(), 2)
    assert called == []


@needs_compiler
@pytest.mark.parametrize(
    "line, other, dtypes",
    [
        ("", "", set()),
        ("if (BF16) apart = rounded(apart);", "", {BF16}),
        ("(rows - 1)", "rows", {FP32, BF16}),
        ("(value > most)", "(value >= most)", {FP32, BF16}),
        ("d &= (Bits)(d != (Bit)MINUS_ZERO);", "", {FP32, BF16}),
    ],
)
def test_kernels_that_round_otherwise_than_torch_are_not_used(tmp_path, monkeypatch, anew, line, other, dtypes):
    text = kernels.SOURCE.read_text()
    assert line in text
    monkeypatch.setattr(kernels, "SOURCE", tmp_path / "kernels.c")
    kernels.SOURCE.write_text(text.replace(line, other) if line else text)
    assert {dtype for dtype in kernels.FORMATS if not kernels._is_usable(dtype)} == dtypes


@needs_compiler
def test_the_compiled_files_are_kept_listed_and_cleared(tmp_path, anew):
    path = kernels._compiled(FP32)
    made = path.stat().st_mtime_ns
    assert kernels._compiled(FP32) == path and path.stat().st_mtime_ns == made
    assert kernels._compiled(BF16) != path
    assert [(entry.kind, entry.source) for entry in cached.entries(tmp_path / "cache")] == [("compiled", "kernels")] * 2
    assert {entry.path for entry in cached.clear(tmp_path / "cache")[0]} >= {path}
    assert not list(tmp_path.rglob("*.so"))


def test_what_was_installed_is_taken_away_again_when_the_user_raises():
    torchs = F.batch_norm, F.max_pool2d
    with pytest.raises(ZeroDivisionError), kernels.installed():
        assert (F.batch_norm, F.max_pool2d) != torchs
        1 / 0  # noqa: B018
    assert (F.batch_norm, F.max_pool2d) == torchs
