"""Stacks in worker processes: the results are those of the serial engine, whatever befalls the process of a stack."""

import json
import os
import signal

import pytest

from tests.train.test_stacked import items_of
from tests.train.training_cases import make_case, without_clock
from tuner.execute import processes
from tuner.execute.processes import ProcessExecutor
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Wish


@pytest.fixture
def begun(monkeypatch):
    """The numbers of the trials of each process that an executor has started."""
    found = []
    begin = ProcessExecutor._begin

    def note(self, slot, items, env):
        found.append([item.number for item in items])
        begin(self, slot, items, env)

    monkeypatch.setattr(ProcessExecutor, "_begin", note)
    return found


def run(items, env, stack=8):
    executor = ProcessExecutor(Wish("cpu", workers=1, stack=stack), lambda progress: None)
    try:
        return found(executor.run(items, env))
    finally:
        executor.close()


def found(results):
    return {result.id: json.dumps(without_clock(result), sort_keys=True) for result in results}


def alone(items, env):
    return found(SerialExecutor(Wish(), lambda progress: None).run(items, env))


def test_a_stack_has_one_process_and_gives_what_the_serial_engine_gives(tmp_path, begun):
    case = make_case(tmp_path, overrides={"optimizer.momentum": 0.9})
    items = items_of(case)
    assert run(items, case.env) == alone(items, case.env)
    assert begun == [[0, 1, 2, 3, 4]]


def test_trials_are_by_themselves_where_nobody_has_measured_that_stacks_pay(tmp_path, begun):
    case = make_case(tmp_path)
    run(items_of(case), case.env, stack=None)
    assert begun == [[0], [1], [2], [3], [4]]


def test_trials_of_a_stack_that_was_killed_are_run_by_themselves(tmp_path, begun, monkeypatch):
    case = make_case(tmp_path)
    items = items_of(case)
    crew, killed = processes.Crew, []

    def dies(slot, group, env):
        made = crew(slot, group, env)
        if len(group) > 1:
            os.kill(made.first.pid, signal.SIGKILL)
            killed.append(len(group))
        return made

    monkeypatch.setattr(processes, "Crew", dies)
    assert run(items, case.env) == alone(items, case.env)
    assert killed == [5] and begun[1:] == [[0], [1], [2], [3], [4]]


def test_trials_of_a_stack_that_is_past_its_deadline_are_run_by_themselves(tmp_path, begun, monkeypatch):
    case = make_case(tmp_path)
    items = items_of(case, rates=(0.1, 0.2))
    past = "no sign of life for 2 minutes"
    monkeypatch.setattr(ProcessExecutor, "_exceeded", lambda self, worker: past if worker.count > 1 else None)
    assert run(items, case.env) == alone(items, case.env)
    assert begun == [[0, 1], [0], [1]]


def test_trials_that_turn_out_to_have_no_stacked_form_are_run_by_themselves(tmp_path, begun):
    case = make_case(tmp_path, overrides={"data.source": "mine.py:images", "model": {"name": "convnet", "width": 4}})
    items = items_of(case, rates=(0.1, 0.2))
    assert run(items, case.env) == alone(items, case.env)
    assert begun == [[0, 1], [0], [1]]


def test_a_preflight_that_measured_no_gain_leaves_trials_by_themselves(tmp_path, begun):
    case = make_case(tmp_path, overrides={"data.source": "mine.py:images", "model": {"name": "convnet", "width": 4}})
    executor = ProcessExecutor(Wish("cpu", workers=1), lambda progress: None)
    try:
        answer = executor.preflight({**case.tables, "search": {}}, case.env)
        assert answer.stacking.why == "Conv2d has no stacked form"
        list(executor.run(items_of(case, rates=(0.1, 0.2)), case.env))
    finally:
        executor.close()
    assert begun == [[0], [1]]


def test_trials_that_are_added_later_join_those_that_wait(tmp_path, begun):
    case = make_case(tmp_path)
    items = items_of(case)
    executor = ProcessExecutor(Wish("cpu", workers=1, stack=3), lambda progress: None)
    try:
        results = executor.run(items[:1], case.env)
        executor_results = [next(results)]
        for item in items[1:]:
            executor.add([item])
        executor_results += list(results)
    finally:
        executor.close()
    assert begun == [[0], [1, 3], [2, 4]]
    assert found(executor_results) == alone(items, case.env)
