import pytest

from tests.search.search_cases import answers, bits, recipe_of
from tuner.core.result import Record
from tuner.core.trial import WorkItem
from tuner.execute.replay import epochs
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
    inputs = Inputs({"fine": {"choice": choice, "metrics": {}}, "check-init": scan}, {"fine": records})
    return diagnose.judge(recipe, inputs, settings or diagnose.Settings(), [])


def codes(result):
    return [finding.code for finding in result.findings]


def test_a_sound_run_has_nothing_to_mend():
    val = [0.5, 0.8, 0.9, 0.95, 0.96, 0.97, *[0.97, 0.972] * 4, 0.973]
    curves = epochs(val, train_accuracy=[v + 0.01 for v in val], lr=[0.1 / epoch for epoch in range(1, 16)])
    result = judge(recipe_of(schedule={"name": "cosine"}), curves, n=2000)
    assert codes(result) == [] and result.verdict == "pass" and result.choice["changes"] == []
    assert "nothing to mend" in result.headline


def test_metrics_are_read_at_the_best_epoch():
    val, train = [0.5, 0.9, 0.8, 0.7, 0.7], [0.6, 0.94, 0.95, 0.96, 0.97]
    result = judge(recipe_of(), epochs(val, train_accuracy=train, val_loss=[1, 0.4, 0.5, 0.6, 0.7]))
    metrics = result.metrics
    assert (metrics["best_epoch"], metrics["epochs"]) == (2, 5)
    assert (metrics["train_accuracy"], metrics["val_accuracy"]) == (0.94, 0.9)
    assert metrics["gap"] == pytest.approx(0.04)
    assert metrics["gap_interval"][0] < 0.04 < metrics["gap_interval"][1]
    assert metrics["curves_stage"] == "fine" and metrics["val_loss"] == 0.4


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
    result = diagnose.judge(recipe_of(), Inputs({"fine": {"choice": {}}}), diagnose.Settings(), [])
    assert result.headline == "Nothing to diagnose: fine has no winner."
    assert result.skipped and result.choice == {}


def test_without_a_train_subset_gap_rules_are_skipped():
    whole = epochs([0.5, 0.8, 0.9, 0.9, 0.9])
    curve = [row for row in whole.curve if row["split"] != "train_eval"]
    result = judge(recipe_of(), type(whole)(**{**vars(whole), "curve": curve}))
    skipped = {entry.check.split()[0] for entry in result.skipped}
    assert {"CU604", "CU605", "CU610"} <= skipped
    assert result.metrics["gap"] is None and "no train subset" in result.headline


def test_it_plans_nothing():
    assert diagnose.plan(recipe_of(), Inputs(), diagnose.Settings(), []) == []
