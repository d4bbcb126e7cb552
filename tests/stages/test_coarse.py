import math

import pytest

from tests.search.search_cases import SEARCH, SWEEP, bowl, inputs_of, recipe_of
from tuner.core.result import TrialResult
from tuner.core.trial import canonical_json
from tuner.execute.replay import epochs, failure, replay
from tuner.stages import Inputs, coarse

SETTINGS = coarse.Settings()


def search(script, recipe=None, inputs=None, settings=SETTINGS, shuffle=None):
    recipe, inputs = recipe or recipe_of(search=SEARCH), inputs or inputs_of()
    records = replay(coarse, recipe, inputs, settings, script, shuffle)
    return coarse.judge(recipe, inputs, settings, records), records


def codes(result):
    return [finding.code for finding in result.findings]


def test_trial_0_is_the_recipes_own_with_the_rate_of_the_sweep():
    item = coarse.plan(recipe_of(search=SEARCH), inputs_of(), SETTINGS, [])[0]
    assert item.number == 0
    assert item.spec.overrides == {"optimizer.lr": 0.03, "model.width": 16}
    assert (item.spec.horizon_epochs, item.spec.precision, item.spec.seed) == (3, "bf16", 0)


def test_trials_are_different_and_inside_the_band():
    _, records = search(bowl())
    params = [record.params for record in records]
    assert len({canonical_json(dict(each)) for each in params}) == 16
    assert all(0.003 <= each["optimizer.lr"] <= 0.3 for each in params)
    assert [record.number for record in records] == list(range(16))


def test_generations_have_the_size_of_the_setting():
    recipe, inputs = recipe_of(search=SEARCH), inputs_of()
    settings = coarse.Settings(trials=7, generation=3)
    _, records = search(bowl(), settings=settings)
    sizes = [len(coarse.plan(recipe, inputs, settings, records[:done])) for done in (0, 3, 6, 7)]
    assert sizes == [3, 3, 1, 0]


def test_raising_trials_keeps_those_that_ran():
    few, more = search(bowl())[1], search(bowl(), settings=coarse.Settings(trials=32))[1]
    assert [record.item for record in more[:16]] == [record.item for record in few]


@pytest.mark.parametrize("sampler", ["sobol", "random", "grid"])
def test_an_interrupted_search_asks_for_the_same_remaining_trials(sampler):
    recipe, inputs, settings = recipe_of(search=SEARCH), inputs_of(), coarse.Settings(sampler=sampler)
    _, records = search(bowl(), settings=settings)
    kept = [record for record in records if record.number not in (2, 5, 11)]
    assert [item.number for item in coarse.plan(recipe, inputs, settings, kept)] == [2, 5]
    kept = [record for record in records if record.number != 11]
    assert [item for item in coarse.plan(recipe, inputs, settings, kept)] == [records[11].item]


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
    assert result.metrics["completed"] == result.metrics["trials"] == 16
    assert result.verdict == "pass"
    assert f"best val accuracy {result.metrics['best_val_accuracy']:.4f}" in result.headline


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
    assert result.metrics["space"]["optimizer.lr"]["low"] == pytest.approx(0.002)
    assert result.metrics["space"]["optimizer.lr"]["high"] == pytest.approx(0.2)
    assert "no band" in result.metrics["space"]["optimizer.lr"]["reason"]
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
    flat = lambda item: epochs([0.5, 0.5, 0.5])  # noqa: E731  # the commonest class of val has 100 of 200
    few, _ = search(flat)
    assert ("CO403", "warn") in [(finding.code, finding.severity) for finding in few.findings]
    many = {"metrics": {"data": {"val": {"class_counts": [1000, 1000]}}}}
    result, _ = search(flat, inputs=inputs_of(check_init=many))
    assert ("CO403", "error") in [(finding.code, finding.severity) for finding in result.findings]


def test_an_unknown_baseline_is_listed_as_skipped():
    result, _ = search(bowl(), inputs=inputs_of(check_init=None))
    assert [entry.check for entry in result.skipped] == ["CO403 best at baseline"]


def test_a_thousand_trials_are_planned_and_judged_in_under_5_ms_each():
    import time

    started = time.perf_counter()
    result, _ = search(bowl(noise=0.01), settings=coarse.Settings(trials=1000, generation=50))
    assert result.metrics["completed"] == 1000
    assert (time.perf_counter() - started) / 1000 < 0.005
