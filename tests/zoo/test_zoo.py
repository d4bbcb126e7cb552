"""The zoo itself: its cases are well formed, a few of them play out as they should, and the score adds up."""

import importlib
import json
import math

import numpy as np
import pytest

from tests.zoo import certificates, parts, pool
from tests.zoo.bases import BASES
from tests.zoo.case import CASES, STEPS, Case
from tests.zoo.catalog import chosen, definition, load_cases, training
from tests.zoo.causes import ADVICE, CAUSES, NAMED_BY, NEWER
from tests.zoo.certificates import certificate, clearly
from tests.zoo.play import last_step, play
from tests.zoo.recipe import recipe_with, write_folder
from tests.zoo.run import run_cases, tasks_of
from tests.zoo.score import Judged, baselines, causes_of, judged, rates, score, speaks
from tests.zoo.table import lists, tables
from tuner.checks.engine import all_rules
from tuner.core.store import write_json

# -- the cases -------------------------------------------------------------------------------------------------------


def test_every_case_is_well_formed():
    cases = load_cases()
    for case in cases.values():
        assert case.base in BASES, case.name
        assert len(case.what) > 10, case.name
        if case.healthy:
            assert not case.causes, case.name
        else:
            assert case.causes and set(case.causes) <= CAUSES, (case.name, case.causes)
            assert case.step in STEPS, case.name
        module = importlib.import_module(f"tests.zoo.{case.file.parent.name}.{case.family}")
        for file, colon, function in (text.partition(":") for text in _texts([case.changes, case.twin])):
            assert not colon or file in (case.file.name, "parts.py"), (case.name, file)
            assert not colon or callable(getattr(module if file == case.file.name else parts, function)), case.name
    assert len(cases) >= 85


def _texts(value):
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, (list, tuple)) else []


def test_the_zoo_is_as_large_and_as_varied_as_it_claims():
    cases = load_cases().values()
    bugs = [case for case in cases if not case.healthy]
    for kind, least in ((bugs, 60), ([case for case in cases if case.healthy], 25)):
        assert len(kind) >= least
        assert len({BASES[case.base][0] for case in kind}) >= 3
        assert len({BASES[case.base][1] for case in kind}) >= 4
        unseen = [case for case in kind if case.file.parent.name != "pairs"]
        assert 0.2 < sum(case.held_out for case in unseen) / len(unseen) < 0.5
    assert sum(bool(case.source) for case in bugs) >= 10
    assert len(bugs) == len({case.name for case in bugs})
    assert len(bugs) + 25 <= len(cases)


def test_causes_of_the_score_are_causes():
    assert len(CAUSES) == 56
    assert ADVICE < CAUSES
    assert set(NAMED_BY) < CAUSES
    assert {card.cause for card in all_rules().values()} <= CAUSES | NEWER


def test_cases_are_chosen_by_part_kind_name_family_and_beginning():
    assert [case.name for case in chosen("all", "all", ["gradients_are_never_cleared"])] == [
        "gradients_are_never_cleared"
    ]
    assert {case.family for case in chosen("all", "healthy", ["plain"])} == {"plain"}
    assert len(chosen("all", "healthy", ["plain_digits*"])) == 5
    dev, held_out = chosen("dev"), chosen("held-out")
    assert not {case.name for case in dev} & {case.name for case in held_out}
    assert len(dev) + len(held_out) == len(CASES)
    with pytest.raises(ValueError, match="no case here is named nonsense"):
        chosen("all", "all", ["plain", "nonsense"])


def test_a_copy_beside_a_recipe_registers_nothing(tmp_path):
    before = dict(load_cases())
    path = write_folder(before["gradients_are_never_cleared"], tmp_path)
    exec(compile((tmp_path / "loop.py").read_text(), str(tmp_path / "loop.py"), "exec"), {})
    assert before == CASES
    assert path.name == "recipe.toml" and (tmp_path / "parts.py").is_file()


