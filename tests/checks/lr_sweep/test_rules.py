import pytest

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.lr_sweep.rules import band as lr
from tuner.checks.lr_sweep.rules import settings as lr_settings


def entry(rate, drop, status="completed", std=0.01):
    return {"lr": rate, "drop": drop, "drop_std": std, "status": status}


RATES = [entry(1e-3, 0.4), entry(1e-2, 1.0), entry(1e-1, 0.6)]
SOUND = {
    "rates": RATES, "noise": 0.01, "recipe_lr": 0.01, "best_lr": 1e-2, "lr": 0.02, "lr_low": 1e-2, "lr_high": 1e-1,
    "edge": None, "errors": [], "steps": 100, "momentum": 0.9,
    "precision": {"precision": "bf16", "candidate": "bf16", "lr": 0.01, "seeds": 3},
}  # fmt: skip
NO_BAND = {**SOUND, "lr": None, "lr_low": None, "lr_high": None, "best_lr": None}
ALL = [lr.band_at_edge, lr.nothing_falls, lr.all_diverge, lr.recipe_rate_too_high, lr.recipe_rate_too_low,
       lr.noise_larger_than_drop, lr.all_failed, lr.short_format_differs, lr.rate_has_no_effect,
       lr_settings.forgets_at_once, lr_settings.clipped_away, lr_settings.momentum_outlasts_the_sweep]  # fmt: skip


def asked(check, facts):
    facts = dict(facts)
    earlier = built("earlier", findings=facts.pop("earlier", []))
    return ask(check, built("lr_sweep", **facts), earlier)


@pytest.mark.parametrize("check", ALL)
def test_a_sound_sweep_is_silent(check):
    assert asked(check, SOUND) is None


@pytest.mark.parametrize("check", ALL)
def test_nothing_measured_is_missing(check):
    with pytest.raises(Missing):
        asked(check, {})


def test_an_edge_names_the_rate():
    finding = asked(lr.band_at_edge, {**SOUND, "edge": "high"})
    assert (finding.cause, finding.severity) == ("lr-band-at-edge", "warn")
    assert finding.title == "the best rate, 0.01, is the last that was tried"


def test_nothing_falls_needs_a_measured_drop():
    flat = {**NO_BAND, "rates": [entry(1e-3, 0.01), entry(1e-2, -0.2)]}
    assert asked(lr.nothing_falls, flat).severity == "error"
    assert asked(lr.nothing_falls, {**NO_BAND, "rates": [entry(1e-3, None, "diverged")]}) is None


def test_all_diverge_needs_all():
    rates = [entry(1e-3, None, "diverged"), entry(1e-2, None, "diverged")]
    assert asked(lr.all_diverge, {**NO_BAND, "rates": rates}).cause == "lr-too-high"
    assert asked(lr.all_diverge, {**NO_BAND, "rates": [entry(1e-4, 0.0), *rates]}) is None


@pytest.mark.parametrize(("rate", "fires"), [(0.99, False), (1.0, True), (30.0, True), (1e-5, False)])
def test_recipe_rate_too_high_begins_at_ten_times_the_band(rate, fires):
    finding = asked(lr.recipe_rate_too_high, {**SOUND, "recipe_lr": rate})
    assert (finding is not None) == fires
    if fires:
        assert (finding.cause, finding.severity, finding.remedy) == ("lr-too-high", "warn", "Set optimizer.lr = 0.02.")


@pytest.mark.parametrize(("rate", "fires"), [(1.01e-3, False), (1e-3, True), (1e-6, True), (10.0, False)])
def test_recipe_rate_too_low_begins_at_a_tenth_of_the_band(rate, fires):
    finding = asked(lr.recipe_rate_too_low, {**SOUND, "recipe_lr": rate})
    assert (finding is not None) == fires
    if fires:
        assert (finding.cause, finding.severity) == ("lr-too-low", "warn")


def test_recipe_rates_are_not_judged_without_a_band():
    for check in (lr.recipe_rate_too_high, lr.recipe_rate_too_low, lr.noise_larger_than_drop):
        with pytest.raises(Missing, match="no band"):
            asked(check, NO_BAND)


@pytest.mark.parametrize(("std", "fires"), [(0.5, False), (0.51, True)])
def test_noise_fires_above_half_of_the_drop(std, fires):
    rates = [entry(1e-3, 0.4), entry(1e-2, 1.0, std=std)]
    assert (asked(lr.noise_larger_than_drop, {**SOUND, "rates": rates}) is not None) == fires


