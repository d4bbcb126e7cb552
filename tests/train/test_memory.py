"""What training takes of memory, measured, and trials that are not started for it."""

from dataclasses import replace

import pytest

from tests.train.training_cases import make_case
from tuner.core.errors import UsageError
from tuner.core.memory import Measured, MemoryModel, Needs, Room
from tuner.core.trial import WorkItem, apply_overrides
from tuner.train import memory
from tuner.train.preflight import preflight
from tuner.train.trial import run_trial

GB = 10**9


def test_what_a_forward_pass_saves_is_what_a_hand_counts(tmp_path):
    needs = memory.needs_of(make_case(tmp_path).setup())  # Linear(4, 6), ReLU, Linear(6, 3)
    assert needs.weights_bytes == 4 * (4 * 6 + 6 + 6 * 3 + 3)
    assert needs.saved_bytes == 4 * (4 + 6)  # the inputs of the layers; ReLU's result is the second's


@pytest.mark.parametrize(("optimizer", "copies"), [("sgd", 2), ("adam", 4)])
def test_copies_of_the_weights_are_those_of_the_optimizer(tmp_path, optimizer, copies):
    case = make_case(tmp_path, overrides={"optimizer.name": optimizer})
    peak, found = memory.peak_of_training(case.setup(), 8)
    assert found == copies and peak > 10**8  # of the process, libraries included


@pytest.mark.parametrize(("batch", "sizes"), [(256, [32, 128]), (8, [2, 8]), (1, [2, 8])])
def test_a_configuration_is_measured_at_an_eighth_and_a_half_of_its_batch(batch, sizes):
    assert memory.two_sizes(batch, saved_bytes=1e8, examples=50_000) == sizes


@pytest.mark.parametrize(("examples", "sizes"), [(50_000, [200, 800]), (100, [25, 100]), (3, [2, 8])])
def test_batches_that_save_little_are_measured_larger_as_far_as_there_are_examples(examples, sizes):
    assert memory.two_sizes(8, saved_bytes=250_000, examples=examples) == sizes


def searched(case, search):
    return preflight({**case.tables, "search": search}, case.env)


def test_memory_is_measured_at_the_recipes_width_and_the_smallest_that_differs(tmp_path):
    case = make_case(tmp_path, overrides={"train.batch_size": 16})
    found = searched(case, {"model.width": {"low": 16, "high": 512}})
    assert found.room.limit_bytes == found.inventory.memory_bytes
    first, second = found.room.model.measured
    assert [size for size, _ in first.peaks] == [size for size, _ in second.peaks] == [10, 40]
    assert (first.needs.saved_bytes, second.needs.saved_bytes) == (
        4 * (4 + 6),
        4 * (4 + 16),
    )


def test_nothing_is_measured_where_memory_does_not_depend_on_the_search(tmp_path):
    assert searched(make_case(tmp_path), {"optimizer.lr": {"low": 1e-3, "high": 1.0, "log": True}}).room is None


def test_a_recipe_whose_batch_cannot_fit_is_refused_without_a_step(tmp_path, monkeypatch):
    monkeypatch.setattr("tuner.train.preflight.limit_bytes", lambda *_: 500)
    monkeypatch.setattr("tuner.train.preflight._try_step", lambda *_: pytest.fail("a step was made"))
    found = preflight(make_case(tmp_path).tables, make_case(tmp_path).env)
    assert dict(found.problems)["train.batch_size"].startswith("the model at batch 8 needs")
    assert "`tuner inspect --batch-size` says what fits" in found.hints[0]


def case_and_room(tmp_path, width, limit):
    """A trial of a width, on a device where an example takes 10 MB for each byte that is saved, beside 1 GB."""
    case = make_case(tmp_path)
    overrides = {"model.width": width}
    spec = replace(case.spec(), tables=apply_overrides(case.tables, overrides), overrides=overrides)
    model = MemoryModel([Measured(Needs(0, 40.0), 0, ((1, 14 * GB // 10), (2, 18 * GB // 10)))])
    return WorkItem(spec, 0), replace(case.env, room=Room(model, limit))


def test_a_trial_that_cannot_fit_is_not_started_and_says_what_it_needs(tmp_path):
    result = run_trial(*case_and_room(tmp_path, width=128, limit=24 * GB))  # 4 (4 + 128) bytes saved, a batch of 8
    assert (result.status, result.error.kind) == ("failed", "oom")
    assert result.error.message == "not started: width 128 at batch 8 needs 43 GB of 24 GB"
    assert result.curve == []


def test_a_trial_that_fits_is_the_same_as_without_looking(tmp_path):
    item, env = case_and_room(tmp_path, width=16, limit=24 * GB)
    seen, blind = run_trial(item, env), run_trial(item, replace(env, room=None))
    assert seen.status == "completed" and seen.curve == blind.curve


def test_a_model_that_fails_on_two_examples_is_not_foreseen(tmp_path):
    code = """
from torch import nn
class Net(nn.Linear):
    def forward(self, inputs):
        assert len(inputs) > 2
        return super().forward(inputs)
def build(num_classes):
    return Net(4, num_classes)
"""
    case = make_case(tmp_path, code, {"model": {"name": "mine.py:build"}})
    setup = replace(case.setup(), env=replace(case.env, room=case_and_room(tmp_path / "b", 6, 0)[1].room))
    assert memory.refusal(setup) is None


def test_a_recipe_that_fits_is_not_refused(tmp_path):
    memory.check_fits(make_case(tmp_path).setup(), 10_000)
    with pytest.raises(UsageError, match=r"train.batch_size: the model at batch 8 needs .* of .*, or more"):
        memory.check_fits(make_case(tmp_path).setup(), 500)
