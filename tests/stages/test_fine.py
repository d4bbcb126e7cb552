import dataclasses
import math
import statistics

import pytest

from tests.replay import epochs, failure, replay
from tests.search.search_cases import (
    SEARCH,
    SWEEP,
    answers,
    assert_cut_anywhere_goes_on,
    bits,
    bowl,
    cut,
    flat,
    generations,
    inputs_of,
    recipe_of,
)
from tuner.core.result import TrialResult, last_of_each
from tuner.core.statistics import mcnemar_exact
from tuner.stages import coarse, fine

SETTINGS = fine.Settings()
RECIPE = recipe_of(search=SEARCH)


@pytest.fixture(scope="module")
def after_coarse():
    inputs, settings = inputs_of(), coarse.Settings()
    records = replay(coarse, RECIPE, inputs, settings, bowl())
    after = inputs_of(coarse=coarse.judge(RECIPE, inputs, settings, records).to_json())
    return dataclasses.replace(after, trials={"coarse": last_of_each(records)})


def search(inputs, script, settings=SETTINGS, recipe=RECIPE, shuffle=None):
    records = replay(fine, recipe, inputs, settings, cut(script), shuffle)
    return fine.judge(recipe, inputs, settings, records), records


def codes(result):
    return [finding.code for finding in result.findings]


def two(first, second, scores, right=None):
    """Script finalists `first` and `second` by their params; the rest is worse. scores[which][seed]; right likewise."""

    def script(item):
        for which, params in enumerate((first, second)):
            if item.spec.overrides == params:
                score = scores[which][item.spec.seed]
                if score is None:
                    return TrialResult("", None, "diverged")
                evidence = {"val_predictions": bits(right[which])} if right else {}
                return epochs([0.1] * 9 + [score], evidence=evidence)
        return epochs([0.2] * 10)

    return script


def test_the_first_generation_has_coarses_best_unchanged_and_samples_around_them(after_coarse):
    items = fine.plan(RECIPE, after_coarse, SETTINGS, [])
    choice = after_coarse.choice("coarse")
    assert [item.spec.overrides for item in items[:3]] == [entry["params"] for entry in choice["top"][:3]]
    records = last_of_each(search(after_coarse, bowl())[1])[:8]
    low, high = (choice["space"]["optimizer.lr"][end] for end in ("low", "high"))
    assert len(items) == 4 and all(low <= record.params["optimizer.lr"] <= high for record in records)
    assert {item.spec.horizon_epochs for item in items} == {15}
    assert {item.spec.precision for item in items} == {"bf16"}
    assert all(item.spec.measure == {"val_predictions": {}} for item in items)


@pytest.mark.parametrize("sampler", ["sobol", "random", "grid"])
def test_a_sampler_that_does_not_learn_gives_all_configurations_at_once(after_coarse, sampler):
    settings = fine.Settings(sampler=sampler)
    items = fine.plan(RECIPE, after_coarse, settings, [])
    count = 7 if sampler == "grid" else 8  # one point of the grid is among coarse's best
    assert [item.number for item in items] == list(range(count))


def test_coarses_best_is_never_stopped_and_others_are_halfway(after_coarse):
    bad = [entry["params"] for entry in after_coarse.choice("coarse")["top"]][:3]

    def script(item):  # what coarse thought best is worst here
        return epochs([0.1] * 15) if item.spec.overrides in bad else bowl()(dataclasses.replace(item, until_epoch=None))

    result, records = search(after_coarse, script, fine.Settings(trials=12))
    last = last_of_each(records)
    assert {r.result.status for r in last if r.params in bad} == {"completed"}
    assert all(record.item.until_epoch == 8 for record in last if record.result.status == "stopped")
    assert result.metrics.stopped > 0 and result.metrics.rungs == [8]
    assert result.metrics.epochs_full - result.metrics.epochs_run == 7 * result.metrics.stopped


