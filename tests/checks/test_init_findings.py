"""Single findings of check-init: what they name, what explains them, and what is said where a probe is missing."""

import pytest

from tests.checks.init_evidence import CODES, apply_rules, but, found, layer


def test_random_evaluation_is_not_taken_for_dependence_on_neighbours():
    evidence = but(neighbours__differ=0.4, repeatable_evaluation__outputs_differ=0.5)
    _, _, skipped = apply_rules("check-init", evidence)
    assert set(found(evidence)) == {"IN116"}
    assert [entry.why for entry in skipped] == [
        "evaluation is random, so the effect of the neighbours cannot be distinguished from it"
    ]


def test_a_gradient_that_died_is_no_wiring_and_stands_behind_what_killed_it():
    large = {"input_scale__std": [60.0], "input_scale__spread_ratio": 60.0}
    ranked, _, _ = apply_rules("check-init", but(one_step__zero_gradient=["w"], **large))
    assert [finding.cause for finding in ranked] == ["unnormalised-input", "dead-units"]
    ranked, _, _ = apply_rules("check-init", but(one_step__zero_gradient=["v", "w"], **large))
    assert [finding.cause for finding in ranked] == ["unnormalised-input", "untrained-parameters"]
    assert ranked[1].title == "trainable parameters receive no gradient: v"


def test_frozen_backbone_that_was_given_its_values_is_a_note_and_nothing_more():
    evidence = but(one_step__frozen=["backbone.w"], one_step__trainable=10)
    assert {code: finding.severity for code, finding in found(evidence).items()} == {"IN114": "note"}


def test_images_that_repeat_by_chance_are_a_note():
    across = {"duplicates": 6, "share": 0.03, "agreeing": 6, "first": ["a", "b"]}
    assert found(but(data_scan__across=across, data_scan__train__duplicates=18))["DA104"].severity == "note"
    assert found(but(data_scan__across=across, data_scan__train__duplicates=2))["DA104"].severity == "warn"


def test_coarse_table_with_equal_rows_is_no_leak():
    across = {"duplicates": 8, "share": 0.04, "agreeing": 8, "first": ["a", "b"]}
    evidence = but(data_scan__across=across, data_scan__train__shape=[4], data_scan__train__conflicting=100)
    assert {finding.severity for finding in found(evidence).values()} == {"note"}


def test_sign_error_is_told_from_a_loss_that_does_not_fit():
    evidence = but(loss_function__own_unbounded=True, loss_function__own_floor=None, loss_function__rewards_wrong=True)
    assert set(found(evidence)) == {"IN106"}


def test_nll_by_name_on_probabilities_is_proved():
    changes = {
        "loss_function__kind": "probabilities",
        "loss_function__uniform": -0.1,
        "loss_function__loss_name": "nll_loss",
    }
    assert found(but(**changes))["IN105"].severity == "error"


def test_unnormalised_input_proposes_the_change():
    finding = found(but(input_scale__std=[60.0], input_scale__spread_ratio=60.0))["DA109"]
    assert [(change.key, change.old, change.new) for change in finding.changes] == [
        ("data.normalize", "none", "standardize")
    ]


def test_accepted_code_is_shown_and_does_not_count():
    findings, _, _ = apply_rules("check-init", but(initial_loss__doubled_batch_ratio=2.0), accepted=["IN107"])
    assert [(finding.code, finding.accepted) for finding in findings] == [("IN107", True)]


def test_rules_say_what_they_miss_when_a_probe_did_not_run():
    findings, ran, skipped = apply_rules("check-init", {"failures": [], "recipe": {}})
    assert [finding.code for finding in findings] == ["IN100"]
    assert ran == ["IN100 nothing measured"]
    assert {entry.check.split()[0] for entry in skipped} == CODES - {"IN100"}
    assert all(entry.why for entry in skipped)


def test_rules_repeat_the_reason_of_a_probe_that_was_skipped():
    _, _, skipped = apply_rules("check-init", but(weight_decay={"skipped": "Rprop has no weight_decay to ask for"}))
    assert [(entry.check[:5], entry.why) for entry in skipped] == [("IN115", "Rprop has no weight_decay to ask for")]


def test_layer_rules_ask_for_enough_examples():
    _, _, skipped = apply_rules("check-init", but(layers__examples=63))
    assert {entry.check[:5] for entry in skipped} == {"IN130", "IN131", "IN132", "IN133"}


BLIND = {"input_use__varies": 0.0, "input_use__changes_when_zeroed": 0.0}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "input-ignored"),
        ({"layers__layers": [layer("relu", "ReLU", dead_fraction=1.0)]}, "dead-units"),
        ({"layers__layers": [layer("head", dead_input_fraction=1.0)]}, "dead-units"),
        ({"layers__layers": [layer("relu", "ReLU", dead_fraction=0.99)]}, "input-ignored"),
        ({"layers": {"skipped": "no"}}, "input-ignored"),
    ],
)
def test_an_input_that_is_ignored_for_a_layer_that_is_off_names_the_layer(changes, cause):
    said = found(but(**BLIND, **changes))
    (finding,) = [said[code] for code in ("IN119", "IN155") if code in said]
    assert finding.cause == cause
    assert ("every unit at" in finding.title) == (cause == "dead-units")


def test_an_example_that_shrinks_when_it_is_read_names_its_scale():
    again = {"repeatable_evaluation__val_reads_differ": 1.0, "repeatable_evaluation__val_reads_times": 0.0625}
    finding = found(but(**again))["IN154"]
    assert finding.cause == "unnormalised-input" and "0.0625 times what they were" in finding.title


@pytest.mark.parametrize(
    ("zeros", "cause"), [(0, "untrained-parameters"), (1, "untrained-parameters"), (2, "symmetric-init")]
)
def test_parameters_without_gradient_behind_layers_of_zeros_name_these(zeros, cause):
    layers = [layer(name, weight_norm=0.0 if place < zeros else 1.0) for place, name in enumerate("abc")]
    finding = found(but(one_step__zero_gradient=["a.weight"], one_step__had_gradient=["c.bias"], layers__layers=layers))
    (seen,) = [finding[code] for code in ("IN112", "IN152") if code in finding]
    assert seen.cause == cause
    assert ("are all 0" in seen.title) == (zeros > 1)


def test_labels_one_row_off_say_which():
    assert "the label of the example after fits" in found(but(labels_shifted__after=0.9))["DA113"].title
    assert "the label of the example before fits" in found(but(labels_shifted__before=0.9))["DA113"].title


@pytest.mark.parametrize(("dtype", "fires"), [("float32", True), ("uint8", True), ("int64", False)])
def test_words_by_number_are_nothing_that_the_classifier_could_read(dtype, fires):
    unrelated = {"labels_fit__train": 0.11, "labels_fit__val": 0.1, "data_scan__train__dtype": dtype}
    assert ("DA113" in found(but(**unrelated))) is fires


def test_relatives_within_train_judge_each_other_better_than_val_and_say_nothing_about_labels():
    changes = {"labels_fit__train": 0.9, "labels_fit__val": 0.1, "labels_fit__val_renamed": 0.15}
    assert "DA112" in found(but(**changes, relatives__rare_in_train=0.005))
    assert "DA112" not in found(but(**changes, relatives__rare_in_train=0.1))
