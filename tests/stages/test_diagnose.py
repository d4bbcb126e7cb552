from dataclasses import replace

import pytest

from tests.replay import epochs, failure, replay
from tests.results import inputs_of as result_inputs
from tests.search.search_cases import answers, assert_cut_anywhere_goes_on, bits, recipe_of
from tuner.core.result import Record
from tuner.core.trial import WorkItem
from tuner.stages import Inputs, diagnose


def judge(recipe, *results, params=None, counts=(100, 60, 40), n=200, settings=None):
    """Judge the curves of one configuration, one result per seed; the first is the winner."""
    records = []
    for seed, result in enumerate(results):
        spec = Inputs().spec(recipe, params or {"optimizer.lr": 0.1}, seed=seed, horizon_epochs=len(result.curve) // 3)
        evidence = {"val_predictions": bits(answers(0.9, n))}
        values = {**vars(result), "id": spec.id, "evidence": evidence}
        records.append(Record(WorkItem(spec, seed), type(result)(**values)))
    first = records[0]
    choice = {
        "trial": first.result.id,
        "params": dict(first.params),
        "epochs": 15,
        "checkpoint": "fine/checkpoints/x.pt",
    }
    scan = {"metrics": {"data": {"val": {"class_counts": list(counts)}}}}
    inputs = result_inputs({"fine": {"choice": choice, "metrics": {}}, "check-init": scan}, {"fine": records})
    return diagnose.judge(recipe, inputs, settings or diagnose.Settings(), [])


def codes(result):
    return [finding.code for finding in result.findings]


def test_a_sound_run_has_nothing_to_mend():
    val = [0.5, 0.8, 0.9, 0.95, 0.96, 0.97, *[0.97, 0.972] * 4, 0.973]
    curves = epochs(val, train_accuracy=[v + 0.01 for v in val], lr=[0.1 / epoch for epoch in range(1, 16)])
    result = judge(recipe_of(schedule={"name": "cosine"}), curves, n=2000)
    assert codes(result) == [] and result.verdict == "pass" and result.choice["changes"] == []
    assert "nothing to fix" in result.headline


def test_metrics_are_read_at_the_best_epoch():
    val, train = [0.5, 0.9, 0.8, 0.7, 0.7], [0.6, 0.94, 0.95, 0.96, 0.97]
    result = judge(recipe_of(), epochs(val, train_accuracy=train, val_loss=[1, 0.4, 0.5, 0.6, 0.7]))
    metrics = result.metrics
    assert (metrics.best_epoch, metrics.epochs) == (2, 5)
    assert (metrics.train_accuracy, metrics.val_accuracy) == (0.94, 0.9)
    assert metrics.gap == pytest.approx(0.04)
    assert metrics.gap_interval[0] < 0.04 < metrics.gap_interval[1]
    assert metrics.curves_stage == "fine" and metrics.val_loss == 0.4


def test_longer_is_not_proposed_where_val_loss_has_risen_since_the_second_epoch():
    val = [0.4 + 0.02 * i for i in range(15)]
    loss = [1.0, 0.8, *[0.9 + 0.1 * i for i in range(13)]]
    train = [1.0 - 0.06 * i for i in range(15)]
    result = judge(recipe_of(), epochs(val, loss, [0.5 + 0.03 * i for i in range(15)], train))
    assert not {"CU601", "CU613"} & set(codes(result))
    assert "stages.fine.epochs" not in [change["key"] for change in result.choice["changes"]]


def test_a_wide_gap_is_said_where_val_loss_rises_and_accuracy_holds():
    loss = [1.0, 0.8, *[0.9 + 0.1 * i for i in range(13)]]
    curves = epochs([0.3] * 15, loss, [0.3, *[0.9] * 14], [1.0 - 0.06 * i for i in range(15)])
    result = judge(recipe_of(), curves, counts=[20] * 10)
    assert {"CU604", "CU611"} <= set(codes(result))


def test_what_a_confirming_run_refuted_is_not_proposed():
    recipe = with_table(model={"name": "mlp", "width": 16})
    result, records = answered(case(LOW, recipe), lambda a: 0.7)
    assert any(a.item.spec.overrides.get("model.width") == 32 for a in records)
    assert "CU605" in codes(result)
    assert "model.width" not in [change["key"] for change in result.choice["changes"]]


def test_changes_become_the_choice_one_per_key():
    val = [0.4 + 0.03 * i for i in range(15)]
    result = judge(recipe_of(), epochs(val))
    assert "CU601" in codes(result)
    change = next(change for change in result.choice["changes"] if change["key"] == "stages.fine.epochs")
    assert (change["from"], change["to"]) == (15, 23)
    assert len({change["key"] for change in result.choice["changes"]}) == len(result.choice["changes"])


def test_accepted_findings_change_nothing():
    accept = {"codes": ["CU601"], "reason": "time"}
    result = judge(recipe_of(accept=accept), epochs([0.4 + 0.03 * i for i in range(15)]))
    assert [f.code for f in result.findings if f.accepted] == ["CU601"]
    assert "stages.fine.epochs" not in [change["key"] for change in result.choice["changes"]]


def test_the_baseline_fails_the_stage():
    result = judge(recipe_of(), epochs([0.5] * 15), counts=(1000, 1000), n=2000)
    assert ("CU606", "error") in [(finding.code, finding.severity) for finding in result.findings]
    assert result.verdict == "fail" and "CU605" not in codes(result)


def test_no_winner_is_said_and_nothing_is_checked():
    result = diagnose.judge(recipe_of(), result_inputs({"fine": {"choice": {}}}), diagnose.Settings(), [])
    assert result.headline == "Nothing to diagnose: fine has no winner."
    assert result.skipped and result.choice == {}


def test_without_a_train_subset_gap_rules_are_skipped():
    whole = epochs([0.5, 0.8, 0.9, 0.9, 0.9])
    curve = [row for row in whole.curve if row["split"] != "train_eval"]
    result = judge(recipe_of(), type(whole)(**{**vars(whole), "curve": curve}))
    skipped = {entry.check.split()[0] for entry in result.skipped}
    assert {"CU604", "CU605", "CU610"} <= skipped
    assert result.metrics.gap is None and "no train subset" in result.headline


# --- confirming runs: a scripted winner, and what the arms answer ---------------------------------------------------


def flat(accuracy, n=15):
    """Curves that have long stopped moving, train as good as val."""
    return [accuracy + 0.002 * (i % 2) for i in range(n)]


def case(curves, recipe=None, params=None, counts=(100, 100, 100, 100), n=1000, precision="fp32"):
    """Return recipe and inputs of a diagnosis of these curves."""
    recipe = recipe or recipe_of(search={"optimizer.momentum": {"low": 0.5, "high": 0.9}})
    spec = Inputs().spec(recipe, params or {}, seed=0, horizon_epochs=15, precision=precision)
    result = replace(curves, id=spec.id, evidence={"val_predictions": bits(answers(0.9, n))})
    choice = {"trial": spec.id, "params": params or {}, "epochs": 15, "checkpoint": f"fine/checkpoints/{spec.id}.pt"}
    scan = {"metrics": {"data": {"val": {"class_counts": list(counts)}}}}
    results = {"fine": {"choice": choice, "metrics": {}}, "check-init": scan}
    return recipe, result_inputs(results, {"fine": [Record(WorkItem(spec, 0), result)]})


def arm(item):
    """Name what a work item changes: the keys, how the rate moves, whether it starts from scratch."""
    tables = item.spec.tables
    return {
        "fresh": item.spec.horizon_epochs is not None,
        "lr": tables["optimizer"]["lr"],
        "dropout": not item.spec.measure or item.spec.measure["continued"]["dropout"],
        "decay": tables["optimizer"].get("weight_decay"),
        "smoothing": tables["loss"].get("label_smoothing"),
        "augment": tables["data"].get("augment"),
        "width": tables["model"].get("width"),
        "clip": tables["train"].get("clip_norm"),
        "precision": item.spec.precision,
    }


def answered(given, rule, settings=None):
    """Run the confirming runs, each ending at the accuracy that `rule(arm, seed)` says; judge."""
    recipe, inputs = given
    settings = settings or diagnose.Settings()

    def script(item):
        accuracy = rule(arm(item)) + 0.001 * item.spec.seed
        return epochs([accuracy] * (item.spec.horizon_epochs or 1))

    records = replay(diagnose, recipe, inputs, settings, script)
    return diagnose.judge(recipe, inputs, settings, records), records


def with_table(**tables):
    return recipe_of(search={"optimizer.momentum": {"low": 0.5, "high": 0.9}}, **tables)


LOW = epochs(flat(0.7), lr=0.01)


def test_a_sound_winner_asks_for_no_confirming_run():
    val = [0.5, 0.8, 0.9, 0.95, 0.96, 0.97, *[0.97, 0.972] * 4, 0.973]
    curves = epochs(val, train_accuracy=[v + 0.01 for v in val], lr=[0.1 / epoch for epoch in range(1, 16)])
    assert diagnose.plan(*case(curves), diagnose.Settings(), []) == []


def test_no_winner_asks_for_nothing():
    assert diagnose.plan(recipe_of(), Inputs(), diagnose.Settings(), []) == []


def test_confirm_off_asks_for_nothing():
    assert diagnose.plan(*case(LOW), diagnose.Settings(confirm=False), []) == []


def test_an_accuracy_that_stays_low_asks_beside_a_control_with_every_seed():
    items = diagnose.plan(*case(LOW), diagnose.Settings(seeds=3), [])
    assert [item.spec.seed for item in items] == [0, 1, 2] * 3
    assert sorted({arm(item)["lr"] for item in items}) == [0.001, 0.01, 0.1]
    assert all(item.spec.tables["schedule"]["name"] == "constant" for item in items)
    # ten steps per epoch: a hundred of them are ten epochs
    assert {item.spec.measure["continued"]["epochs"] for item in items} == {10}


@pytest.mark.parametrize(
    ("tables", "helps", "code", "cause", "keys"),
    [
        ({}, lambda a: a["lr"] == 0.1 and not a["fresh"], "CU614", "lr-too-low", ["optimizer.lr"]),
        ({"optimizer": {"lr": 0.01, "weight_decay": 0.1}}, lambda a: a["decay"] == 0, "CU616", "over-regularised",
         ["optimizer.weight_decay"]),
        ({"model": {"name": "mlp", "width": 16, "dropout": 0.8}}, lambda a: not a["dropout"], "CU616",
         "over-regularised", ["model.dropout"]),
        ({"loss": {"label_smoothing": 0.9}}, lambda a: a["smoothing"] == 0, "CU617", "smoothing-too-strong",
         ["loss.label_smoothing"]),
        ({"data": {"source": "digits", "augment": ["hflip"]}}, lambda a: a["augment"] == [], "CU618",
         "augmentation-harms", ["data.augment"]),
        ({"train": {"clip_norm": 1e-4}}, lambda a: a["clip"] is None, "CU620", "gradient-clipped-away",
         ["train.clip_norm"]),
        ({}, lambda a: a["width"] == 32, "CU619", "capacity-too-small", ["model.width"]),
    ],
)  # fmt: skip
def test_the_one_change_that_helps_is_the_cause(tables, helps, code, cause, keys):
    result, _ = answered(case(LOW, with_table(**tables)), lambda a: 0.9 if helps(a) else 0.7)
    first = result.findings[0]
    assert (first.code, first.cause, first.severity) == (code, cause, "warn")
    assert [change["key"] for change in result.choice["changes"]] == keys
    assert first.evidence["gain"] == pytest.approx(0.2)
    assert "CU605" not in codes(result) and result.verdict == "warn"


def test_of_several_regularisers_the_one_that_helps_alone_is_named():
    tables = {"optimizer": {"lr": 0.01, "weight_decay": 0.1}, "model": {"name": "mlp", "width": 16, "dropout": 0.1}}
    result, records = answered(case(LOW, with_table(**tables)), lambda a: 0.9 if a["decay"] == 0 else 0.7)
    assert result.findings[0].title.startswith("without optimizer.weight_decay it learns more")
    assert [change["key"] for change in result.choice["changes"]] == ["optimizer.weight_decay"]
    assert len(records) == 2 * (4 + 2)  # control, two rates, all off; then each alone


def test_regularisers_that_only_help_together_are_all_named():
    tables = {"optimizer": {"lr": 0.01, "weight_decay": 0.1}, "model": {"name": "mlp", "width": 16, "dropout": 0.5}}
    both = case(LOW, with_table(**tables))
    result, _ = answered(both, lambda a: 0.9 if a["decay"] == 0 and not a["dropout"] else 0.7)
    assert {change["key"] for change in result.choice["changes"]} == {"optimizer.weight_decay", "model.dropout"}


def test_decay_that_forbids_the_rate_is_found_by_both_at_once():
    recipe = with_table(optimizer={"lr": 0.01, "weight_decay": 0.3})

    def rule(a):
        return 0.9 if (a["decay"] == 0 and a["lr"] == 0.1) or a["width"] == 32 else 0.7

    result, _ = answered(case(LOW, recipe), rule)
    assert (result.findings[0].code, result.findings[0].cause) == ("CU616", "over-regularised")
    assert [change["key"] for change in result.choice["changes"]] == ["optimizer.weight_decay"]
    assert "CU619" not in codes(result)  # a wider model learns faster, and is not what is missing


def test_a_plateau_gains_at_a_tenth_of_the_rate_from_trained_weights_alone():
    result, _ = answered(case(LOW), lambda a: 0.8 if a["lr"] == 0.001 and not a["fresh"] else 0.7)
    assert codes(result)[0] == "CU607" and result.findings[0].evidence["at_a_tenth"] is not None
    assert "CU615" not in codes(result)
    assert [change["key"] for change in result.choice["changes"]][:1] == ["schedule.name"]


def test_a_rate_that_is_too_high_loses_from_the_start_on():
    result, _ = answered(case(LOW), lambda a: 0.8 if a["lr"] == 0.001 else 0.7)
    assert (result.findings[0].code, result.findings[0].cause) == ("CU615", "lr-too-high")
    assert "CU607" not in codes(result)


def test_where_nothing_helps_underfitting_is_left_and_says_what_was_tried():
    result, _ = answered(case(LOW), lambda a: 0.7)
    finding = next(finding for finding in result.findings if finding.code == "CU605")
    assert finding.severity == "note" and result.verdict == "pass"
    assert "short runs with rate x 10, rate / 10, width x 2, from scratch do not lift it" in finding.title
    assert "CU607" not in codes(result)  # a tenth of the rate gains nothing: no plateau of the rate


@pytest.mark.parametrize(("gain", "severity"), [(0.05, "warn"), (0.04, "note"), (0.02, None)])
def test_a_gain_counts_beyond_noise_and_weighs_from_five_points(gain, severity):
    # binomial noise of 0.7 over twice 1000 examples: 0.0102, so a gain below 0.0205 is none
    result, _ = answered(case(LOW), lambda a: 0.7 + gain * (a["lr"] == 0.1 and not a["fresh"]))
    found = {finding.code: finding.severity for finding in result.findings}
    assert found.get("CU614") == severity


def test_seeds_that_scatter_hide_a_gain():
    recipe, inputs = case(LOW)

    def script(item):
        faster = arm(item)["lr"] == 0.1 and not arm(item)["fresh"]
        return epochs([0.7 + 0.06 * faster + 0.1 * item.spec.seed] * (item.spec.horizon_epochs or 1))

    records = replay(diagnose, recipe, inputs, diagnose.Settings(), script)
    result = diagnose.judge(recipe, inputs, diagnose.Settings(), records)
    assert "CU614" not in codes(result)


BASELINE = epochs([0.25] * 15, lr=0.01)


@pytest.mark.parametrize(
    ("helps", "code"),
    [
        (lambda a: a["lr"] == 0.001, "CU615"),
        (lambda a: a["lr"] == 0.1, "CU614"),
        (lambda a: a["decay"] == 0, "CU616"),
        (lambda a: a["precision"] == "fp32", "CU621"),
    ],
)
def test_at_the_baseline_what_learns_is_the_cause_and_an_error(helps, code):
    recipe = with_table(optimizer={"lr": 0.01, "weight_decay": 1.0})
    result, records = answered(case(BASELINE, recipe, precision="bf16"), lambda a: 0.6 if helps(a) else 0.25)
    assert all(arm(record.item)["fresh"] for record in records)
    assert (result.findings[0].code, result.findings[0].severity) == (code, "error")
    assert "CU606" in codes(result) and result.verdict == "fail"


def test_at_the_baseline_with_nothing_that_learns_the_baseline_is_the_finding():
    result, _ = answered(case(BASELINE), lambda a: 0.26)
    assert codes(result)[0] == "CU606" and result.findings[0].severity == "error"


def test_arms_that_fail_or_diverge_help_nobody():
    recipe, inputs = case(LOW)
    records = replay(diagnose, recipe, inputs, diagnose.Settings(), lambda item: failure("oom"))
    result = diagnose.judge(recipe, inputs, diagnose.Settings(), records)
    assert all(answer.accuracy is None and not answer.helps for answer in result.metrics.confirming)
    diverged = replace(epochs([0.99]), evidence={"continued": {"diverged": True}})
    records = replay(diagnose, recipe, inputs, diagnose.Settings(), lambda item: diverged)
    result = diagnose.judge(recipe, inputs, diagnose.Settings(), records)
    assert not any(answer.helps for answer in result.metrics.confirming)


def test_a_decayed_schedule_is_not_compared_with_a_lower_rate():
    rates = [0.1 * (1 - i / 15) for i in range(15)]
    items = diagnose.plan(*case(epochs(flat(0.7), lr=rates)), diagnose.Settings(), [])
    assert {round(arm(item)["lr"] / rates[7], 6) for item in items} == {1.0, 10.0}


def test_any_cut_of_the_confirming_runs_goes_on_to_the_same_end():
    recipe, inputs = case(LOW, with_table(optimizer={"lr": 0.01, "weight_decay": 0.1}))

    def script(item):
        return epochs([0.7] * (item.spec.horizon_epochs or 1))

    assert_cut_anywhere_goes_on(diagnose, recipe, inputs, diagnose.Settings(), script)


def test_a_slow_rise_asks_for_the_rate_only_while_val_keeps_up():
    rising = [0.3 + 0.02 * i for i in range(15)]
    even = diagnose.plan(*case(epochs(rising, lr=0.01)), diagnose.Settings(), [])
    assert {arm(item)["lr"] for item in even} == {0.001, 0.01, 0.1}
    ahead = epochs(rising, train_accuracy=[v + 0.2 for v in rising], lr=0.01)
    assert diagnose.plan(*case(ahead), diagnose.Settings(), []) == []


def test_a_rise_under_way_is_not_blamed_on_the_width():
    rising = [0.3 + 0.02 * i for i in range(15)]
    _, records = answered(case(epochs(rising, lr=0.01)), lambda a: 0.9 if a["width"] == 32 else 0.6)
    assert not any(arm(record.item)["fresh"] for record in records)
