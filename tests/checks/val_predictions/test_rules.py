"""What the winner's answers say of labels and splits, and healthy programs that look alike."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.curves.rules import level
from tuner.checks.val_predictions import rules as answers
from tuner.checks.val_predictions.measure import sureness


def said(right, wrong, auroc):
    return {"right": right, "wrong": wrong, "auroc": auroc, "sure_when_right": 0.8, "sure_when_wrong": 0.7}


SOUND = {
    "answers": {"val": said(900, 100, 0.88), "train": said(950, 50, 0.9)}, "majority_share": 0.1, "val_n": 1000,
    "recall": [0.9] * 10, "class_counts": [100] * 10, "own_evaluate": True, "val_accuracy": 0.9,
    "train_accuracies": [0.6, 0.8, 0.95], "val_accuracies": [0.58, 0.78, 0.9], "running_accuracies": [0.5, 0.75, 0.9],
}  # fmt: skip
ALL = [answers.sure_of_wrong_answers, answers.rare_classes_missed, level.only_memorised, level.val_is_another_world,
       answers.evaluates_something_else]  # fmt: skip


def asked(check, facts):
    facts = dict(facts)
    of_answers = {key: facts.pop(key, None) for key in ("answers", "recall", "class_counts")}
    return ask(check, built("curves", epochs=3, **facts), built("val_predictions", **of_answers))


@pytest.mark.parametrize("check", ALL)
def test_a_sound_run_is_silent(check):
    assert asked(check, SOUND) is None


@pytest.mark.parametrize("check", ALL)
def test_without_its_evidence_a_rule_is_missing(check):
    with pytest.raises(Missing):
        asked(check, dict.fromkeys(SOUND))


@pytest.mark.parametrize(
    ("val", "fires"),
    [
        (said(700, 300, 0.55), True),
        (said(700, 300, 0.60), True),
        (said(700, 300, 0.62), False),  # the upper end, 0.62 + 2 sqrt((1/700 + 1/300) / 12) = 0.66, is above 0.65
        (said(700, 300, 0.85), False),  # ambiguous classes: less sure where it is wrong
        (said(150, 850, 0.50), False),  # it has learnt next to nothing
        (said(50, 15, 0.50), None),  # too few wrong answers
    ],
)
def test_label_noise(val, fires):
    given = {**SOUND, "answers": {"val": val}}
    if fires is None:
        with pytest.raises(Missing, match="fewer than 20 wrong"):
            asked(answers.sure_of_wrong_answers, given)
        return
    finding = asked(answers.sure_of_wrong_answers, given)
    assert (finding is not None) == fires
    assert finding is None or (finding.cause, finding.severity) == ("label-noise", "note")


def test_noise_that_only_train_has_is_seen_on_its_subset():
    given = {**SOUND, "answers": {"val": said(950, 50, 0.9), "train": said(700, 300, 0.55)}}
    assert asked(answers.sure_of_wrong_answers, given).evidence["split"] == "train"


def test_label_noise_on_answers_of_a_known_distribution():
    """An honest classifier of ambiguous inputs against the same one with a third of the labels drawn again."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2.5, (4000, 10))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    honest = np.array([rng.choice(10, p=p) for p in shares])
    easy = 12.0 * np.eye(10)[rng.integers(0, 10, 4000)] + rng.normal(0, 1, (4000, 10))
    noisy = np.where(rng.random(4000) < 0.3, rng.integers(0, 10, 4000), easy.argmax(1))
    for outputs, targets, fires in ((logits, honest, False), (easy, noisy, True)):
        seen = sureness(torch.tensor(outputs), torch.tensor(targets))
        given = {**SOUND, "answers": {"val": dataclasses.asdict(seen)}}
        assert (asked(answers.sure_of_wrong_answers, given) is not None) == fires


@pytest.mark.parametrize(
    ("counts", "recall", "fires"),
    [
        ([900, 40], [1.0, 0.0], True),
        ([900, 40], [0.97, 0.3], False),
        ([900, 9], [1.0, 0.0], False),  # nine examples say little
        ([100, 100], [1.0, 0.0], False),  # no rare class: another matter
        ([900, 40, 0], [1.0, 0.5, None], False),
    ],
)
def test_rare_classes_missed(counts, recall, fires):
    finding = asked(answers.rare_classes_missed, {**SOUND, "class_counts": counts, "recall": recall})
    assert (finding is not None) == fires
    assert finding is None or finding.cause == "class-imbalance"


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"val_accuracies": [0.1, 0.11, 0.1], "running_accuracies": [0.1, 0.3, 0.9]}, ["CU642"]),
        ({"val_accuracies": [0.1, 0.11, 0.1], "running_accuracies": [0.5, 0.8, 0.9]}, ["CU643"]),
        ({"val_accuracies": [0.1, 0.11, 0.1], "train_accuracies": [0.1, 0.2, 0.3]}, []),  # train is not learnt either
        ({"val_accuracies": [0.1, 0.11, 0.2]}, []),  # val learns, if little
    ],
)
def test_train_learnt_and_val_not_at_all(changes, codes):
    given = {**SOUND, **changes}
    found = [asked(level.only_memorised, given), asked(level.val_is_another_world, given)]
    assert [finding.code for finding in found if finding] == codes
    assert all(finding.severity == "error" for finding in found if finding)


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({"val_accuracy": 0.2}, True),
        ({"val_accuracy": 0.79}, True),
        ({"val_accuracy": 0.2, "own_evaluate": False}, False),  # tuner's own evaluation has these weights
        ({"val_accuracy": 0.81}, False),  # within the ten points that averaged weights may differ by
        ({"val_accuracy": 0.97}, False),  # averaging gains
        ({"val_accuracy": 0.6, "recall": [1.0, *[0.5] * 9]}, False),  # the mean recall is what is reported
        ({"val_accuracy": 0.7, "answers": {"val": said(18, 2, 0.9)}}, False),  # 20 examples: down to 0.699
    ],
)
def test_an_evaluation_of_other_weights(changes, fires):
    finding = asked(answers.evaluates_something_else, {**SOUND, **changes})
    assert (finding is not None) == fires
    assert finding is None or (finding.cause, finding.severity) == ("metric-wrong", "warn")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"own_evaluate": None}, "is not known"),
        ({"answers": {"train": said(9, 1, 0.9)}}, "were not counted"),
    ],
)
def test_what_an_evaluation_of_other_weights_is_told_by_may_be_missing(changes, why):
    with pytest.raises(Missing, match=why):
        asked(answers.evaluates_something_else, {**SOUND, **changes})