def test_arguments_of_the_base_go_where_a_component_is_replaced(tmp_path):
    case = Case("x", "loop", "digits-conv", "", load_cases()["own_evaluation"].file, True, {"model.name": "resnet8"})
    text = write_folder(case, tmp_path).read_text()
    assert 'name = "resnet8"' in text and "width = 16" in text
    assert "depth" not in text and "batch_norm" not in text


def test_a_recipe_takes_changes_of_the_search_and_takes_keys_out():
    recipe = recipe_with("digits-mlp", {"search.optimizer.lr": [1], "optimizer.momentum": None, "model.width": 3})
    assert recipe["search"] == {"optimizer.lr": [1]}
    assert "momentum" not in recipe["optimizer"] and recipe["model"]["width"] == 3


def test_a_definition_changes_with_its_own_code_alone(tmp_path):
    code = (
        "from tests.zoo.case import bug\nSHARED = 1\n\n"
        '@bug("digits-mlp", "train.step")\ndef one(model):\n    return 1\n\n'
        '@bug("digits-mlp", "train.step")\ndef two(model):\n    return 2\n'
    )
    path = tmp_path / "mine.py"
    case = Case("one", "mine", "digits-mlp", "", path, False, {"train.step": "mine.py:one"})

    def defined(text):
        path.write_text(text)
        return definition(case)

    first = defined(code)
    assert defined(code.replace("return 2", "return 3")) == first
    assert defined(code.replace("return 1", "return 4")) != first
    assert defined(code.replace("SHARED = 1", "SHARED = 2")) != first


def test_settings_of_other_steps_do_not_change_the_training():
    file = load_cases()["own_evaluation"].file

    def case(**changes):
        return Case(
            "x", "evaluation", "digits-mlp", "", file, True, {k.replace("__", "."): v for k, v in changes.items()}
        )

    plain = training(case())
    assert training(case(stages__coarse={"trials": 9}, accept={"codes": ["IN114"], "reason": "x"})) == plain
    assert training(case(stages__fine={"trials": 3, "epochs": 3})) != plain
    assert training(case(train__batch_size=8)) != plain
    assert training(case(train__batch_size=8), twin=True) == plain


# -- data sets and the transformer -----------------------------------------------------------------------------------


def test_shapes_are_balanced_the_same_each_time_and_not_told_by_colour():
    (images, labels), (val, val_labels) = parts.shapes()
    again = parts.shapes()
    assert images.shape == (1600, 3, 16, 16) and images.dtype == np.uint8 and val.shape == (500, 3, 16, 16)
    assert np.array_equal(images, again[0][0]) and np.array_equal(val_labels, again[1][1])
    assert np.ptp(np.bincount(np.concatenate([labels, val_labels]))) <= 1
    colours = images.astype(float).mean((2, 3))
    centres = np.stack([colours[labels == c].mean(0) for c in range(6)])
    nearest = np.linalg.norm(colours[:, None] - centres[None], axis=2).argmin(1)
    assert (nearest == labels).mean() < 0.45  # a guess gives 0.17


def test_cancer_is_standardised_with_train_alone():
    (train, _), (val, _) = parts.cancer()
    assert train.shape == (399, 30) and val.shape == (170, 30)
    assert np.abs(train.mean(0)).max() < 1e-5 and np.abs(train.std(0) - 1).max() < 1e-4
    assert np.abs(val.mean(0)).max() > 0.01
    (raw, _), _ = parts.cancer(scale=False)
    assert raw.max() > 1000


