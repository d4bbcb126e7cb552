import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tuner.train.loop
from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import EnvironmentProblem
from tuner.core.result import TrialResult
from tuner.core.store import StageDir
from tuner.train import checkpoint
from tuner.train.loop import KEEP_SECONDS
from tuner.train.trial import failure, is_out_of_memory, throttled

HARD = {  # everything that has a state or a random stream
    "data.source": "mine.py:images",
    "data.augment": ["hflip", {"name": "random_crop", "padding": 1}],
    "model": {"name": "convnet", "width": 4, "depth": 2, "dropout": 0.3},
    "optimizer.momentum": 0.9,
    "schedule": {"name": "cosine", "warmup_epochs": 1},
}


def weights(case, **fields):
    return checkpoint.load(StageDir(case.stage_dir).checkpoint(case.spec(**fields).id))


def state_file(case, **fields):
    return StageDir(case.stage_dir).state(case.spec(**fields).id)


def equal_weights(one, other):
    assert one["epoch"] == other["epoch"] and one["model"].keys() == other["model"].keys()
    return all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])


def test_a_completed_trial_has_its_curve_score_checkpoint_and_costs(tmp_path):
    case = make_case(tmp_path)
    result = case.run(horizon_epochs=3)
    assert (result.status, result.error, result.id) == ("completed", None, case.spec(horizon_epochs=3).id)
    val = [row for row in result.curve if row["split"] == "val"]
    assert result.score == max(row["accuracy"] for row in val)
    assert val[result.best_epoch - 1]["accuracy"] == result.score
    found = weights(case, horizon_epochs=3)
    assert (found["epoch"], found["spec_id"]) == (result.best_epoch, result.id)
    assert result.wall_seconds > 0 and result.started_at > 1e9 and result.peak_memory_bytes > 10_000_000
    assert TrialResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_the_checkpoint_holds_the_best_epochs_weights(tmp_path):
    code = """
def evaluate(model, batches, loss):
    evaluate.turn = getattr(evaluate, 'turn', 0) + 1
    return {'loss': 1.0, 'accuracy': {4: 0.9}.get(evaluate.turn, 0.1)}  # val of epoch 2
"""
    case = make_case(tmp_path, code, {"train.evaluate": "mine.py:evaluate"})
    assert case.run(horizon_epochs=4).best_epoch == 2
    best = weights(case, horizon_epochs=4)
    assert case.run(until=2, horizon_epochs=4).best_epoch == 2
    last = checkpoint.load(state_file(case, horizon_epochs=4))["model"]
    assert all(torch.equal(best["model"][name], last[name]) for name in last)


@pytest.mark.parametrize("overrides", [HARD, {**HARD, "optimizer.name": "adamw", "optimizer.momentum": None}])
def test_1_and_4_epochs_equal_5_bit_for_bit(tmp_path, overrides):
    overrides = {key: value for key, value in overrides.items() if value is not None}
    whole, parts = make_case(tmp_path / "a", "", overrides), make_case(tmp_path / "b", "", overrides)
    expected = whole.run(horizon_epochs=5)
    first = parts.run(until=1, horizon_epochs=5)
    assert first.status == "stopped" and [row["epoch"] for row in first.curve] == [1, 1, 1]
    assert list(first.curve) == list(expected.curve)[:3]
    assert state_file(parts, horizon_epochs=5).exists()
    second = parts.run(until=3, horizon_epochs=5)
    assert second.status == "stopped"
    last = parts.run(until=5, horizon_epochs=5)
    assert without_clock(last) == without_clock(expected)
    assert equal_weights(weights(parts, horizon_epochs=5), weights(whole, horizon_epochs=5))
    assert not state_file(parts, horizon_epochs=5).exists()


ACCUMULATE = """
def step(model, batch, loss, optimizer):
    value = loss(model(batch[0]), batch[1])
    value.backward()
    step.seen = getattr(step, 'seen', 0) + 1
    if step.seen % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
    return value
"""


