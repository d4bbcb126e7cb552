import dataclasses
import statistics

import pytest

from tests.search.search_cases import SEARCH, SWEEP, answers, bits, bowl, inputs_of, recipe_of
from tuner.core.result import TrialResult
from tuner.core.stats import mcnemar_exact
from tuner.execute.replay import epochs, failure, replay
from tuner.stages import coarse, fine

SETTINGS = fine.Settings()
RECIPE = recipe_of(search=SEARCH)


@pytest.fixture(scope="module")
def after_coarse():
    inputs, settings = inputs_of(), coarse.Settings()
    records = replay(coarse, RECIPE, inputs, settings, bowl())
    return inputs_of(coarse=coarse.judge(RECIPE, inputs, settings, records).to_json())


def search(inputs, script, settings=SETTINGS, recipe=RECIPE, shuffle=None):
    records = replay(fine, recipe, inputs, settings, script, shuffle)
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
    low, high = (choice["space"]["optimizer.lr"][end] for end in ("low", "high"))
    assert len(items) == 8 and all(low <= item.spec.overrides["optimizer.lr"] <= high for item in items)
    assert {item.spec.horizon_epochs for item in items} == {15}
    assert {item.spec.precision for item in items} == {"bf16"}
    assert all(item.spec.measure == {"val_predictions": {}} for item in items)


def test_the_second_generation_repeats_the_finalists_with_new_seeds(after_coarse):
    _, records = search(after_coarse, bowl())
    repeats = records[8:]
    first = sorted(records[:8], key=lambda record: -record.result.score)
    assert [(record.item.spec.seed, record.params) for record in repeats] == [
        (seed, first[place].params) for seed in (1, 2) for place in (0, 1)
    ]
    assert [record.number for record in records] == list(range(12))


def test_the_winner_has_the_best_mean_over_the_seeds(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    result, records = search(after_coarse, two(top[0], top[1], [[0.95, 0.85, 0.85], [0.94, 0.93, 0.95]]))
    assert result.choice["params"] == top[1]
    assert result.metrics["mean"] == pytest.approx(statistics.fmean([0.94, 0.93, 0.95]))
    assert result.metrics["std"] == pytest.approx(statistics.stdev([0.94, 0.93, 0.95]))
    assert result.metrics["seeds"] == 3 and result.metrics["best_val_accuracy"] == 0.95
    low, high = result.metrics["interval"]
    assert low < 0.94 < high
    best = next(r for r in records if r.params == top[1] and r.item.spec.seed == 2)
    assert result.choice["trial"] == best.result.id
    assert result.choice["checkpoint"] == f"fine/checkpoints/{best.result.id}.pt"
    assert result.choice["epochs"] == 15
    assert result.metrics["finalists"][0]["trial"] == result.choice["trial"]


def test_the_runner_up_is_compared_on_the_same_examples(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    good, bad = [1] * 180 + [0] * 20, [1] * 160 + [0] * 40
    script = two(top[0], top[1], [[0.9, 0.9, 0.9], [0.8, 0.8, 0.8]], (good, bad))
    result, _ = search(after_coarse, script)
    assert result.metrics["runner_up_p"] == pytest.approx(mcnemar_exact(20, 0))
    assert "FI501" not in codes(result) and "better than #2" in result.headline


def test_a_winner_within_noise_is_a_note(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    same = answers(0.9)
    result, _ = search(after_coarse, two(top[0], top[1], [[0.9, 0.92, 0.9], [0.9, 0.9, 0.91]], (same, same)))
    assert result.metrics["runner_up_p"] == 1.0
    assert "FI501" in codes(result) and result.verdict == "pass"
    assert "cannot be told from #2" in result.headline


def test_a_finalist_that_diverges_with_a_new_seed_loses(after_coarse):
    top = [entry["params"] for entry in after_coarse.choice("coarse")["top"]]
    result, _ = search(after_coarse, two(top[0], top[1], [[0.95, 0.95, None], [0.9, 0.9, 0.9]]))
    assert result.choice["params"] == top[1]
    assert "FI505" in codes(result)


def test_one_finalist_and_one_seed_is_allowed(after_coarse):
    result, records = search(after_coarse, bowl(), fine.Settings(trials=1, finalists=1, seeds=1))
    assert len(records) == 1
    assert result.metrics["runner_up_p"] is None and result.metrics["std"] is None
    assert result.metrics["interval"] is not None  # the sampling of val alone
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


def test_an_interrupted_search_asks_for_what_is_missing(after_coarse):
    _, records = search(after_coarse, bowl(noise=0.01))
    for missing in ([1, 6], [9], [8, 11]):
        kept = [record for record in records if record.number not in missing]
        items = fine.plan(RECIPE, after_coarse, SETTINGS, kept)
        assert items == [records[number].item for number in missing]


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
    assert items[0].spec.overrides == {"optimizer.lr": 0.03, "model.width": 16} and len(items) == 8