def test_cifar_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path))
    monkeypatch.setenv("TUNER_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"\$TUNER_DATA/cifar10/train/<class>/\*\.jpg is not there"):
        parts.cifar(20)


def test_an_example_of_the_transformer_depends_on_its_own_patches_alone():
    import torch

    torch.manual_seed(0)
    model = parts.transformer((1, 8, 8), 10).eval()
    inputs = torch.randn(4, 1, 8, 8, requires_grad=True)
    model(inputs)[0].sum().backward()
    assert inputs.grad is not None
    assert inputs.grad[0].abs().min() > 0 and inputs.grad[1:].abs().max() == 0


# -- playing ---------------------------------------------------------------------------------------------------------


def test_a_bug_is_played_to_the_step_that_finds_it(tmp_path):
    case = load_cases()["gradients_are_never_cleared"]
    steps = play(case, 0, tmp_path / "work")
    assert [entry["step"] for entry in steps] == ["check-init"]
    found = judged({"status": "done", "seed": 0, "steps": steps}, case)
    assert found.detected and found.at_expected and found.named(1)
    assert json.loads(json.dumps(steps)) == steps


def test_the_last_step_is_the_expected_one_or_that_which_is_asked_for():
    cases = load_cases()
    assert last_step(cases["own_evaluation"]) == "diagnose"
    assert last_step(cases["own_evaluation"], "fine") == "fine"
    assert last_step(cases["gradients_are_never_cleared"], "fine") == "check-init"


def test_a_look_alike_is_played_to_the_end_without_an_alarm(tmp_path):
    case = load_cases()["gradients_are_cleared_after_the_step"]
    steps = play(case, 0, tmp_path / "work")
    assert [entry["step"] for entry in steps] == list(STEPS)
    found = judged({"status": "done", "seed": 0, "steps": steps}, case)
    assert not found.false_error and not found.false_warn
    assert found.seconds == pytest.approx(sum(entry["seconds"] for entry in steps))


def test_a_refused_recipe_is_an_entry_with_its_exit_code(tmp_path):
    case = Case(
        "x", "loop", "digits-mlp", "", load_cases()["own_evaluation"].file, False, {"model.width": -1}, step="fine"
    )
    (entry,) = play(case, 0, tmp_path / "work")
    assert (entry["step"], entry["exit"], entry["error"]) == ("check-init", 2, "UsageError")
    assert "model.width" in entry["message"]


def test_runs_are_kept_and_not_made_again(tmp_path):
    case = load_cases()["gradients_are_never_cleared"]
    tasks, said = tasks_of([case], 1, tmp_path), []
    first = run_cases(tasks, 1, said.append)
    assert first[0]["status"] == "done" and "gradients-accumulate" in said[1]
    assert run_cases(tasks, 1, said.append) == first
    assert said[2] == "1 runs, 1 of them done before"
    assert len(said) == 3


def test_the_pool_outlives_tasks_that_die_or_hang():
    died, hung, worked = "import os; os._exit(3)", "import time; time.sleep(60)", "pass"
    ended = {end.task: end for end in pool.each(exec, [died, hung, worked], 2, 5.0, preloaded=[])}
    assert {task: end.how for task, end in ended.items()} == {died: "died", hung: "timeout", worked: "finished"}
    assert ended[died].detail == "exit code 3"
    assert ended[hung].detail == "killed after 5 s"


# -- the score -------------------------------------------------------------------------------------------------------

BUG = Case("b", "f", "digits-mlp", "a bug", parts.Path("f.py"), False, causes=("lr-too-high", "unstable"), step="fine")
SOUND = Case("h", "f", "digits-mlp", "sound", parts.Path("f.py"), True)


def entry(step, *findings, exit=0, message=None, seconds=1.0):
    listed = [dict(zip(("cause", "severity", "accepted"), (*item, False)[:3], strict=True)) for item in findings]
    extra = {} if message is None else {"message": message}
    return {"step": step, "exit": exit, "findings": listed, "seconds": seconds, **extra}


def record(case, *steps, status="done", seed=0):
    return {"case": case.name, "seed": seed, "status": status, "why": "why", "steps": list(steps)}


def test_a_warn_detects_and_the_first_step_that_speaks_counts():
    found = judged(
        record(BUG, entry("check-init"), entry("overfit", ("dead-units", "warn")), entry("fine", ("unstable", "warn"))),
        BUG,
    )
    assert (found.step, found.seconds, found.said) == ("overfit", 2.0, ("dead-units",))
    assert not found.at_expected and not found.named(3)


def test_a_note_detects_only_as_advice_that_is_true():
    assert speaks(entry("fine", ("unstable", "note")), BUG)
    assert not speaks(entry("fine", ("plateau", "note")), BUG)
    assert not speaks(entry("fine", ("lr-too-high", "note")), BUG)  # never a note by design
    assert not speaks(entry("fine", ("lr-too-high", "warn", True)), BUG)


def test_steps_after_the_expected_one_do_not_count():
    assert not judged(record(BUG, entry("fine"), entry("diagnose", ("lr-too-high", "error"))), BUG).detected


@pytest.mark.parametrize(
    ("exit", "message", "spoken", "named"),
    [
        (4, "x.py:3: IndexError: Target 10 is out of bounds", True, ("wrong-label-range",)),
        (2, "model.width: must be at least 1", True, ()),
        (2, "", False, ()),
        (70, "Traceback", False, ()),
        (5, "no memory", False, ()),
    ],
)
def test_an_error_detects_by_its_message(exit, message, spoken, named):
    case = Case("b", "f", "digits-mlp", "", parts.Path("f.py"), False, causes=("wrong-label-range",), step="check-init")
    step = entry("check-init", exit=exit, message=message)
    assert speaks(step, case) is spoken
    assert not spoken or causes_of(step, case) == named


def test_top_three_looks_at_three_open_findings():
    said = [("dead-units", "warn", True), ("plateau", "warn"), ("at-baseline", "warn"), ("unstable", "note")]
    found = judged(record(BUG, entry("fine", *said)), BUG)
    assert found.said == ("plateau", "at-baseline", "unstable")
    assert found.named(3) and not found.named(1)


def test_false_alarms_of_a_look_alike():
    assert judged(record(SOUND, entry("fine", ("unstable", "note"))), SOUND).false_error is False
    warned = judged(record(SOUND, entry("fine", ("unstable", "warn")), entry("diagnose")), SOUND)
    assert (warned.false_error, warned.false_warn) == (False, True)
    accepted = judged(record(SOUND, entry("fine", ("unstable", "warn", True))), SOUND)
    assert (accepted.false_error, accepted.false_warn) == (False, False)
    assert judged(record(SOUND, entry("fine", exit=1)), SOUND).false_error
    assert judged(record(SOUND, status="timeout"), SOUND).false_error


def _runs():
    """Four runs: right, right second, wrong, missed."""
    steps = [
        entry("fine", ("unstable", "warn")),
        entry("fine", ("plateau", "warn"), ("unstable", "warn")),
        entry("overfit", ("plateau", "warn"), seconds=4.0),
        entry("fine"),
    ]
    return [judged(record(BUG, step, seed=seed), BUG) for seed, step in enumerate(steps)]


def test_rates_are_shares_of_all_runs():
    found = rates(_runs())
    assert (found.n, found.detected, found.at_expected, found.top1, found.top3) == (4, 0.75, 0.5, 0.25, 0.5)
    assert found.seconds == 1.0
    assert found.interval == pytest.approx((0.3006, 0.9544), abs=1e-4)  # R: prop.test(3, 4, correct = FALSE)


def test_baselines_are_exact_expectations():
    found = baselines(_runs())
    always, where = found["always alarm, random cause"], found["our alarms, random cause"]
    assert always.detected == 1.0 and always.at_expected == 0.0
    assert always.top1 == pytest.approx(2 / 56)
    assert always.top3 == pytest.approx(1 - (54 * 53 * 52) / (56 * 55 * 54))
    assert where.detected == 0.75 and where.top1 == pytest.approx(0.75 * 2 / 56)


def test_what_is_not_certified_or_skipped_is_left_out():
    cases = {"b": BUG, "h": SOUND}
    records = [record(BUG, entry("fine", ("unstable", "warn"))), record(SOUND, entry("fine"), status="skipped")]
    whole = score(records, cases, lambda case: None)
    assert (len(whole.bugs), len(whole.healthy), whole.left_out) == (1, 0, {"h": "why"})
    assert score(records, cases, lambda case: "no harm").left_out == {"b": "no harm", "h": "why"}


def test_tables_and_lists_show_the_counts():
    cases = {"b": BUG, "h": SOUND}
    records = [record(BUG, entry("fine", ("plateau", "warn"))), record(BUG, entry("fine"), seed=1)]
    records += [record(SOUND, entry("fine", ("unstable", "warn"))), record(SOUND, entry("fine"), seed=1)]
    result = score(records, cases, lambda case: None)
    text = tables(result)
    assert "| **all** | 2 | 50.0 % | 9.5 % - 90.5 % | 50.0 % | 0.0 % | 0.0 % | 1.0 |" in text
    assert "| all | 2 | 0 | 1 (50.0 %) |" in text
    listed = lists(result)
    assert "Missed: 1 runs\n- b (seed 1, digits-mlp): fine should say lr-too-high or unstable; said nothing" in listed
    assert "- h (seed 0, digits-mlp): unstable (fine, warn)" in listed


def test_empty_scores_are_printed_too():
    assert math.isnan(rates([]).detected)
    assert "| healthy look-alikes |" in tables(score([], {}, lambda case: None))
    assert Judged(BUG, 0, None, (), 0.0).detected is False


# -- certificates ----------------------------------------------------------------------------------------------------


def measured(**values):
    """Return five measurements: a number, or five of them."""
    return [
        {key: value[seed] if isinstance(value, list) else value for key, value in values.items()} for seed in range(5)
    ]


TWIN = measured(
    accuracy=[0.95, 0.96, 0.94, 0.95, 0.95], balanced_accuracy=0.95, nll=0.2, reported=0.95, reported_loss=0.2
)


def _bug(harm):
    return Case("b", "f", "digits-mlp", "", parts.Path("f.py"), False, causes=("unstable",), step="fine", harm=harm)


def test_clearly_needs_the_margin_and_two_standard_errors():
    assert clearly([0.03, 0.03, 0.031], 0.02)
    assert not clearly([0.019, 0.019, 0.019], 0.02)
    assert not clearly([0.2, -0.1, 0.0, 0.05, 0.0], 0.02)
    assert not clearly([0.5], 0.02)


def test_a_worse_val_accuracy_is_certified():
    found = certificate(_bug("val"), measured(accuracy=0.80, nll=0.7, reported=0.80), TWIN)
    assert (found["proved"], found["metric"], found["case"], found["twin"]) == ("val", "accuracy", 0.8, 0.95)


def test_a_worse_likelihood_is_certified_where_the_accuracy_holds():
    found = certificate(_bug("val"), measured(accuracy=0.95, nll=1.5, reported=0.95), TWIN)
    assert (found["proved"], found["metric"]) == ("val", "nll")


def test_most_seeds_must_crash():
    crashed = measured(accuracy=0.1)
    for item in crashed[:3]:
        item["failed"] = "diverged"
    assert certificate(_bug("crash"), crashed, TWIN)["proved"] == "crash"
    del crashed[0]["failed"]
    assert certificate(_bug("crash"), crashed, TWIN)["proved"] == "val"  # a failed run counts as a guess


def test_a_wrong_number_is_certified():
    own = measured(accuracy=0.95, nll=0.2, reported=0.93, reported_loss=0.2)
    found = certificate(_bug("number"), own, TWIN)
    assert (found["proved"], found["metric"]) == ("number", "reported, not accuracy")
    too_good = measured(accuracy=0.99, nll=0.2, reported=0.99, reported_loss=0.2)
    assert certificate(_bug("number"), too_good, TWIN)["metric"] == "reported, not the twin's"


def test_a_harmless_bug_is_not_certified():
    assert certificate(_bug("val"), TWIN, TWIN)["proved"] is None


def test_a_look_alike_must_train_about_as_well_as_its_base():
    assert certificate(SOUND, measured(accuracy=0.91, balanced_accuracy=0.9), TWIN)["proved"] == "healthy"
    low = measured(accuracy=0.5, balanced_accuracy=0.5)
    assert certificate(SOUND, low, measured(accuracy=0.54, balanced_accuracy=0.54))["proved"] == "healthy"
    assert certificate(SOUND, low, TWIN)["proved"] is None
    low[2]["failed"] = "diverged"
    assert certificate(SOUND, low, low)["why"] == "diverged"


def test_a_training_that_was_killed_is_no_number(monkeypatch, tmp_path):
    case = load_cases()["gradients_are_never_cleared"]
    monkeypatch.setattr(certificates, "_carry_out", lambda task: write_json(task.path, TWIN[task.seed]))

    def each(function, tasks, *_):
        for task in tasks:
            function(task)
            killed = task.seed == 1 and not task.twin
            yield pool.Ended(task, "timeout" if killed else "finished", "killed after 300 s", 1.0)

    monkeypatch.setattr(certificates.pool, "each", each)
    said = []
    found = certificates.certify([case], 5, tmp_path, 1, said.append)[case.name]
    assert (found["proved"], found["case"], found["twin"]) == (None, 0.9475, 0.9475)  # the pairs that there are
    assert said[1] == f"{case.name} (seed 1): timeout, killed after 300 s"
    certificates.certify([case], 5, tmp_path, 1, said.append)
    assert "10 trainings, 9 of them done before" in said


def test_a_look_alike_or_a_twin_without_a_measurement_proves_nothing():
    killed = [*TWIN[:4], {}]
    for own, twin in ((killed, TWIN), (TWIN, killed), ([{}] * 5, TWIN)):
        found = certificate(SOUND, own, twin)
        assert (found["proved"], found["why"]) == (None, "a training, or its twin's, has no measurement")
    assert certificate(_bug("val"), killed, TWIN)["proved"] is None
    assert certificate(_bug("crash"), [{}] * 5, TWIN)["proved"] is None


def test_a_bug_is_measured_against_its_twin(tmp_path):
    from tests.zoo.measure import measure

    case = load_cases()["gradients_are_never_cleared"]
    own, twin = (measure(case, 0, tmp_path / name, twin=name == "twin") for name in ("own", "twin"))
    assert twin["accuracy"] > 0.9 and twin["reported"] == pytest.approx(twin["accuracy"])
    assert twin["alone"] == pytest.approx(twin["accuracy"]) and twin["reported_loss"] == pytest.approx(twin["nll"])
    assert own["accuracy"] < twin["accuracy"] - 0.02


def test_certificates_are_tied_to_what_they_certify(monkeypatch, tmp_path):
    case = load_cases()["gradients_are_never_cleared"]
    path = tmp_path / "certificates.json"
    monkeypatch.setattr(certificates, "STORED", path)
    assert certificates.why_not_certified(case) == "it has no certificate"
    good = {"proved": "val", "metric": "accuracy", "case": 0.3, "twin": 0.9, "training": training(case)[:16]}
    said = []
    certificates.write_certificates({case.name: good, "gone": good}, said.append)
    assert certificates.why_not_certified(case) is None and said[-1] == "2 of 2 certified"
    assert list(json.loads(path.read_text())) == [case.name]
    certificates.write_certificates({case.name: {**good, "training": "old"}}, said.append)
    assert certificates.why_not_certified(case) == "it was changed since it was certified"
    certificates.write_certificates({case.name: {**good, "proved": None}}, said.append)
    assert certificates.why_not_certified(case) == "not proved: accuracy 0.3 against 0.9 of its twin"
    assert said[-2] == f"{case.name}: accuracy 0.3, twin 0.9 "