def test_noise_of_a_single_seed_is_missing():
    with pytest.raises(Missing, match="single seed"):
        asked(lr.noise_larger_than_drop, {**SOUND, "rates": [entry(1e-2, 1.0, std=None)]})


def test_failed_rates_beside_measured_ones_are_no_error():
    failed = entry(1e-3, None, "failed")
    assert asked(lr.all_failed, {**NO_BAND, "rates": [failed], "errors": ["boom\nmore"]}).title.endswith(
        "rates failed: boom"
    )
    assert asked(lr.all_failed, {**SOUND, "rates": [failed, entry(1e-2, 1.0)]}) is None


def test_a_short_format_that_does_not_train_like_fp32_is_a_note():
    tried = {"precision": "fp32", "reason": "why", "candidate": "bf16", "lr": 0.01, "seeds": 3}
    finding = asked(lr.short_format_differs, {**SOUND, "precision": tried})
    assert (finding.cause, finding.severity) == ("precision-problem", "note")
    assert finding.evidence["lr"] == 0.01
    assert asked(lr.short_format_differs, {**SOUND, "precision": {"precision": "fp32", "candidate": None}}) is None


@pytest.mark.parametrize(
    ("optimizer", "decay", "momentum", "fires"),
    [
        ("sgd", 1.0, 0.0, False),  # 1 % per step
        ("sgd", 1.0, 0.9, True),
        ("sgd", 2.0, 0.0, True),  # 2 %: the border
        ("sgd", 5e-4, 0.9, False),
        ("torch.optim.AdamW", 0.1, None, False),
        ("adamw", 10.0, None, True),
        ("adam", 10.0, None, False),  # an L2 term, which Adam divides by its own size
        ("sgd", None, 0.9, False),
    ],
)
def test_decay_that_forgets_at_once(optimizer, decay, momentum, fires):
    given = {**SOUND, "optimizer": optimizer, "weight_decay": decay, "momentum": momentum}
    finding = asked(lr_settings.forgets_at_once, given)  # the best rate is 1e-2
    assert (finding is not None) == fires
    assert finding is None or (finding.cause, finding.severity) == ("over-regularised", "warn")


def test_a_decay_that_is_unusual_is_judged_at_the_recipes_rate_too():
    given = {**SOUND, "recipe_lr": 0.1, "optimizer": "sgd", "momentum": 0.9}  # the best rate is 1e-2
    assert asked(lr_settings.forgets_at_once, {**given, "weight_decay": 0.1}).evidence["rate"] == 0.1
    # a rate that is far too high makes no usual decay a strong one
    assert asked(lr_settings.forgets_at_once, {**given, "weight_decay": 5e-3, "recipe_lr": 10.0}) is None


@pytest.mark.parametrize(("dropout", "fires"), [(0.5, False), (0.79, False), (0.8, True)])
def test_dropout_that_leaves_next_to_nothing(dropout, fires):
    assert (asked(lr_settings.forgets_at_once, {**SOUND, "dropout": dropout}) is not None) == fires


def test_decay_is_judged_at_the_recipes_rate_where_nothing_falls():
    given = {**NO_BAND, "recipe_lr": 0.1, "optimizer": "sgd", "weight_decay": 1.0, "momentum": 0.0}
    assert asked(lr_settings.forgets_at_once, given).severity == "error"


@pytest.mark.parametrize(
    ("drops", "band", "cause"),
    [
        ([0.5, 0.5, 0.5], {}, "schedule-mistake"),
        ([0.0001, 0.0001, 0.0001], {"lr": None}, "lr-too-low"),
        ([0.5, 0.5, 0.5001], {}, None),
    ],
)
def test_a_rate_without_effect(drops, band, cause):
    rates = [entry(rate, drop) for rate, drop in zip((1e-3, 1e-2, 1e-1), drops, strict=True)]
    both = [asked(rule, {**SOUND, "rates": rates, **band}) for rule in (lr.rate_has_no_effect, lr.nothing_moves)]
    assert [finding.cause for finding in both if finding] == ([cause] if cause else [])


