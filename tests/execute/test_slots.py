"""Slots, planned and leased on machines that are not here."""

import pytest

from tuner.core.errors import EnvironmentProblem, UsageError
from tuner.core.inventory import Gpu, Inventory, parse_device
from tuner.execute.slots import Leases, Wish, alone, plan_slots

GB = 10**9


def machine(gpus=0, cores=16, memory=64, free=80, **more):
    devices = tuple(Gpu(str(index), "H100", 80 * GB, free * GB) for index in range(gpus))
    return Inventory(cores, memory * GB, devices, **more)


def per_gpu(slots):
    return {name: sum(slot.gpu == name for slot in slots) for name in sorted({slot.gpu for slot in slots})}


def test_four_devices_of_80_gb_hold_three_trials_of_18_gb_each():
    slots = plan_slots(machine(gpus=4), Wish(), 18 * GB)
    assert slots.device == "cuda" and len(slots) == 12  # 0.95 * 80 / (1.2 * 18 + 0.6) = 3.4
    assert per_gpu(slots) == {"0": 3, "1": 3, "2": 3, "3": 3}
    assert [slot.gpu for slot in slots][:5] == ["0", "1", "2", "3", "0"]
    assert {slot.device for slot in slots} == {"cuda"}  # the kind alone: a trial does not know the number
    assert slots.places[6].environ == {"CUDA_VISIBLE_DEVICES": "2"}


def test_eight_devices_have_one_trial_each_until_the_peak_is_known():
    slots = plan_slots(machine(gpus=8, cores=64), Wish())
    assert per_gpu(slots) == {str(index): 1 for index in range(8)}


def test_a_trial_that_does_not_fit_is_tried_on_every_device_alone():
    assert len(plan_slots(machine(gpus=8, cores=64), Wish(), 200 * GB)) == 8


def test_memory_that_others_use_is_not_planned_with():
    assert len(plan_slots(machine(gpus=1, free=40), Wish(), 18 * GB)) == 1
    assert len(plan_slots(machine(gpus=1, free=80), Wish(), 18 * GB)) == 3


def test_no_more_small_trials_on_a_gpu_than_cores_feed():
    assert len(plan_slots(machine(gpus=2, cores=16), Wish(), GB)) == 16
    assert len(plan_slots(machine(gpus=2, cores=16), Wish(threads=4), GB)) == 4


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish("cuda:0,cuda:2"), {"0": 3, "2": 3}),
        (Wish("cuda:3"), {"3": 3}),
        (Wish(per_device=2), {"0": 2, "1": 2, "2": 2, "3": 2}),
        (Wish(workers=6), {"0": 2, "1": 2, "2": 1, "3": 1}),
        (Wish(workers=40), {"0": 10, "1": 10, "2": 10, "3": 10}),
        (Wish(workers=5, per_device=2), {"0": 2, "1": 1, "2": 1, "3": 1}),
        (Wish("cuda:1", workers=1), {"1": 1}),
    ],
)
def test_what_the_user_asks_for_is_done(wish, expected):
    assert per_gpu(plan_slots(machine(gpus=4), wish, 18 * GB)) == expected


def test_devices_keep_the_names_that_the_environment_gives_them():
    gpus = tuple(Gpu(name, "A100", 40 * GB, 40 * GB) for name in ("5", "GPU-8f3a"))
    slots = plan_slots(Inventory(8, 64 * GB, gpus), Wish("cuda:1"))
    assert [slot.environ for slot in slots] == [{"CUDA_VISIBLE_DEVICES": "GPU-8f3a"}]


def test_a_cpu_has_a_slot_per_core_as_memory_allows():
    assert len(plan_slots(machine(cores=16, memory=64), Wish())) == 16
    assert len(plan_slots(machine(cores=16, memory=8), Wish())) == 5  # 1.5 GB each
    assert len(plan_slots(machine(cores=16, memory=64), Wish(), 10 * GB)) == 5  # 1.2 * 10 GB each
    assert len(plan_slots(machine(cores=16, memory=64), Wish(threads=4))) == 4
    assert len(plan_slots(machine(cores=1, memory=1), Wish())) == 1
    assert len(plan_slots(machine(gpus=4, cores=6), Wish("cpu"))) == 6
    slots = plan_slots(machine(cores=2), Wish(workers=3))
    assert [(slot.index, slot.device, slot.environ) for slot in slots] == [(i, "cpu", {}) for i in range(3)]


