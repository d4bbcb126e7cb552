import math

import pytest

from tests.replay import epochs, failure, replay
from tests.search.search_cases import (
    SEARCH,
    SWEEP,
    assert_cut_anywhere_goes_on,
    bowl,
    cut,
    flat,
    generations,
    inputs_of,
    recipe_of,
)
from tuner.core.result import TrialResult, last_of_each
from tuner.core.trial import canonical_json
from tuner.stages import Inputs, coarse

SETTINGS = coarse.Settings()


def search(script, recipe=None, inputs=None, settings=SETTINGS, shuffle=None):
    recipe, inputs = recipe or recipe_of(search=SEARCH), inputs or inputs_of()
    records = replay(coarse, recipe, inputs, settings, cut(script), shuffle)
    return coarse.judge(recipe, inputs, settings, records), records


def codes(result):
    return [finding.code for finding in result.findings]


def test_trial_0_is_the_recipes_own_with_the_rate_of_the_sweep():
    item = coarse.plan(recipe_of(search=SEARCH), inputs_of(), SETTINGS, [])[0]
    assert item.number == 0
    assert item.spec.overrides == {"optimizer.lr": 0.03, "model.width": 16}
    assert (item.spec.horizon_epochs, item.spec.precision, item.spec.seed) == (3, "bf16", 0)


def test_trials_are_different_and_inside_the_band():
    records = last_of_each(search(bowl())[1])
    params = [record.params for record in records]
    assert len({canonical_json(dict(each)) for each in params}) == 16
    assert all(0.003 <= each["optimizer.lr"] <= 0.3 for each in params)
    assert [record.number for record in records] == list(range(16))


def test_a_sampler_that_does_not_learn_gives_one_generation_and_one_that_does_gives_many():
    for sampler, sizes in (("sobol", [7]), ("tpe", [3, 3, 1])):
        settings = coarse.Settings(trials=7, generation=3, sampler=sampler, rungs="none")
        found = generations(coarse, recipe_of(search=SEARCH), inputs_of(), settings, bowl())
        assert [len(generation) for generation in found] == sizes


def test_half_of_the_trials_go_on_at_each_rung_and_the_recipes_own_goes_straight_to_the_end():
    found = generations(coarse, recipe_of(search=SEARCH), inputs_of(), SETTINGS, bowl())
    assert [(record.number, record.item.until_epoch) for record in found[0]] == [
        (0, None),
        *((n, 1) for n in range(1, 16)),
    ]
    curves = {r.number: [row["accuracy"] for row in r.rows("val")] for r in last_of_each(flat(found))}
    standing = sorted(range(16), key=lambda number: -curves[number][0])
    for generation, until, count in ((found[1], 2, 8), (found[2], None, 4)):
        assert {record.item.until_epoch for record in generation} == {until}
        assert {record.number for record in generation} == set(standing[:count]) - {0}
        standing = sorted(standing[:count], key=lambda number: -curves[number][1])
    assert {record.item.spec.horizon_epochs for record in flat(found)} == {3}


def test_what_the_rungs_saved_is_reported():
    result, records = search(bowl())
    assert len(records) == 16 + 7 + 4 and len(last_of_each(records)) == 16  # the recipe's own is 6th of the 16
    expected = {"trials": 16, "completed": 5, "stopped": 11, "epochs_run": 29, "epochs_full": 48, "rungs": [1, 2]}
    assert {key: getattr(result.metrics, key) for key in expected} == expected
    assert result.headline.startswith("Best of 16: ")
    assert {entry["trial"] for entry in result.choice["top"][:5]} == {
        r.result.id for r in records if r.item.until_epoch is None
    }


def test_rungs_can_be_turned_off_or_set():
    none = coarse.Settings(rungs="none")
    result, records = search(bowl(), settings=none)
    assert len(records) == 16 and {record.item.until_epoch for record in records} == {None}
    assert (result.metrics.stopped, result.metrics.rungs) == (0, [])
    assert (result.metrics.epochs_run, result.metrics.epochs_full) == (48, 48)
    own = coarse.Settings(epochs=5, rungs=[1, 4], keep=0.25)
    found = generations(coarse, recipe_of(search=SEARCH), inputs_of(), own, bowl())
    assert [(g[-1].item.until_epoch, len(g)) for g in found] == [(1, 16), (4, 4), (None, 3)]


