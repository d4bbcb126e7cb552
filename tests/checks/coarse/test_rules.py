import pytest

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.coarse.rules import trials as search
from tuner.checks.fine import rules as fine

COARSE = {
    "trials": 16, "completed": 16, "diverged": 0, "failed": 0, "failures": {}, "best_val_accuracy": 0.9,
    "majority_share": 0.5, "val_n": 200, "best_params": {"optimizer.lr": 0.1}, "at_border": {},
}  # fmt: skip
FINE = {
    **COARSE, "runner_up": "b", "runner_up_p": 0.01, "runner_up_gap": 0.03, "runner_up_error": 0.01, "val_n": 1000,
    "finalists": [{"trial": "a", "lost": 0}, {"trial": "b", "lost": 0}],
}  # fmt: skip
OF_COARSE = [search.all_trials_failed, search.all_trials_diverged, search.best_at_baseline, search.coarse_best_at_edge,
             search.some_failed, search.many_diverged]  # fmt: skip
OF_FINE = [fine.winner_within_noise, fine.fine_all_failed, fine.fine_best_at_edge, fine.fine_val_too_small,
           fine.finalist_unstable]  # fmt: skip


def asked(check, facts):
    name = "coarse" if check.__module__.startswith("tuner.checks.coarse") else "fine"
    facts = {key: value for key, value in facts.items() if name == "coarse" or key != "majority_share"}
    return ask(check, built(name, **facts))


@pytest.mark.parametrize("check", OF_COARSE + OF_FINE)
def test_a_sound_search_is_silent(check):
    assert asked(check, COARSE if check in OF_COARSE else FINE) is None


@pytest.mark.parametrize("check", OF_COARSE + OF_FINE)
def test_no_search_is_missing(check):
    with pytest.raises(Missing):
        asked(check, {})


@pytest.mark.parametrize(
    ("accuracy", "n", "severity"),
    [
        (0.57, 200, None),
        (0.56, 200, "warn"),
        (0.5, 200, "warn"),
        (0.5, 2000, "error"),
        (0.52, 2000, "error"),
        (0.53, 2000, None),
    ],
)
def test_the_baseline_is_met_where_the_interval_reaches_it(accuracy, n, severity):
    finding = asked(search.best_at_baseline, {**COARSE, "best_val_accuracy": accuracy, "val_n": n})
    assert (finding.severity if finding else None) == severity


SKEWED = {**COARSE, "majority_share": 0.9, "best_val_accuracy": 0.89, "val_n": 2000, "constant_loss": 0.69}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"best_val_loss": 0.45}, ("class-imbalance", "warn")),
        ({"best_val_loss": 0.45, "monitor": "val_metric"}, ("class-imbalance", "note")),
        ({"best_val_loss": 0.62}, ("class-imbalance", "warn")),
        ({"best_val_loss": 0.63}, ("at-baseline", "error")),  # 0.9 x 0.69 = 0.621
        ({"best_val_loss": 0.63, "monitor": "val_metric"}, ("at-baseline", "error")),
        ({"best_val_loss": None}, ("at-baseline", "error")),
        ({"best_val_loss": 0.45, "constant_loss": None}, ("at-baseline", "error")),
        ({"best_val_loss": 0.45, "majority_share": 0.5, "best_val_accuracy": 0.5}, ("metric-wrong", "error")),
        ({"best_val_loss": 0.63, "majority_share": 0.5, "best_val_accuracy": 0.5}, ("at-baseline", "error")),
    ],
)
def test_a_loss_that_uses_the_input_tells_weighed_classes_from_the_baseline(changes, said):
    both = [
        asked(rule, {**SKEWED, **changes})
        for rule in (search.best_at_baseline, search.metric_contradicts, search.majority_hides_it)
    ]
    (finding,) = [finding for finding in both if finding is not None]
    assert (finding.cause, finding.severity) == said
    assert ("is below that of any answer without the input, 0.69" in finding.title) == (said[0] != "at-baseline")


@pytest.mark.parametrize("missing", ["best_val_accuracy", "majority_share", "val_n"])
def test_the_baseline_needs_its_numbers(missing):
    with pytest.raises(Missing):
        asked(search.best_at_baseline, {**COARSE, missing: None})


def test_failures_that_are_all_divergence_have_their_own_rule():
    gone = {**COARSE, "completed": 0, "diverged": 16, "best_params": None}
    assert asked(search.all_trials_failed, gone) is None
    assert asked(search.all_trials_diverged, gone).severity == "error"


def test_failures_are_grouped_by_kind():
    failures = {"oom": {"count": 2, "message": "out of memory\ntrace"}, "user-code": {"count": 14, "message": ""}}
    finding = asked(search.all_trials_failed, {**COARSE, "completed": 0, "failed": 16, "failures": failures})
    assert finding.title == "all 16 trials failed (2 oom: out of memory; 14 user-code: no message)"


def test_a_border_names_key_value_and_end():
    finding = asked(search.coarse_best_at_edge, {**COARSE, "at_border": {"optimizer.lr": "high"}})
    assert finding.title == "the best lies at the border of the space: optimizer.lr = 0.1 (high end)"
    assert (finding.cause, finding.severity) == ("best-at-edge", "note")
    assert asked(fine.fine_best_at_edge, {**FINE, "at_border": {"optimizer.lr": "low"}}).code == "FI503"


@pytest.mark.parametrize(
    ("p", "gap", "error", "fires"),
    [
        (0.049, 0.03, 0.01, False),
        (0.05, 0.03, 0.01, True),
        (0.01, 0.02, 0.0101, True),
        (0.01, 0.02, 0.01, False),
        (None, 0.02, 0.0101, True),
        (None, 0.03, 0.01, False),
        (0.2, None, None, True),
        (0.01, 0.03, None, False),
        (0.01, -0.02, 0.0101, True),
        (0.01, -0.02, 0.01, False),
    ],
)
def test_within_noise_by_either_measure(p, gap, error, fires):
    finding = asked(
        fine.winner_within_noise, {**FINE, "runner_up_p": p, "runner_up_gap": gap, "runner_up_error": error}
    )
    assert (finding is not None) == fires
    assert finding is None or finding.severity == "note"


def test_within_noise_says_why_the_simpler_one_was_taken():
    assert "because" not in asked(fine.winner_within_noise, {**FINE, "runner_up_p": 0.4}).title
    finding = asked(fine.winner_within_noise, {**FINE, "runner_up_p": 0.4, "preferred": "it has 40 % fewer parameters"})
    assert finding.title.endswith("; it was taken because it has 40 % fewer parameters")


def test_within_noise_needs_a_measure():
    with pytest.raises(Missing, match="neither paired predictions nor several seeds"):
        asked(fine.winner_within_noise, {**FINE, "runner_up_p": None, "runner_up_error": None})


@pytest.mark.parametrize(("n", "fires"), [(600, False), (500, True)])
def test_val_is_too_small_above_two_and_a_half_points(n, fires):
    assert (asked(fine.fine_val_too_small, {**FINE, "val_n": n}) is not None) == fires  # table: 87.1-92.3 at 500


def test_a_lost_seed_is_unstable():
    finalists = [{"trial": "a", "lost": 0}, {"trial": "b", "lost": 2}]
    assert "1 of 2 finalists lost 2" in asked(fine.finalist_unstable, {**FINE, "finalists": finalists}).title
