import random
import resource

import numpy as np
import pytest
import torch

from tuner.core.errors import EnvironmentProblem
from tuner.train import device


@pytest.mark.skipif(not hasattr(device.ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_that_is_kept_is_not_mapped_again_by_the_next_step():
    device.keep_freed_memory()
    torch.ones(8 << 20)  # 32 MiB, freed at once
    faults = []
    for _ in range(5):  # the system may take pages back at any time
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(8 << 20)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < 3 * 8192  # of 10 x 8192 pages


def test_a_new_trial_gives_freed_memory_back():
    device.reset_peak_memory("cpu")
    kept = torch.ones(32 << 20)
    high = device.peak_memory_bytes("cpu")
    del kept
    device.reset_peak_memory("cpu")
    assert device.peak_memory_bytes("cpu") < high - (64 << 20)


@pytest.mark.parametrize("accelerator", [False, True])
def test_seeding_is_that_of_torch_numpy_and_random(monkeypatch, accelerator):
    monkeypatch.setattr(device, "_has_accelerator", lambda: accelerator)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    device.seed_everything(5)
    assert torch.equal(torch.rand(3), wanted)
    assert np.random.rand() == np.random.RandomState(5).rand()
    assert random.random() == random.Random(5).random()


def test_a_gpu_that_is_full_is_named_and_is_not_asked_where_the_trials_run_on_the_cpu(monkeypatch):
    def full(index):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", full)
    with pytest.raises(EnvironmentProblem, match="CUDA device 0 cannot be used: CUDA error: out of memory\n"):
        device.inventory()
    assert device.inventory("cpu").gpus == ()


def test_keeping_the_random_generators_starts_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    before = torch.get_rng_state()
    with device.generators_kept():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before) and not torch.cuda.is_initialized()
