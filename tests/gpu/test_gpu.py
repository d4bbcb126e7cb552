"""What only a real GPU shows: trials beside each other, the same numbers twice, memory foreseen, every augmentation.

pytest -m slow tests/gpu, on a machine with a CUDA device; skipped elsewhere.
"""

import contextlib
import statistics
from dataclasses import replace

import pytest
import torch

from tests.equal import differences
from tests.slow.searches import SEARCH, undisturbed
from tests.train.training_cases import make_case, without_clock
from tuner.core.trial import TrialSpec, WorkItem
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish
from tuner.recipe.cards import cards
from tuner.train.device import inventory
from tuner.train.loop import fit
from tuner.train.memory import memory_model, needs_of
from tuner.train.setup import make_setup
from tuner.train.trial import run_trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
IMAGES = {"data.source": "mine.py:images", "model": {"name": "convnet", "width": 8, "depth": 1}}


def on_gpu(folder, overrides=IMAGES):
    case = make_case(folder, "", overrides)
    return case, replace(case.env, device="cuda")


def trial(folder, overrides=IMAGES, stops=(None,), precision="fp32"):
    case, env = on_gpu(folder, overrides)
    for stop in stops:
        result = run_trial(WorkItem(case.spec(horizon_epochs=4, precision=precision), 3, stop), env)
    return result


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_trial_gives_the_same_numbers_twice_and_after_a_break(tmp_path, precision):
    whole, again = (trial(tmp_path / name, precision=precision) for name in "ab")
    parts = trial(tmp_path / "c", precision=precision, stops=(1, 3, None))
    assert whole.status == "completed" and len(whole.curve) >= 8
    assert without_clock(again) == without_clock(whole)
    assert without_clock(parts) == without_clock(whole)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "sam", "lookahead", "muon", "swats"])
def test_every_kind_of_optimizer_lowers_the_loss(tmp_path, optimizer):
    result = trial(tmp_path, {"model.depth": 2, "optimizer": {"name": optimizer, "lr": 0.01}})
    losses = [row["loss"] for row in result.curve if row["split"] == "train"]
    assert result.status == "completed" and losses[-1] < losses[0]


def test_a_gpu_and_a_cpu_agree_on_the_curve(tmp_path):
    gpu = trial(tmp_path / "gpu")
    case, env = on_gpu(tmp_path / "cpu")
    cpu = run_trial(WorkItem(case.spec(horizon_epochs=4, precision="fp32"), 3, None), replace(env, device="cpu"))
    pairs = [(one["loss"], other["loss"]) for one, other in zip(gpu.curve, cpu.curve, strict=True)]
    assert all(one == pytest.approx(other, rel=2e-3) for one, other in pairs), pairs


@pytest.mark.parametrize("name", [card.name for card in cards("augment")])
def test_every_augmentation_runs_on_the_device(tmp_path, name):
    result = trial(tmp_path, {**IMAGES, "data.augment": [name]})
    assert result.status == "completed", result.error


@contextlib.contextmanager
def processes(**wish):
    executor = ProcessExecutor(Wish("cuda", **wish), lambda progress: None, inventory=inventory())
    try:
        yield executor
    finally:
        executor.close()


def items(count, tables):
    return [WorkItem(TrialSpec(tables, {}, seed, horizon_epochs=2), seed) for seed in range(count)]


def test_trials_beside_each_other_give_what_one_at_a_time_gives(tmp_path):
    case, env = on_gpu(tmp_path)
    found = []
    for each in (1, 4):
        with processes(per_device=each) as executor:
            assert {slot.gpu for slot in executor.slots} == {"0"} and len(executor.slots) == each
            done = executor.run(items(6, case.tables), replace(env, stage_dir=tmp_path / str(each)))
            found.append({result.id: without_clock(result) for result in done})
    assert len(found[0]) == 6 and found[0] == found[1]


WIDTHS = [({"name": "mlp", "width": 4096, "depth": 3}, 512), ({"name": "convnet", "width": 64, "depth": 3}, 512)]


@pytest.mark.parametrize(("model", "batch_size"), WIDTHS, ids=["mlp", "convnet"])
def test_memory_is_foreseen_within_a_quarter(tmp_path, model, batch_size):
    code = """
def many(count=2048):
    generator = torch.Generator().manual_seed(1)
    def draw(n):
        return torch.rand(n, 3, 32, 32, generator=generator), torch.arange(n) % 10
    return draw(count), draw(64)
"""
    tables = {"data.source": "mine.py:many", "model": model, "train.batch_size": 64}
    case = make_case(tmp_path, code, tables)
    env = replace(case.env, device="cuda")
    setup = make_setup(case.spec(), env)
    foreseen = memory_model(setup, []).predict(needs_of(setup), batch_size)
    torch.cuda.empty_cache()
    larger = make_case(tmp_path, code, {**tables, "train.batch_size": batch_size})
    with processes() as executor:
        (result,) = executor.run([WorkItem(larger.spec(horizon_epochs=3), 1)], env)
    assert foreseen == pytest.approx(result.peak_memory_bytes, rel=0.25)


def test_a_trial_that_runs_out_of_memory_says_so_and_the_next_one_runs(tmp_path):
    hungry = """
class Hungry(nn.Module):
    def __init__(self, gigabytes):
        super().__init__()
        self.head, self.gigabytes = nn.Linear(4, 3), gigabytes
    def forward(self, x):
        if self.training and x.shape[0] > 2:
            held = [torch.empty(1 << 30, dtype=torch.uint8, device=x.device) for _ in range(self.gigabytes)]
        return self.head(x)
def hungry(num_classes, gigabytes=1):
    return Hungry(gigabytes)
"""
    total = torch.cuda.mem_get_info()[1] >> 30
    cases = [make_case(tmp_path, hungry, {"model": {"name": "mine.py:hungry", "gigabytes": n}}) for n in (total + 8, 1)]
    with processes() as executor:
        work = [WorkItem(case.spec(horizon_epochs=1), number) for number, case in enumerate(cases)]
        found = {result.id: result for result in executor.run(work, replace(cases[0].env, device="cuda"))}
    too_much, fits = (found[item.spec.id] for item in work)
    assert too_much.status == "failed" and too_much.error.kind == "oom"
    assert fits.status == "completed"


def test_a_run_on_the_gpu_is_the_same_at_one_and_at_four_trials_a_device(tmp_path):
    folders = [tmp_path / name for name in ("one", "four")]
    for folder, each in zip(folders, "14", strict=True):
        folder.mkdir()
        undisturbed(folder, SEARCH, "--device", "cuda", "--trials-per-device", each)
    runs = [folder / "runs/small" for folder in folders]
    assert differences(*runs) == []


def test_batches_stay_on_the_device(tmp_path):
    case, env = on_gpu(tmp_path)
    setup = make_setup(case.spec(precision="fp32"), env)
    inputs, targets = next(iter(setup.data.batches("train", 8)))
    assert inputs.device.type == targets.device.type == "cuda"
    losses = [row["loss"] for row in fit(setup).curve]
    assert statistics.fmean(losses) < 10
