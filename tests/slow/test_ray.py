"""The Ray engine on several nodes on this machine: equal to the serial engine, whatever is lost (minutes)."""

import subprocess
import threading
import time
from dataclasses import replace

import pytest
import torch

from tests.equal import assert_equal_outcomes, outcome
from tuner.core.memory import Foreseen, Measured, MemoryModel, Needs
from tuner.core.signals import TimeIsOver
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

from tuner.execute.ray_engine import Cluster, RayExecutor  # noqa: E402

MINE = """
import time
from torch import nn

def build(input_shape, num_classes, width=8, seconds=0.0, log=""):
    if log:
        open(log, "a").write(f"{time.time()}\\n")
    time.sleep(seconds)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def item(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)

    def make(number, until=None, **model):
        raw = {"name": "t", "data": {"source": "digits"}, "model": {"name": "mine.py:build", **model}}
        tables = Recipe.model_validate(raw).tables()
        return WorkItem(TrialSpec(tables, {}, seed=number, horizon_epochs=2), number, until)

    return make


@pytest.fixture
def engine(cluster):
    made = []

    def make():
        made.append(RayExecutor(Wish("cpu"), Cluster(cluster.address), lambda progress: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


def serial(items, folder, recipe_dir):
    return outcome(
        list(SerialExecutor(Wish("cpu"), lambda progress: None).run(items, TrialEnv(recipe_dir, folder))), folder
    )


def test_two_nodes_give_what_one_process_gives_rung_after_rung(tmp_path, cluster, engine, item):
    cluster.add_node(num_cpus=1)
    one, env = engine(), TrialEnv(tmp_path, tmp_path / "run/coarse")
    assert one.preflight(item(0).spec.tables, env).problems == ()
    assert len(one.slots) == 2
    for until in (1, None):  # the second goes on from the states that came back from the first
        items = [item(number, until) for number in range(4)]
        found = outcome(list(one.run(items, env)), tmp_path / "run/coarse")
        assert_equal_outcomes(found, serial(items, tmp_path / "serial/coarse", tmp_path))
    assert not list((tmp_path / "run").rglob("*.state.pt"))


def test_a_node_that_is_lost_costs_no_trial_and_one_that_is_added_gets_work(tmp_path, cluster, engine, item):
    node = cluster.add_node(num_cpus=1)
    one, env, log = engine(), TrialEnv(tmp_path, tmp_path / "run/coarse"), tmp_path / "log"
    items = [item(number, seconds=3.0, log=str(log)) for number in range(6)]
    results = one.run(items, env)
    found = [next(results)]
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    found += results
    plain = [item(number, seconds=3.0, log=str(log)) for number in range(6)]
    assert_equal_outcomes(outcome(found, tmp_path / "run/coarse"), serial(plain, tmp_path / "serial/coarse", tmp_path))


def test_a_node_that_is_added_midway_gets_work_at_once(tmp_path, cluster, engine, item, capsys):
    """The only CPU is busy with the first trial when the second node comes."""
    one, env, log = engine(), TrialEnv(tmp_path, tmp_path / "run/coarse"), tmp_path / "log"
    results, found = one.run([item(number, seconds=20.0, log=str(log)) for number in range(2)], env), []
    thread = threading.Thread(target=lambda: found.extend(results))
    thread.start()
    while not log.exists():
        time.sleep(0.05)
    asked = time.time()
    cluster.add_node(num_cpus=1)  # in the main thread, as it sets signals
    there = time.time()
    thread.join()
    first, *later = sorted(map(float, log.read_text().split()))
    assert later[0] < first + 20.0  # while the first was still being built, so on the new node
    assert len(outcome(found, tmp_path / "run/coarse")) == 2
    with capsys.disabled():
        print(f"\nits model is built {later[0] - there:.1f} s after the node was there, {later[0] - asked:.1f} s after")
        print("it was asked for")


def test_a_trial_that_is_cut_has_told_its_curve_and_left_its_best_weights(tmp_path, cluster, item):
    heard = []

    def hear(progress):
        heard.append(progress)
        if progress.kept:
            raise TimeIsOver

    one, env = RayExecutor(Wish("cpu"), Cluster(cluster.address), hear), TrialEnv(tmp_path, tmp_path / "run/coarse")
    long = item(3)
    long = replace(long, spec=replace(long.spec, horizon_epochs=3000))
    try:
        with pytest.raises(TimeIsOver):
            list(one.run([long], env))
    finally:
        one.close()
    epoch, score = heard[-1].kept
    assert {row["epoch"] for row in heard[-1].rows if row["split"] == "val"} >= set(range(1, epoch + 1))
    assert 0 < heard[-1].fraction < 1 and score > 0.2
    weights = torch.load(env.stage_dir / f"checkpoints/{long.spec.id}.so-far.pt", weights_only=True)
    assert weights["spec_id"] == long.spec.id and weights["epoch"] == epoch


def test_what_cannot_fit_is_tried_on_each_node_and_reported(tmp_path, cluster, engine, item):
    cluster.add_node(num_cpus=1)
    one = engine()
    one._foreseen = Foreseen(None, MemoryModel((Measured(Needs(0, 1e6), 3.0, ((16, 10**15), (64, 10**15))),)))
    (result,) = one.run([item(0)], TrialEnv(tmp_path, tmp_path / "run/coarse"))
    assert result.error.kind == "oom" and result.error.message.startswith("not started: the model at batch ")
    assert len(one._memory) == 2, "the second node was asked as well, as its memory was not known"


def test_two_nodes_never_share_a_gpu(tmp_path, cluster, engine, capsys, monkeypatch):
    """The GPUs are invented: each node says that it has two, named as CUDA_VISIBLE_DEVICES names them."""
    for names in ("0,1", "2,3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        cluster.add_node(num_cpus=4, num_gpus=2)
    one = engine()
    one._device = "cuda"
    assert len(one.slots) == 4
    task = one._task(held, num_cpus=one._cpus_each, num_gpus=one._gpus_each)
    spans = ray.get([task.remote(1.0) for _ in range(16)])
    assert {gpu for gpu, _, _ in spans} == {"0", "1", "2", "3"}
    for gpu, start, end in spans:
        assert sum(other == gpu and a < end and start < b for other, a, b in spans) == 1  # itself
    assert max(sum(a <= start < b for _, a, b in spans) for _, start, _ in spans) > 1


def held(seconds):
    """The GPU that a task has, and from when to when."""
    from tuner.execute.ray_engine import gpus_of_task

    start = time.time()
    time.sleep(seconds)
    return gpus_of_task(), start, time.time()


def test_a_cluster_of_our_own_leaves_no_process(tmp_path, item):
    before = ray_processes()
    one = RayExecutor(Wish("cpu", workers=1), Cluster(), lambda progress: None)
    (result,) = one.run([item(0)], TrialEnv(tmp_path, tmp_path / "run/coarse"))
    one.close()
    assert result.status == "completed", result.error
    until = time.monotonic() + 30
    while ray_processes() - before and time.monotonic() < until:
        time.sleep(0.5)
    assert ray_processes() - before == set()


def ray_processes():
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()
    return {line.split()[0] for line in listed if "raylet" in line or "gcs_server" in line or "ray::" in line}
