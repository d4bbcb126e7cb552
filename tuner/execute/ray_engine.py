"""Run trials on a Ray cluster (`--engine ray`): one Ray task per trial, in which our own worker process trains.

Ray places tasks and carries bytes, no more: faults and deadlines of a trial are the worker's (see `processes`), and
only this side writes into the run. A task whose node or process is lost is given out again by us, not by Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tuner.core.errors import EnvironmentProblem, TunerError
from tuner.core.preflight import Preflight
from tuner.core.result import TrialError, TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.base import OnProgress
from tuner.execute.crashes import KILLED_TRIES
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.remote import Job, carry_out, job_of, take_in
from tuner.execute.slots import Slot, Slots, Wish

CHECK_SECONDS = 120.0  # that a node may take to say which Python and torch it has


@dataclass(frozen=True)
class Cluster:
    """`address`: of a running Ray cluster; None: one on this machine, which ends with the command."""

    address: str | None = None


class RayExecutor:
    """One Ray task per trial. `wish.workers` and `wish.threads` say how many run at once, and on how many CPUs each."""

    def __init__(self, wish: Wish, cluster: Cluster, on_progress: OnProgress, deadline: float | None = None) -> None:
        self.wish = wish
        self.cluster = cluster
        self.on_progress = on_progress
        self.deadline = deadline
        self._device = "cpu"
        self._ray: Any = None

    @property
    def slots(self) -> Slots:
        """Return one place per share of the cluster's CPUs or GPUs; nodes that come later are used as well."""
        resources = self._started().cluster_resources()
        if self._device == "cuda":
            count = int(resources.get("GPU", 0)) * (self.wish.per_device or 1)
        else:
            count = int(resources.get("CPU", 1)) // max(1, self.wish.threads)
        return Slots(self._device, tuple(Slot(index, self._device) for index in range(max(1, count))))

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        """Check the nodes, then the recipe in a worker on this machine.

        Raises:
            EnvironmentProblem: "another Python or torch" on a node.
        """
        self._check_nodes()
        here = ProcessExecutor(replace(self.wish, workers=1), self.on_progress, Deadlines(self.deadline))
        answer = here.preflight(recipe, env)
        self._device = answer.device
        return answer

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        ray = self._started()
        lost: Counter[tuple[str, int | None]] = Counter()
        env = replace(env, device=self._device)
        running = {self._submit(item, env): item for item in items}
        try:
            while running:
                done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                for reference in done:
                    item = running.pop(reference)
                    try:
                        kind, value = ray.get(reference)
                    except ray.exceptions.RayError as error:  # its process, its node or the connection is gone
                        lost[item.key] += 1
                        if lost[item.key] < KILLED_TRIES:
                            running[self._submit(item, env)] = item
                        else:
                            yield _lost(item, error, lost[item.key])
                        continue
                    if kind == "raised":
                        raise value
                    yield take_in(value, item, env)
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None

    def _submit(self, item: WorkItem, env: TrialEnv) -> Any:
        share = {"num_gpus": 1 / (self.wish.per_device or 1)} if self._device == "cuda" else {}
        task = self._task(_run_job, num_cpus=max(1, self.wish.threads), **share)
        return task.remote(job_of(item, env, self.deadline))

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
        ray = self._started()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        mine = versions()
        for node in ray.nodes():
            if not node["Alive"] or not node["Resources"].get("CPU"):
                continue
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            try:
                found = ray.get(
                    self._task(versions, num_cpus=0, scheduling_strategy=there).remote(), timeout=CHECK_SECONDS
                )
            except Exception as error:
                why = " ".join(str(error).split())[-300:]
                text = f"node {node['NodeManagerAddress']} cannot run tuner: {why}"
                raise EnvironmentProblem(text, "Install the same Python and tuner on every node.") from error
            differs = [f"{name} {found[name]} (here {mine[name]})" for name in mine if found[name] != mine[name]]
            if differs:
                text = f"node {node['NodeManagerAddress']} has another {', '.join(differs)}"
                raise EnvironmentProblem(text, "Install the same Python and tuner on every node.")


def versions() -> dict[str, str]:
    """Return what nodes must have alike: the versions of Python, tuner and torch."""
    found = {"Python": platform.python_version()}
    for name in ("tuner", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _run_job(job: Job) -> tuple[str, Any]:
    """Carry out a job in a Ray task, with the GPU that Ray gave to it."""
    import ray

    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    try:
        return "answer", carry_out(job, ",".join(gpus) if job.device == "cuda" else None)
    except TunerError as error:
        return "raised", error


def _lost(item: WorkItem, error: Exception, times: int) -> TrialResult:
    text = f"its Ray task was lost {times} times ({type(error).__name__})"
    hint = "Look at the nodes' logs; run with --engine serial to see it happen in this process."
    return TrialResult(item.spec.id, item.until_epoch, "failed", error=TrialError("crash", text, hint))