def test_a_finalist_is_never_a_stopped_trial(after_coarse):
    def script(item):  # whatever goes on after the rung diverges, but for what was stopped there once
        going_on = item.until_epoch is None and item.number in (0, 1, 2, 3)
        return TrialResult("", None, "diverged") if going_on else bowl()(dataclasses.replace(item, until_epoch=None))

    found = generations(fine, RECIPE, after_coarse, fine.Settings(trials=5, generation=5, keep=0.1), cut(script))
    records = flat(found)
    result = fine.judge(RECIPE, after_coarse, fine.Settings(trials=5, generation=5, keep=0.1), records)
    assert result.metrics.finalists and all(len(f.scores) == 3 for f in result.metrics.finalists)
    finalists = {trial for finalist in result.metrics.finalists for trial in finalist.trials}
    assert {r.result.status for r in last_of_each(records) if r.result.id in finalists} == {"completed"}


def test_a_finalist_that_was_stopped_is_trained_to_the_end_first(after_coarse):
    settings = fine.Settings(rungs="8", trials=6, generation=6, keep=0.1, finalists=1)
    scripted = {3: 0.9, 4: 0.8}

    def script(item):
        if item.spec.seed == 0 and item.until_epoch is None and item.number in (0, 1, 2, 3):
            return TrialResult("", None, "diverged")
        return epochs([scripted.get(item.number, 0.5)] * 15)

    found = generations(fine, RECIPE, after_coarse, settings, cut(script))
    items = [[(record.number, record.item.until_epoch) for record in generation] for generation in found]
    assert items == [
        [*((number, None) for number in range(3)), *((number, 8) for number in range(3, 6))],
        [(3, None)],
        [(4, None)],
        [(6, None), (7, None)],
    ]
    result = fine.judge(RECIPE, after_coarse, settings, flat(found))
    assert result.choice["params"] == found[2][0].params


def test_tpe_goes_where_fine_found_the_best(after_coarse):
    settings = fine.Settings(trials=40, generation=4, rungs="none")
    best = 0.025
    records = [r for r in search(after_coarse, bowl(best=best), settings)[1] if r.item.spec.seed == 0]
    off = [abs(math.log10(record.params["optimizer.lr"] / best)) for record in records]
    sobol = fine.Settings(trials=40, rungs="none", sampler="sobol")
    drawn = [r for r in search(after_coarse, bowl(best=best), sobol)[1] if r.item.spec.seed == 0]
    plain = [abs(math.log10(record.params["optimizer.lr"] / best)) for record in drawn]
    assert statistics.median(off[8:]) < 0.7 * statistics.median(plain[8:])


@pytest.mark.parametrize("sampler", ["sobol", "random", "grid", "tpe"])
@pytest.mark.parametrize("rungs", ["auto", "none"])
def test_a_search_cut_anywhere_asks_for_the_same_remaining_trials(after_coarse, sampler, rungs):
    settings = fine.Settings(sampler=sampler, rungs=rungs, trials=13)
    assert_cut_anywhere_goes_on(fine, RECIPE, after_coarse, settings, bowl(noise=0.02))


def test_the_finalists_are_repeated_with_new_seeds(after_coarse):
    _, records = search(after_coarse, bowl())
    repeats = [record for record in records if record.item.spec.seed != 0]
    first = [record for record in last_of_each(records) if record.item.spec.seed == 0]
    first = sorted(first, key=lambda record: -record.result.score)
    assert [(record.item.spec.seed, record.params) for record in repeats] == [
        (seed, first[place].params) for seed in (1, 2) for place in (0, 1)
    ]
    assert [record.number for record in repeats] == [8, 9, 10, 11]
    assert {record.item.until_epoch for record in repeats} == {None}