def test_short_searches_have_no_rungs():
    assert coarse.Settings(epochs=2).ladder.rungs == ()
    assert [coarse.Settings(epochs=n).ladder.rungs for n in (3, 5, 10)] == [(1, 2), (1, 2), (1, 2, 4)]


def test_a_trial_that_diverged_or_failed_never_goes_on():
    def script(item):
        if item.number % 4 == 1:
            return TrialResult("", None, "diverged", [{"step": 3, "epoch": 1, "split": "train", "loss": None}])
        return failure("crash", "died") if item.number % 4 == 2 else bowl()(item)

    result, records = search(script)
    assert all(record.number % 4 in (0, 3) for record in records if record.item.until_epoch != 1)
    counts = {key: getattr(result.metrics, key) for key in ("completed", "stopped", "diverged", "failed")}
    assert counts == {"completed": 4, "stopped": 4, "diverged": 4, "failed": 4}


def test_when_all_that_went_on_diverge_the_stopped_ones_still_give_a_choice():
    def script(item):
        return bowl()(item) if item.until_epoch == 1 else TrialResult("", None, "diverged")

    result, _ = search(script)
    assert (result.metrics.completed, result.metrics.stopped, result.metrics.diverged) == (0, 7, 9)
    assert result.choice["top"] and "CO401" not in codes(result)


def test_ties_at_a_rung_go_to_the_lower_val_loss_then_to_the_earlier_trial():
    losses = {number: 0.5 if number in (13, 14) else 1.0 for number in range(16)}
    found = generations(
        coarse,
        recipe_of(search=SEARCH),
        inputs_of(),
        SETTINGS,
        cut(lambda item: epochs([0.5, 0.6, 0.7], [losses[item.number]] * 3)),
    )
    assert sorted(record.number for record in found[1]) == [1, 2, 3, 4, 5, 13, 14]  # and the recipe's own, 0


def test_raising_trials_runs_none_of_the_first_rung_again():
    few, more = search(bowl())[1], search(bowl(), settings=coarse.Settings(trials=32))[1]
    first = [[record.item for record in records if record.item.until_epoch == 1] for records in (few, more)]
    assert first[1][:15] == first[0] and len(first[0]) == 15


@pytest.mark.parametrize("sampler", ["sobol", "random", "grid", "tpe"])
@pytest.mark.parametrize("rungs", ["auto", "none"])
def test_a_search_cut_anywhere_asks_for_the_same_remaining_trials(sampler, rungs):
    settings = coarse.Settings(sampler=sampler, rungs=rungs, trials=12, generation=5)
    noisy = bowl(noise=0.02)

    def script(item):
        return TrialResult("", None, "diverged") if item.number in (2, 7) else noisy(item)

    assert_cut_anywhere_goes_on(coarse, recipe_of(search=SEARCH), inputs_of(), settings, script)


@pytest.mark.parametrize("wrong", ["2,1", "0", "often", [1, 1], ""])
def test_rungs_that_do_not_rise_are_refused(wrong):
    with pytest.raises(ValueError, match='expected auto, none, or rising epochs such as "1,2"'):
        coarse.Settings(rungs=wrong)


def test_the_order_of_results_does_not_matter():
    assert search(bowl(noise=0.02), shuffle=4)[0] == search(bowl(noise=0.02))[0]


def test_the_best_region_is_found_and_narrowed_with_reasons():
    result, _ = search(bowl(best=0.05))
    top, space = result.choice["top"], result.choice["space"]
    assert abs(math.log10(top[0]["params"]["optimizer.lr"] / 0.05)) < 0.2
    assert [entry["val_accuracy"] for entry in top] == sorted((e["val_accuracy"] for e in top), reverse=True)
    assert set(top[0]) >= {"params", "val_loss", "val_accuracy", "trial"}
    assert 0.003 < space["optimizer.lr"]["low"] < 0.05 < space["optimizer.lr"]["high"] < 0.3
    assert space["optimizer.lr"]["log"] is True
    assert all(entry["reason"] for entry in space.values())
    assert result.metrics.completed + result.metrics.stopped == result.metrics.trials == 16
    assert result.verdict == "pass"
    assert f"val accuracy {result.metrics.best_val_accuracy:.4f}" in result.headline


