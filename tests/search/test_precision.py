import math
import random

import pytest

from tuner.search.band import Band, Rate, near
from tuner.search.precision import candidate, parity


def curves(seeds, shift=0.0, noise=0.05, between=0.02, stream=0):
    """Curves that fall from 2.3 by 1.5 in 100 steps, per seed a little apart; `shift` is added once training is on."""
    rows = []
    for seed in range(seeds):
        apart = random.Random(seed).gauss(0, between)
        rng = random.Random(1000 * stream + seed)
        falling = [2.3 - 1.5 * (step / 99) ** 0.5 + apart + rng.gauss(0, noise) for step in range(100)]
        rows.append([loss + (shift if step else 0.0) for step, loss in enumerate(falling)])
    return rows


def test_the_same_curves_agree_exactly():
    found = parity(curves(3), curves(3))
    assert found["agree"] and found["mean_difference"] == found["final_difference"] == 0.0


def test_curves_that_differ_by_the_noise_of_batches_agree_nineteen_times_in_twenty_or_more():
    agreed = [parity(curves(3), curves(3, stream=stream))["agree"] for stream in range(1, 101)]
    assert sum(agreed) >= 95


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_shift_of_a_tenth_of_the_drop_is_seen(seeds):
    found = parity(curves(seeds), curves(seeds, shift=0.15, stream=1))
    assert not found["agree"] and "noise between seeds" in found["why"]
    assert found["final_difference"] == pytest.approx(0.15, abs=0.05)


def test_a_difference_of_a_hundredth_of_the_drop_is_let_pass_without_any_noise():
    assert parity(curves(3, noise=0, between=0), curves(3, shift=0.015, noise=0, between=0))["agree"]
    assert not parity(curves(3, noise=0, between=0), curves(3, shift=0.045, noise=0, between=0))["agree"]


@pytest.mark.parametrize("short", [[], [[2.3, math.nan]], [[2.3, math.inf, 1.0]], [[2.3]]])
def test_curves_that_end_or_are_not_there_do_not_agree(short):
    assert not parity(curves(3), short)["agree"]


@pytest.mark.parametrize(
    ("facts", "device", "expected"),
    [
        ({"short": "bf16", "multiply_adds": 10**8}, "cpu", "bf16"),
        ({"short": "bf16", "multiply_adds": 10**8 - 1}, "cpu", None),
        ({"short": "bf16", "multiply_adds": 10**9, "grouped": True}, "cpu", None),
        ({"short": "bf16", "multiply_adds": 10**9, "grouped": True}, "cuda", "bf16"),
        ({"short": "fp16", "multiply_adds": 10**9}, "cuda", "fp16"),
        ({"short": None, "multiply_adds": 10**9}, "cpu", None),
        ({"short": "bf16", "multiply_adds": 10**12}, "mps", None),
        ({}, "cpu", None),
    ],
)
def test_the_candidate_follows_from_the_facts(facts, device, expected):
    name, reason = candidate(facts, device)
    assert name == expected and reason


def test_the_check_is_made_at_the_measured_rate_nearest_to_the_chosen_one():
    rates = (*(Rate(lr, "completed", drop=1.0) for lr in (1e-3, 1e-2, 3e-2)), Rate(1e-1, "diverged"))
    assert near(Band(rates, 0.0, lr=0.017)).lr == 1e-2
    assert near(Band(rates, 0.0, lr=0.09)).lr == 3e-2  # not one that diverged
    assert near(Band(rates, 0.0)) is None
