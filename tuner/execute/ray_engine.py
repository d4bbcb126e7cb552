"""Run trials on a Ray cluster (`--engine ray`): one Ray task per trial, in which our own worker process trains.

Ray places tasks and carries bytes, no more: faults and deadlines of a trial are the worker's (see `processes`), and
only this side writes into the run. A task whose node or process is lost is given out again by us, not by Ray.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner.core.errors import EnvironmentProblem
from tuner.core.inventory import Inventory, without_gpus
from tuner.core.memory import NOTHING, Foreseen
from tuner.core.preflight import Preflight
from tuner.core.result import TrialError, TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.base import OnProgress
from tuner.execute.crashes import KILLED_TRIES
from tuner.execute.deadlines import Deadlines
from tuner.execute.machine import look
from tuner.execute.news import Hearing, Teller
from tuner.execute.processes import ProcessExecutor
from tuner.execute.ray_news import Heard, Sender, start_board
from tuner.execute.remote import Answer, Job, Outfit, carry_out, decoded_of, job_of, take_in
from tuner.execute.slots import Slot, Slots, Wish, memory_of
from tuner.execute.start import begin_server
from tuner.execute.versions import FIX, differences, versions

LOOK_SECONDS = 0.5  # between two looks at the trials' news
CHECK_SECONDS = 120.0  # that a node may take to say which Python and torch it has


@dataclass(frozen=True)
class Cluster:
    """`address`: of a running Ray cluster; None: one on this machine, which ends with the command."""

    address: str | None = None


@dataclass(frozen=True)
class Contents:
    """Contents of files in memory, by their sha256: bytes, or references to them in the cluster, which keeps one copy
    per node. `store` makes what is kept of bytes, `get` bytes of a reference.
    """

    store: Callable[[bytes], Any]
    get: Callable[[Any], bytes]
    kept: dict[str, Any] = field(default_factory=dict)

    def put(self, path: Path) -> str:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self.kept:
            self.kept[digest] = self.store(content)
        return digest

    def load(self, digest: str) -> bytes:
        kept = self.kept[digest]
        return kept if isinstance(kept, bytes) else self.get(kept)

    def fetch(self, digest: str, to: Path) -> None:
        to.write_bytes(self.load(digest))

    def drop(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self.kept.pop(digest, None)


class RayExecutor:
    """One Ray task per trial. `wish.workers` and `wish.threads` say how many run at once, and on how many CPUs each."""

    def __init__(self, wish: Wish, cluster: Cluster, on_progress: OnProgress, deadline: float | None = None) -> None:
        self.wish = wish
        self.cluster = cluster
        self.on_progress = on_progress
        self.deadline = deadline
        self._device = "cpu"
        self._ray: Any = None
        self._decoded: Mapping[str, str] = {}
        self._board: Any = None
        self._foreseen = NOTHING
        self._memory: dict[str, int] = {}  # of nodes, as far as known: that a trial may have there
        self._sent = Contents(lambda content: self._started().put(content), lambda kept: self._started().get(kept))

    @property
    def slots(self) -> Slots:
        """Return one place per share of the cluster's CPUs or GPUs; nodes that come later are used as well."""
        resources = self._started().cluster_resources()
        if self._device == "cuda":
            count = int(resources.get("GPU", 0) // self._gpus_each)
        else:
            count = int(resources.get("CPU", 1)) // self._cpus_each
        return Slots(self._device, tuple(Slot(index, self._device) for index in range(max(1, count))))

    @property
    def _cpus_each(self) -> int:
        """Return how many CPUs a trial takes."""
        return max(1, self.wish.threads) * self.wish.devices

    @property
    def _gpus_each(self) -> float:
        """Return how many GPUs a trial takes: several, or a share of one."""
        return self.wish.devices if self.wish.devices > 1 else 1 / (self.wish.per_device or 1)

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        """Check the nodes, then the recipe in a worker on this machine.

        Raises:
            EnvironmentProblem: "another Python or torch" on a node.
        """
        self._check_nodes()
        here = ProcessExecutor(replace(self.wish, workers=1), self.on_progress, Deadlines(self.deadline))
        answer = here.preflight(recipe, env)
        self._device = answer.device
        self._decoded = decoded_of(answer, self._sent)
        self._foreseen = Foreseen(answer.peak_memory_bytes, None if answer.room is None else answer.room.model)
        return answer

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        ray = self._started()
        lost: Counter[tuple[str, int | None]] = Counter()
        env = replace(env, device=self._device)
        if self._board is None:
            self._board = start_board(ray)
        heard = Heard(ray, self._board, Hearing(env, self.on_progress))
        running = dict(self._submit(item, env, heard) for item in items)
        try:
            while running:
                done, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_SECONDS)
                heard.look()
                for reference in done:
                    item, job, key = running.pop(reference)
                    heard.end(key)
                    try:
                        answer, contents, node = ray.get(reference)
                    except ray.exceptions.RayError as error:  # its process, its node or the connection is gone
                        lost[item.key] += 1
                        if lost[item.key] < KILLED_TRIES:
                            running |= [self._submit(item, env, heard)]
                        else:
                            yield _lost(item, error, lost[item.key])
                        continue
                    if (larger := self._node_with_more(answer, node)) is not None:
                        running |= [self._submit(item, env, heard, larger)]
                        continue
                    self._sent.drop(job.files.values())  # other jobs that need them hold references of their own
                    yield take_in(answer, item, env, Contents(bytes, ray.get, contents))
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = self._board = None

    def _node_with_more(self, answer: Answer, node: str) -> str | None:
        """Return a node with more memory than a trial lacked on this one, or one that is not known; None: no need."""
        if answer.memory_bytes is not None:
            self._memory[node] = answer.memory_bytes
        if (lacked := answer.lacked_bytes) is None:
            return None
        kind = "GPU" if self._device == "cuda" else "CPU"
        others = [one["NodeID"] for one in self._nodes() if one["Resources"].get(kind)]
        return next((one for one in others if self._memory.get(one, lacked + 1) > lacked), None)

    def _submit(
        self, item: WorkItem, env: TrialEnv, heard: Heard, node: str | None = None
    ) -> tuple[Any, tuple[WorkItem, Job, str]]:
        """Give a trial to the cluster; return the reference to its answer, what it is, and the key of its news."""
        share: dict[str, Any] = {"num_gpus": self._gpus_each} if self._device == "cuda" else {}
        if node is not None:
            share["scheduling_strategy"] = only_on(node)
        task = self._task(_run_job, num_cpus=self._cpus_each, **share)
        job = job_of(item, env, self._sent, self._decoded, self.deadline)
        needed = {*job.files.values(), *job.user_files.values(), *job.decoded.values()}
        contents, key = {digest: self._sent.kept[digest] for digest in needed}, heard.begin(item)
        return task.remote(job, contents, self._foreseen, Sender(heard.board, key)), (item, job, key)

    def _task(self, function: Callable[..., Any], **resources: Any) -> Any:
        return self._started().remote(function).options(max_retries=0, **resources)

    def _started(self) -> Any:
        """Return the `ray` module, connected.

        Raises:
            EnvironmentProblem: ray is not installed; there is no cluster at the address.
        """
        if self._ray is not None:
            return self._ray
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without a GPU keeps its environment
        try:
            import ray
        except ImportError as error:
            raise EnvironmentProblem("--engine ray: ray is not installed", "pip install 'tuner[ray]'") from error
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
        cpus: dict[str, Any] = {} if self.cluster.address or not self.wish.workers else {"num_cpus": self.wish.workers}
        where = self.cluster.address or "local"
        try:
            ray.init(address=where, include_dashboard=None if self.cluster.address else False, **quiet, **cpus)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            text = f"--address: no Ray cluster at {where!r}: {error}"
            raise EnvironmentProblem(text, "Start one with `ray start --head`, or leave --address out.") from error
        self._ray = ray
        return ray

    def _check_nodes(self) -> None:
        """Ask every node what it has.

        Raises:
            EnvironmentProblem: a node differs from this machine, or does not answer.
        """
        mine = versions()
        for node in self._nodes():
            found = self._versions_on(node["NodeID"], node["NodeManagerAddress"])
            if found is not None and (differs := differences(found, mine)):
                raise EnvironmentProblem(f"node {node['NodeManagerAddress']} has another {differs}", FIX)

    def _versions_on(self, node: str, address: str) -> dict[str, str] | None:
        """Return what a node says of itself; None: it was lost meanwhile.

        Raises:
            EnvironmentProblem: "cannot run tuner".
        """
        ray, why = self._started(), ""
        for _ in range(KILLED_TRIES):
            asked = self._task(versions, num_cpus=0, scheduling_strategy=only_on(node)).remote()
            try:
                return ray.get(asked, timeout=CHECK_SECONDS)
            except ray.exceptions.TaskUnschedulableError:  # there is no such node any more
                return None
            except ray.exceptions.GetTimeoutError:
                why = f"it has not answered in {CHECK_SECONDS:.0f} s"
                break
            except Exception as error:
                why = " ".join(str(error).split())[-300:]
            if node not in {one["NodeID"] for one in self._nodes()}:
                return None
        raise EnvironmentProblem(f"node {address} cannot run tuner: {why}", FIX)

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that live and have a CPU."""
        return [node for node in self._started().nodes() if node["Alive"] and node["Resources"].get("CPU")]


def only_on(node: str) -> Any:
    """Return the strategy that puts a task on one node, and nowhere else."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _run_job(
    job: Job, sent: Mapping[str, Any], foreseen: Foreseen, send: Sender
) -> tuple[Answer, dict[str, bytes], str]:
    """Carry out a job in a Ray task, with the GPU that Ray gave; return the answer, the contents left, and the node."""
    import ray

    begin_server()  # on a node that has just come it loads torch while the files arrive
    contents, teller = Contents(bytes, ray.get, dict(sent)), Teller(send)
    gpu = gpus_of_task() if job.device == "cuda" else None
    memory = memory_of(Slot(0, job.device, gpu), machine_of_task() if gpu is not None else without_gpus())
    try:
        answer = carry_out(job, contents, Outfit(gpu, teller.hear, teller.tell, memory, foreseen))
    except ray.exceptions.RayError:  # what the cluster has lost; the job is given out again
        raise
    except Exception as error:
        answer = Answer.raised(error)
    left = {digest: contents.load(digest) for digest in answer.files.values()}
    return answer, left, ray.get_runtime_context().get_node_id()


@functools.cache  # Ray keeps the process for later tasks with the same GPU
def machine_of_task() -> Inventory:
    """Return what the machine has as far as this task sees it, its GPU's memory too."""
    return look()


def gpus_of_task() -> str:
    """Return the GPUs that Ray gave to this task, as CUDA_VISIBLE_DEVICES names them."""
    import ray

    return ",".join(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


def _lost(item: WorkItem, error: Exception, times: int) -> TrialResult:
    text = f"its Ray task was lost {times} times ({type(error).__name__})"
    hint = "Look at the nodes' logs; run with --engine serial to see it happen in this process."
    return TrialResult(item.spec.id, item.until_epoch, "failed", error=TrialError("crash", text, hint))