def test_the_winner_has_the_best_mean_over_the_seeds(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    result, records = search(after_coarse, two(top[0], top[1], [[0.95, 0.85, 0.85], [0.94, 0.93, 0.95]]))
    assert result.choice["params"] == top[1]
    assert result.metrics.mean == pytest.approx(statistics.fmean([0.94, 0.93, 0.95]))
    assert result.metrics.std == pytest.approx(statistics.stdev([0.94, 0.93, 0.95]))
    assert result.metrics.seeds == 3 and result.metrics.best_val_accuracy == 0.95
    expected = result.metrics.expected
    assert expected.basis == pytest.approx(0.94) and expected.basis_runs == 2  # the new seeds: 0.93 and 0.95
    low, high = result.metrics.interval
    assert low < expected.value < high and expected.value <= 0.94
    interval = f"95 % interval {low:.3f} to {high:.3f}"
    assert f"Expect accuracy {expected.value:.3f} on new data ({interval})" in result.headline
    best = next(r for r in records if r.params == top[1] and r.item.spec.seed == 2)
    assert result.choice["trial"] == best.result.id
    assert result.choice["checkpoint"] == f"fine/checkpoints/{best.result.id}.pt"
    assert result.choice["epochs"] == 15
    assert result.metrics.finalists[0].trial == result.choice["trial"]


def test_the_runner_up_is_compared_on_the_same_examples(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    good, bad = [1] * 180 + [0] * 20, [1] * 160 + [0] * 40
    script = two(top[0], top[1], [[0.9, 0.9, 0.9], [0.8, 0.8, 0.8]], (good, bad))
    result, _ = search(after_coarse, script)
    assert result.metrics.runner_up_p == pytest.approx(mcnemar_exact(20, 0))
    assert "FI501" not in codes(result) and "beats #2" in result.headline


def test_a_winner_within_noise_is_a_note(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    same = answers(0.9)
    result, _ = search(after_coarse, two(top[0], top[1], [[0.9, 0.92, 0.9], [0.9, 0.9, 0.91]], (same, same)))
    assert result.metrics.runner_up_p == 1.0
    assert "FI501" in codes(result) and result.verdict == "pass"
    assert result.headline.endswith("; ties with #2.")


@pytest.mark.parametrize(
    ("second", "told", "said"),
    [
        ([0.9, 0.91, 0.88], False, "ties with #2"),
        ([0.8, 0.81, 0.8], True, "beats #2"),
    ],
)
def test_without_stored_answers_the_headline_goes_by_the_seeds(after_coarse, second, told, said):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    result, _ = search(after_coarse, two(top[0], top[1], [[0.9, 0.92, 0.9], second]))
    assert result.metrics.runner_up_p is None
    assert ("FI501" not in codes(result)) == told
    assert result.headline.endswith(f"; {said}.")


def sized(script, sizes):
    """Let trials record how many parameters their model has, by params; the others 1,000."""

    def with_size(item):
        answer = script(item)
        size = next((size for params, size in sizes if item.spec.overrides == params), 1000)
        predictions = {**answer.evidence.get("val_predictions", {}), "parameters": size}
        return dataclasses.replace(answer, evidence={"val_predictions": predictions})

    return with_size


@pytest.mark.parametrize(("size", "takes_second"), [(750, True), (751, False), (1000, False)])
def test_the_simpler_of_two_equals_is_taken(after_coarse, size, takes_second):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    same = answers(0.9)
    script = two(top[0], top[1], [[0.9, 0.92, 0.9], [0.9, 0.9, 0.91]], (same, same))
    result, _ = search(after_coarse, sized(script, [(top[1], size)]))
    assert result.choice["params"] == top[takes_second]
    assert ("simplest of a tie" in result.headline) == takes_second
    assert ("25 % fewer parameters" in result.metrics.preferred) == takes_second
    assert any("25 % fewer parameters" in finding.title for finding in result.findings) == takes_second
    assert result.metrics.runner_up_gap == pytest.approx(-0.01 / 3 if takes_second else 0.01 / 3)


def test_a_simpler_one_that_is_clearly_worse_is_not_taken(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    good, bad = [1] * 180 + [0] * 20, [1] * 160 + [0] * 40
    script = two(top[0], top[1], [[0.9, 0.9, 0.9], [0.8, 0.8, 0.8]], (good, bad))
    result, _ = search(after_coarse, sized(script, [(top[1], 10)]))
    assert result.choice["params"] == top[0] and result.metrics.preferred == ""


def test_a_finalist_that_diverges_with_a_new_seed_loses(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    result, _ = search(after_coarse, two(top[0], top[1], [[0.95, 0.95, None], [0.9, 0.9, 0.9]]))
    assert result.choice["params"] == top[1]
    assert "FI505" in codes(result)


def test_one_finalist_and_one_seed_is_allowed(after_coarse):
    result, records = search(after_coarse, bowl(), fine.Settings(trials=1, finalists=1, seeds=1))
    assert len(records) == 1
    assert result.metrics.runner_up_p is None and result.metrics.std is None
    assert result.metrics.interval is not None  # the sampling of val alone
    assert "FI501 winner within noise" in [entry.check for entry in result.skipped]


def test_when_everything_fails_there_is_no_winner(after_coarse):
    result, records = search(after_coarse, lambda item: failure("crash", "died"))
    assert len(records) == 8 and codes(result) == ["FI502"] and result.choice == {}
    assert result.headline == "None of 8 configurations gave a result."


def test_skipped_predictions_are_listed(after_coarse):
    script = lambda item: dataclasses.replace(  # noqa: E731
        bowl()(item), evidence={"val_predictions": {"skipped": "the outputs are not (N, C)"}}
    )
    result, _ = search(after_coarse, script)
    assert "the outputs are not (N, C)" in [entry.why for entry in result.skipped]


def test_the_order_of_results_does_not_matter(after_coarse):
    assert search(after_coarse, bowl(noise=0.01), shuffle=3)[0] == search(after_coarse, bowl(noise=0.01))[0]


def test_a_key_that_a_round_has_fixed_leaves_the_search(after_coarse):
    recipe = recipe_of(search={"optimizer.lr": "auto"}, model={"name": "mlp", "width": 64})
    items = fine.plan(recipe, after_coarse, SETTINGS, [])
    assert all(set(item.spec.overrides) == {"optimizer.lr"} for item in items)
    assert {item.spec.tables["model"]["width"] for item in items} == {64}


def test_a_new_sweep_moves_the_rates_along(after_coarse):
    moved = {**SWEEP, "choice": {**SWEEP["choice"], "lr": 0.003, "lr_low": 0.0003, "lr_high": 0.03}}
    inputs = inputs_of(lr_sweep=moved, coarse=after_coarse.results["coarse"])
    before, after = (fine.plan(RECIPE, each, SETTINGS, []) for each in (after_coarse, inputs))
    for old, new in zip(before[:3], after[:3], strict=True):
        assert new.spec.overrides["optimizer.lr"] == pytest.approx(old.spec.overrides["optimizer.lr"] / 10, rel=1e-3)


def test_without_coarse_the_recipes_own_configuration_starts():
    items = fine.plan(RECIPE, inputs_of(), SETTINGS, [])
    assert items[0].spec.overrides == {"optimizer.lr": 0.03, "model.width": 16} and len(items) == 4


def distances(script):
    """Turn scripted accuracies into a distance that is minimised: an accuracy of 0.9 becomes a distance of 0.1."""

    def turned(item):
        found = script(item)
        curve = [{**row, "mae": 1 - row["accuracy"]} if row["split"] == "val" else row for row in found.curve]
        best = next(row["mae"] for row in curve if row["split"] == "val" and row["epoch"] == found.best_epoch)
        return dataclasses.replace(found, curve=curve, score=-best)

    return turned


def test_a_distance_is_shown_as_it_was_measured_and_the_least_of_it_wins():
    recipe = recipe_of(search=SEARCH, train={"monitor": "val_mae"})
    inputs, settings = inputs_of(check_init={"score_name": "mae"}), coarse.Settings()
    records = replay(coarse, recipe, inputs, settings, distances(bowl()))
    of_coarse = coarse.judge(recipe, inputs, settings, records)
    best = min(row["mae"] for record in records for row in record.rows("val"))
    assert of_coarse.metrics.score == of_coarse.choice["top"][0]["score"] == pytest.approx(best)
    after = dataclasses.replace(
        inputs_of(check_init={"score_name": "mae"}, coarse=of_coarse.to_json()),
        trials={"coarse": last_of_each(records)},
    )
    trials = replay(fine, recipe, after, SETTINGS, distances(bowl(noise=0.02)))
    result = fine.judge(recipe, after, SETTINGS, trials)
    metrics = result.metrics
    least = min(row["mae"] for record in trials for row in record.rows("val"))
    assert least <= metrics.mean < 0.2 and metrics.expected.value > 0
    assert 0 <= metrics.interval[0] <= metrics.expected.value <= metrics.interval[1]
    assert all(score > 0 for finalist in metrics.finalists for score in finalist.scores)
    assert metrics.finalists[0].mean == metrics.mean == min(finalist.mean for finalist in metrics.finalists)
    assert "Best" in result.headline or "Expect mae 0." in result.headline
