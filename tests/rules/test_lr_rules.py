import pytest

from tuner.rules import Missing, lr


def entry(rate, drop, status="completed", std=0.01):
    return {"lr": rate, "drop": drop, "drop_std": std, "status": status}


RATES = [entry(1e-3, 0.4), entry(1e-2, 1.0), entry(1e-1, 0.6)]
SOUND = {
    "rates": RATES, "noise": 0.01, "recipe_lr": 0.01, "best_lr": 1e-2, "lr": 0.02, "lr_low": 1e-2, "lr_high": 1e-1,
    "edge": None, "errors": [], "precision": {"precision": "bf16", "candidate": "bf16", "lr": 0.01, "seeds": 3},
}  # fmt: skip
NO_BAND = {**SOUND, "lr": None, "lr_low": None, "lr_high": None, "best_lr": None}
ALL = [lr.band_at_edge, lr.nothing_falls, lr.all_diverge, lr.recipe_rate_too_high, lr.recipe_rate_too_low,
       lr.noise_larger_than_drop, lr.all_failed, lr.short_format_differs]  # fmt: skip


@pytest.mark.parametrize("check", ALL)
def test_a_sound_sweep_is_silent(check):
    assert check(SOUND) is None


@pytest.mark.parametrize("check", ALL)
def test_nothing_measured_is_missing(check):
    with pytest.raises(Missing):
        check({})


def test_an_edge_names_the_rate():
    finding = lr.band_at_edge({**SOUND, "edge": "high"})
    assert (finding.cause, finding.severity) == ("lr-band-at-edge", "warn")
    assert finding.title == "the best rate, 0.01, is the last that was tried"


def test_nothing_falls_needs_a_measured_drop():
    flat = {**NO_BAND, "rates": [entry(1e-3, 0.01), entry(1e-2, -0.2)]}
    assert lr.nothing_falls(flat).severity == "error"
    assert lr.nothing_falls({**NO_BAND, "rates": [entry(1e-3, None, "diverged")]}) is None


def test_all_diverge_needs_all():
    rates = [entry(1e-3, None, "diverged"), entry(1e-2, None, "diverged")]
    assert lr.all_diverge({**NO_BAND, "rates": rates}).cause == "lr-too-high"
    assert lr.all_diverge({**NO_BAND, "rates": [entry(1e-4, 0.0), *rates]}) is None


@pytest.mark.parametrize(("rate", "fires"), [(0.99, False), (1.0, True), (30.0, True), (1e-5, False)])
def test_recipe_rate_too_high_begins_at_ten_times_the_band(rate, fires):
    finding = lr.recipe_rate_too_high({**SOUND, "recipe_lr": rate})
    assert (finding is not None) == fires
    if fires:
        assert (finding.cause, finding.severity, finding.remedy) == ("lr-too-high", "warn", "Set optimizer.lr = 0.02.")


@pytest.mark.parametrize(("rate", "fires"), [(1.01e-3, False), (1e-3, True), (1e-6, True), (10.0, False)])
def test_recipe_rate_too_low_begins_at_a_tenth_of_the_band(rate, fires):
    finding = lr.recipe_rate_too_low({**SOUND, "recipe_lr": rate})
    assert (finding is not None) == fires
    if fires:
        assert (finding.cause, finding.severity) == ("lr-too-low", "warn")


def test_recipe_rates_are_not_judged_without_a_band():
    for check in (lr.recipe_rate_too_high, lr.recipe_rate_too_low, lr.noise_larger_than_drop):
        with pytest.raises(Missing, match="no band"):
            check(NO_BAND)


@pytest.mark.parametrize(("std", "fires"), [(0.5, False), (0.51, True)])
def test_noise_fires_above_half_of_the_drop(std, fires):
    rates = [entry(1e-3, 0.4), entry(1e-2, 1.0, std=std)]
    assert (lr.noise_larger_than_drop({**SOUND, "rates": rates}) is not None) == fires


def test_noise_of_a_single_seed_is_missing():
    with pytest.raises(Missing, match="single seed"):
        lr.noise_larger_than_drop({**SOUND, "rates": [entry(1e-2, 1.0, std=None)]})


def test_failed_rates_beside_measured_ones_are_no_error():
    failed = entry(1e-3, None, "failed")
    assert lr.all_failed({**NO_BAND, "rates": [failed], "errors": ["boom\nmore"]}).title.endswith("rates failed: boom")
    assert lr.all_failed({**SOUND, "rates": [failed, entry(1e-2, 1.0)]}) is None


def test_a_short_format_that_does_not_train_like_fp32_is_a_note():
    tried = {"precision": "fp32", "reason": "why", "candidate": "bf16", "lr": 0.01, "seeds": 3}
    finding = lr.short_format_differs({**SOUND, "precision": tried})
    assert (finding.cause, finding.severity) == ("precision-problem", "note")
    assert finding.evidence["lr"] == 0.01
    assert lr.short_format_differs({**SOUND, "precision": {"precision": "fp32", "candidate": None}}) is None