def test_an_apple_gpu_has_one_slot():
    slots = plan_slots(machine(mps=True), Wish("mps"), GB)
    assert [(slot.device, slot.environ) for slot in slots] == [("mps", {})]
    assert plan_slots(machine(mps=True), Wish()).device == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:4", "cuda:0,cuda:9", "mps"])
def test_a_device_that_is_not_there_is_an_error_of_the_environment(device):
    gpus = 0 if device == "cuda" else 4
    with pytest.raises(EnvironmentProblem, match=rf"--device: there is no '{device}' here \(there is: 1 cpu"):
        plan_slots(machine(gpus=gpus), Wish(device))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "unknown device 'gpu'"),
        ("cpu:0", "unknown device 'cpu:0'"),
        ("cuda:", "unknown device 'cuda:'"),
        ("cuda:1x", "unknown device 'cuda:1x'"),
        ("", "unknown device ''"),
        ("cuda:0,cpu", "a list takes devices of one kind, each once and with its number"),
        ("cuda,cuda:1", "a list takes devices of one kind"),
        ("cuda:1,cuda:1", "a list takes devices of one kind, each once"),
    ],
)
def test_a_device_that_cannot_be_read_is_named(text, message):
    with pytest.raises(UsageError, match=f"--device: {message}"):
        parse_device(text)


def test_devices_are_read():
    assert parse_device("auto") == ("auto", ())
    assert parse_device("cuda:0, cuda:2") == ("cuda", (0, 2))


def test_a_lease_goes_to_the_device_with_the_fewest_trials():
    leases = Leases(plan_slots(machine(gpus=2), Wish(per_device=2)))
    taken = [leases.take() for _ in range(5)]
    assert [slot and slot.gpu for slot in taken] == ["0", "1", "0", "1", None]
    assert len({slot.index for slot in taken if slot}) == 4
    for slot in (taken[1], taken[3], taken[0]):
        leases.give_back(slot)
    assert [leases.take().gpu for _ in range(3)] == ["1", "0", "1"]


def test_what_found_no_memory_beside_others_can_have_a_device_to_itself():
    slots = plan_slots(machine(gpus=2), Wish(per_device=3))
    assert all(slots.beside(slot) for slot in slots)
    assert [slot.gpu for slot in alone(slots)] == ["0", "1"]
    assert not any(alone(slots).beside(slot) for slot in alone(slots))
    assert len(alone(plan_slots(machine(cores=8), Wish()))) == 1


def test_trials_on_two_devices_have_fixed_pairs_of_gpus():
    slots = plan_slots(machine(gpus=8, cores=64), Wish(devices=2), 30 * GB)  # 2 of 30 GB fit on each
    assert per_gpu(slots) == {"0,1": 2, "2,3": 2, "4,5": 2, "6,7": 2}
    assert slots.places[1].environ == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert [slot.gpu for slot in alone(slots)] == ["0,1", "2,3", "4,5", "6,7"]


def test_a_gpu_that_is_left_over_stays_idle():
    assert per_gpu(plan_slots(machine(gpus=5), Wish(devices=2))) == {"0,1": 1, "2,3": 1}
    assert per_gpu(plan_slots(machine(gpus=4), Wish("cuda:3,cuda:1", devices=2))) == {"3,1": 1}


def test_the_smallest_of_a_pair_says_how_many_trials_fit():
    gpus = tuple(Gpu(str(index), "A100", 80 * GB, free * GB) for index, free in enumerate((80, 40)))
    assert len(plan_slots(Inventory(64, 64 * GB, gpus), Wish(devices=2), 30 * GB)) == 1


def test_a_cpu_gives_a_trial_on_two_devices_two_processes():
    assert len(plan_slots(machine(cores=8), Wish("cpu", devices=2))) == 4
    assert len(plan_slots(machine(cores=8, memory=7), Wish("cpu", devices=2))) == 2  # 1.5 GB for each process
    assert len(plan_slots(machine(cores=1), Wish("cpu", devices=2))) == 1


@pytest.mark.parametrize(
    ("inventory", "device", "message"),
    [
        (machine(gpus=1), "auto", "there is 1 CUDA device here"),
        (machine(gpus=8), "cuda:0,cuda:1", "there are 2 CUDA devices here"),
        (machine(mps=True), "mps", "there is 1 Apple GPU here"),
    ],
)
def test_too_few_devices_for_a_trial_are_refused(inventory, device, message):
    with pytest.raises(EnvironmentProblem, match=f"train.devices_per_trial = 4: {message}"):
        plan_slots(inventory, Wish(device, devices=4))