def test_gradients_that_an_accumulating_step_left_over_are_kept(tmp_path):
    overrides = {"train.step": "mine.py:step"}
    case = make_case(tmp_path, ACCUMULATE, overrides)  # 5 batches: one gradient is left over after an epoch
    case.run(until=1, horizon_epochs=2)
    saved = checkpoint.load(state_file(case))
    model = case.setup().model()
    assert set(saved["grads"]) == {name for name, _ in model.named_parameters()}
    assert saved["updates"] == 2


def test_continuing_does_not_train_again_what_was_trained(tmp_path):
    log = tmp_path / "log"
    code = f"""
def step(model, batch, loss, optimizer):
    open({str(log)!r}, 'a').write('x')
    return loss(model(batch[0]), batch[1])
"""
    case = make_case(tmp_path, code, {"train.step": "mine.py:step"})
    case.run(until=1, horizon_epochs=3)
    assert log.read_text() == "x" * 5
    case.run(until=3, horizon_epochs=3)
    assert log.read_text() == "x" * 15


def test_a_torn_or_foreign_state_file_is_not_used(tmp_path):
    case = make_case(tmp_path)
    expected = without_clock(case.run(horizon_epochs=3))
    case.run(until=1, horizon_epochs=3)
    path = state_file(case, horizon_epochs=3)
    path.write_bytes(path.read_bytes()[:300])
    assert without_clock(case.run(horizon_epochs=3)) == expected
    case.run(until=1, horizon_epochs=3)
    value = checkpoint.load(path)
    checkpoint.save(path, {**value, "spec_id": "other"})
    assert without_clock(case.run(horizon_epochs=3)) == expected


def test_a_shorter_item_after_a_longer_one_starts_over(tmp_path):
    case = make_case(tmp_path)
    short = case.run(until=1, horizon_epochs=4)
    case.run(until=3, horizon_epochs=4)
    assert without_clock(case.run(until=1, horizon_epochs=4)) == without_clock(short)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import tuner.train.loop
tuner.train.loop.SAVE_SECONDS = 0
from pathlib import Path
from tests.train.training_cases import make_case
make_case(Path({folder!r}), {code!r}, {overrides!r}).run(horizon_epochs=5)
"""


POINTS = {"train.ema": 0.9, "train.accumulate": 2, "train.l1": 1e-4, "train.swa": 0.5, "train.max_norm": 2.0}


@pytest.mark.parametrize("more", [{}, pytest.param(POINTS, marks=pytest.mark.slow)], ids=["plain", "points"])
def test_a_killed_trial_continues_from_its_last_saved_epoch_and_gives_the_same(tmp_path, more):
    code = """
import os, pathlib, signal
def metric(outputs, targets):
    done = pathlib.Path(__file__).parent / 'killed'
    metric.turn = getattr(metric, 'turn', 0) + 1
    if metric.turn == 6 and not done.exists():  # val of epoch 3
        done.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0