def test_a_best_at_the_border_grows_the_space_up_to_what_diverged():
    rates = [{"lr": lr, "status": "diverged" if lr > 0.5 else "completed"} for lr in (0.1, 1.0)]
    inputs = inputs_of(lr_sweep={**SWEEP, "metrics": {"lr_high": 0.3, "rates": rates}})
    result, _ = search(bowl(best=5.0), inputs=inputs)
    assert codes(result) == ["CO404"] and result.findings[0].severity == "note"
    assert 0.3 < result.choice["space"]["optimizer.lr"]["high"] <= 1.0
    assert "grown upwards" in result.choice["space"]["optimizer.lr"]["reason"]


def test_without_a_band_the_recipes_rate_is_taken_tenfold_either_way():
    recipe = recipe_of(optimizer={"lr": 0.02})
    result, records = search(bowl(), recipe, Inputs())
    assert result.metrics.space["optimizer.lr"]["low"] == pytest.approx(0.002)
    assert result.metrics.space["optimizer.lr"]["high"] == pytest.approx(0.2)
    assert "no band" in result.metrics.space["optimizer.lr"]["reason"]
    assert records[0].params == {"optimizer.lr": 0.02}


def test_a_rate_that_is_not_searched_stays_the_recipes():
    recipe = recipe_of(search={"model.width": {"choices": [16, 32]}}, optimizer={"lr": 0.7})
    items = coarse.plan(recipe, inputs_of(), SETTINGS, [])
    assert [item.spec.overrides for item in items] == [{"model.width": 16}, {"model.width": 32}]
    assert {item.spec.tables["optimizer"]["lr"] for item in items} == {0.7}


def test_every_trial_failing_by_the_same_error_is_one_grouped_error():
    result, _ = search(lambda item: failure("user-code", "my.py:3: boom\ntrace"))
    assert codes(result) == ["CO401"] and result.verdict == "fail"
    assert "16 user-code: my.py:3: boom)" in result.findings[0].title
    assert result.choice == {}
    assert "None of 16 configurations" in result.headline


def test_some_failures_are_grouped_by_kind_and_warned_of():
    def script(item):
        if item.number in (1, 2):
            return failure("oom", "out of memory")
        return failure("crash", "died") if item.number == 3 else bowl()(item)

    result, _ = search(script)
    assert codes(result) == ["CO405"] and result.verdict == "warn"
    assert "3 of 16 trials failed (1 crash: died; 2 oom: out of memory)" in result.findings[0].title


@pytest.mark.parametrize(("diverged", "expected"), [(8, []), (9, ["CO406"]), (16, ["CO402"])])
def test_diverged_trials(diverged, expected):
    def script(item):
        return TrialResult("", None, "diverged") if item.number >= 16 - diverged else bowl()(item)

    result, _ = search(script)
    assert [code for code in codes(result) if code != "CO404"] == expected


def test_a_search_at_the_baseline_warns_or_fails_by_the_size_of_val():
    flat = lambda item: epochs([0.5, 0.5, 0.5])  # noqa: E731  # the majority class of val has 100 of 200
    few, _ = search(flat)
    assert ("CO403", "warn") in [(finding.code, finding.severity) for finding in few.findings]
    many = {"metrics": {"data": {"val": {"class_counts": [1000, 1000]}}}}
    result, _ = search(flat, inputs=inputs_of(check_init=many))
    assert ("CO403", "error") in [(finding.code, finding.severity) for finding in result.findings]


def test_an_unknown_baseline_is_listed_as_skipped():
    result, _ = search(bowl(), inputs=inputs_of(check_init=None))
    assert [entry.check[:5] for entry in result.skipped] == ["CO403", "CO411", "CO412"]