def test_a_rate_without_effect_needs_rates_far_apart():
    with pytest.raises(Missing, match="fewer than three"):
        asked(lr.rate_has_no_effect, {**SOUND, "rates": [entry(1e-3, 0.5), entry(1e-2, 0.5), entry(3e-2, 0.5)]})


@pytest.mark.parametrize(
    ("limit", "changes", "severity"),
    [
        (0.05, {"edge": "high"}, "warn"),
        (0.05, {"lr": None}, "error"),
        (0.05, {}, None),  # the band lies inside: nothing is lost
        (0.051, {"edge": "high"}, None),
        (None, {"edge": "high"}, None),
    ],
)
def test_gradients_clipped_away(limit, changes, severity):
    finding = asked(lr_settings.clipped_away, {**SOUND, "clip_norm": limit, **changes})
    assert (finding.severity if finding else None) == severity


def test_nothing_falls_points_to_an_earlier_warning():
    flat = {**NO_BAND, "rates": [entry(1e-3, 0.01)]}
    warned = {"code": "DA102", "cause": "unnormalised-input", "severity": "warn"}
    first = "Fix what an earlier step has found first (DA102)."
    assert asked(lr.nothing_falls, {**flat, "earlier": [warned]}).remedy == first
    for earlier in ([], [{**warned, "accepted": True}]):
        assert asked(lr.nothing_falls, {**flat, "earlier": earlier}).remedy != first


@pytest.mark.parametrize(
    ("momentum", "steps", "fires"),
    [(0.999, 100, True), (0.999, 60, True), (0.999, 300, False), (0.99, 60, False), (0.99, 20, True), (0.9, 60, False),
     (0.0, 60, False), (None, 60, False), (1.5, 60, False)],
)  # fmt: skip
def test_momentum_that_outlasts_the_sweep(momentum, steps, fires):
    finding = asked(lr_settings.momentum_outlasts_the_sweep, {**SOUND, "momentum": momentum, "steps": steps})
    assert (finding is not None) == fires


def test_the_growth_by_momentum_is_that_of_its_sum():
    """A constant gradient of 1 moves a weight by the velocity: v = momentum x v + 1."""
    velocities = [0.0]
    for _ in range(20_000):
        velocities.append(0.999 * velocities[-1] + 1)
    finding = asked(lr_settings.momentum_outlasts_the_sweep, {**SOUND, "momentum": 0.999})
    assert (finding.cause, finding.severity) == ("lr-too-high", "warn")
    assert finding.evidence["grows"] == pytest.approx(velocities[-1] / velocities[100], rel=1e-6)
    assert finding.evidence["memory"] == pytest.approx(velocities[-1], rel=1e-6)
    assert finding.title == (
        "momentum 0.999 remembers 1000 updates: after the sweep's 100 the steps go on growing, 11 times"
    )


def test_momentum_is_judged_beside_a_sweep_of_known_length():
    with pytest.raises(Missing, match="the length of the sweep is not known"):
        asked(lr_settings.momentum_outlasts_the_sweep, {**SOUND, "steps": None, "momentum": 0.999})


@pytest.mark.parametrize(("rate", "fires"), [(0.9e-3, False), (1e-3, True)])
def test_rates_of_the_sweep_for_trained_weights_are_noted_from_a_decade_above_the_usual_one(rate, fires):
    sweep = {**SOUND, "lr": rate, "trained_before": True}
    finding = asked(lr_settings.rates_for_trained_weights, sweep)
    assert (finding is not None) == fires
    assert finding is None or (finding.severity, finding.cause) == ("note", "lr-too-high")


@pytest.mark.parametrize(
    ("own", "trained", "severity"), [(0.31, True, "warn"), (0.3, True, "note"), (0.31, False, None)]
)
def test_a_recipes_rate_above_the_band_is_warned_of_where_the_weights_are_trained(own, trained, severity):
    sweep = {**SOUND, "lr": 0.1, "lr_high": 0.3, "recipe_lr": own, "trained_before": trained, "searched": True}
    finding = asked(lr_settings.rates_for_trained_weights, sweep)
    assert (finding and finding.severity) == severity


def test_rates_are_not_noted_for_a_new_net_or_where_the_recipe_searches_its_own():
    for change in ({"trained_before": False}, {"trained_before": True, "searched": False}):
        assert asked(lr_settings.rates_for_trained_weights, {**SOUND, "lr": 0.1, **change}) is None