"""
    overrides = {**HARD, "train.metric": "mine.py:metric", **more}
    whole = make_case(tmp_path / "a", code, overrides)
    (whole.folder / "killed").touch()
    expected = whole.run(horizon_epochs=5)
    folder = tmp_path / "b"
    tests = str(Path(__file__).parent)
    script = KILLED.format(tests=tests, folder=str(folder), code=code, overrides=overrides)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    again = make_case(folder, code, overrides)
    assert checkpoint.load(state_file(again, horizon_epochs=5))["epoch"] == 2
    assert without_clock(again.run(horizon_epochs=5)) == without_clock(expected)
    assert equal_weights(weights(again, horizon_epochs=5), weights(whole, horizon_epochs=5))


def test_a_long_trial_saves_its_state_at_epoch_ends_and_a_short_one_does_not(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(tuner.train.loop, "save_state", lambda setup, training, path: saved.append(training.epoch))
    case = make_case(tmp_path)
    case.run(horizon_epochs=4)
    assert saved == []
    monkeypatch.setattr(tuner.train.loop, "SAVE_SECONDS", 0)
    case.run(horizon_epochs=4)
    assert saved == [1, 2, 3]


def test_a_result_does_not_depend_on_the_trials_that_ran_before(tmp_path):
    case, other = (
        make_case(tmp_path / "a", "", HARD),
        make_case(tmp_path / "b", ACCUMULATE, {"train.step": "mine.py:step"}),
    )
    expected = without_clock(case.run())
    torch.rand(11)
    torch.set_num_threads(2)
    other.run(seed=9)
    case.run(seed=5)
    assert without_clock(case.run()) == expected
    assert torch.get_num_threads() == 1


def test_an_edited_user_file_is_used_by_the_next_trial(tmp_path):
    code = "def metric(outputs, targets):\n    return {}.0\n"
    overrides = {"train.metric": "mine.py:metric", "train.monitor": "val_metric"}
    assert make_case(tmp_path, code.format(1), overrides).run().score == 1
    assert make_case(tmp_path, code.format(2), overrides).run().score == 2


def test_divergence_is_a_result_with_the_step_in_it(tmp_path):
    case = make_case(tmp_path, overrides={"optimizer.lr": 1e30, "loss.name": "mse_one_hot"})
    result = case.run()
    assert (result.status, result.error, result.score) == ("diverged", None, None)
    found = result.evidence["diverged"]
    assert found["step"] == result.curve[-1]["step"] >= 2
    assert found["loss"] in ("nan", "inf")
    assert json.loads(json.dumps(result.to_json()))["curve"][-1]["loss"] is None
    assert not list(tmp_path.glob("stage/checkpoints/*"))


BUILD = "\ndef build(input_shape, num_classes):\n    {}\n"


def test_memory_that_the_cpu_does_not_have_is_oom(tmp_path):
    case = make_case(tmp_path, BUILD.format("torch.empty(1 << 50)"), {"model": {"name": "mine.py:build"}})
    result = case.run()
    assert (result.status, result.error.kind) == ("failed", "oom")
    assert "allocate" in result.error.message and "batch_size" in result.error.hint


def test_a_memory_error_is_oom(tmp_path):
    case = make_case(tmp_path, BUILD.format("return [0] * (1 << 60)"), {"model": {"name": "mine.py:build"}})
    result = case.run()
    assert (result.status, result.error.kind) == ("failed", "oom")


def test_is_out_of_memory_knows_the_gpus_error():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize(
    ("key", "code", "message"),
    [
        ("model.name", "def f():\n    raise ValueError('no')\n", r"mine\.py:\d+: model raised ValueError: no"),
        ("loss.name", "def f(o, t):\n    return o[99, 0]\n", r"mine\.py:\d+: loss raised IndexError"),
        ("train.step", "def f(model):\n    return 1 / 0\n", r"mine\.py:\d+: train\.step raised ZeroDivision"),
        ("train.evaluate", "def f(model):\n    return 1 / 0\n", r"mine\.py:\d+: train\.evaluate raised ZeroDiv"),
        ("train.metric", "def f(outputs):\n    return 1 / 0\n", r"mine\.py:\d+: train\.metric raised ZeroDivi"),
        (
            "train.metric",
            "def f(outputs):\n    return 'x'\n",
            r"train\.metric: the metric must be a number \(got 'x'\)",
        ),
        ("optimizer.name", "", r"optimizer\.name: .*mine\.py has no 'f'"),
    ],
)
def test_what_the_users_code_raises_shows_their_frames_only(tmp_path, key, code, message):
    overrides = {"model": {"name": "mine.py:f"}} if key == "model.name" else {key: "mine.py:f"}
    result = make_case(tmp_path, code, overrides).run()
    assert (result.status, result.error.kind) == ("failed", "user-code")
    assert re.search(message, result.error.message)
    assert "tuner/train" not in result.error.message and "torch/" not in result.error.message


def test_an_exception_in_the_users_forward_is_theirs(tmp_path):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 3)
    def forward(self, x):
        return self.layer(x)
def build():
    return Net()
"""
    path = tmp_path / "mine.py"
    result = make_case(tmp_path, code, {"model": {"name": "mine.py:build"}}).run()
    line = 1 + path.read_text().splitlines().index("        return self.layer(x)")
    assert result.error.kind == "user-code"
    assert result.error.message.startswith(f"{path}:{line}: RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert "tuner/train" not in result.error.message and "torch/nn" not in result.error.message


def test_data_that_cannot_be_read_is_a_failure_of_the_data(tmp_path):
    overrides = {"data": {"source": "npz", "path": str(tmp_path / "missing.npz")}}
    result = make_case(tmp_path, overrides=overrides).run()
    assert (result.status, result.error.kind) == ("failed", "data")
    assert "missing.npz" in result.error.message


def test_a_bug_of_ours_is_a_crash_with_its_traceback(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("ours")

    monkeypatch.setattr(tuner.train.loop, "evaluate_epoch", broken)
    result = make_case(tmp_path).run()
    assert result.error.kind == "crash"
    assert "loop.py" in result.error.message and "KeyError: 'ours'" in result.error.message


def test_a_stage_folder_that_cannot_be_written_is_no_fault_of_the_trial(tmp_path):
    case = make_case(tmp_path)
    case.stage_dir.write_text("a file where the folder should be")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        case.run()


def test_failure_looks_for_memory_through_the_causes(tmp_path):
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        assert failure(error, tmp_path).kind == "oom"


def test_measures_run_after_training_on_the_best_weights_each_under_its_own_seed(tmp_path):
    code = """
def look(setup, what):
    import torch
    total = sum(p.detach().sum() for p in setup.trained.model.parameters())
    return {what: float(total), 'best_epoch': setup.trained.best_epoch, 'draw': torch.rand(1).item()}
"""
    case = make_case(tmp_path, code)
    both = {"mine.py:look": {"what": "total"}, "val_predictions": {}}
    result = case.run(measure=both)
    total = sum(float(item.sum()) for item in weights(case, measure=both)["model"].values())
    found = result.evidence["mine.py:look"]
    assert found["total"] == pytest.approx(total, rel=1e-5)
    assert found["best_epoch"] == result.best_epoch
    assert result.evidence["val_predictions"]["n"] == 20
    alone = case.run(measure={"mine.py:look": {"what": "total"}})
    assert alone.evidence["mine.py:look"]["draw"] == found["draw"]


def test_a_trial_that_only_measures_trains_nothing(tmp_path):
    code = "def look(setup):\n    return {'trained': setup.trained is not None}\n"
    result = make_case(tmp_path, code).run(horizon_epochs=None, measure={"mine.py:look": {}})
    assert (result.status, list(result.curve)) == ("completed", [])
    assert result.evidence == {"mine.py:look": {"trained": False}}


def test_a_measure_with_a_wrong_argument_is_named(tmp_path):
    result = make_case(tmp_path).run(horizon_epochs=None, measure={"val_predictions": {"zzz": 1}})
    assert "measure.val_predictions.zzz: val_predictions() takes no such argument" in result.error.message


def test_progress_is_throttled_and_ends_at_1(tmp_path):
    seen = []
    result = make_case(tmp_path).run(on_progress=seen.append, horizon_epochs=30)
    assert [item.number for item in seen] == [3] * len(seen)
    assert seen[-1].fraction == 1
    assert len(seen) <= 2 + result.wall_seconds / 0.3 + result.wall_seconds / KEEP_SECONDS  # of 150 steps
    assert seen[-1].note.startswith("epoch 30/30 val 0.")
    fractions = [item.fraction for item in seen]
    assert fractions == sorted(fractions)


def test_weights_that_were_kept_are_told_of_at_once():
    seen = []
    on_step = throttled(3, seen.append)
    for epoch in (1, 2, 3):
        on_step(epoch / 10, f"epoch {epoch}", [], (epoch, 0.5) if epoch > 1 else None)
        on_step(epoch / 10 + 0.01, "a step")
    assert [(news.note, news.kept) for news in seen] == [
        ("epoch 1", None),
        ("epoch 2", (2, 0.5)),
        ("epoch 3", (3, 0.5)),
    ]


def test_without_a_stage_folder_nothing_is_written(tmp_path):
    from dataclasses import replace

    from tuner.core.trial import WorkItem
    from tuner.train.trial import run_trial

    case = make_case(tmp_path)
    result = run_trial(WorkItem(case.spec(), 0), replace(case.env, stage_dir=None))
    assert result.status == "completed" and not case.stage_dir.exists()
