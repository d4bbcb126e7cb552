"""The rules of check-init: each fires, stays silent on a healthy look-alike, at its border, and says what it misses."""

# ruff: noqa: E501 - the tables of cases read better with one case per line

import copy
import math

import pytest

from tests.checks.asking import built
from tuner.checks import engine
from tuner.checks.evidence import NotMeasured

LOG10 = math.log(10)


def layer(name, kind="Linear", signal=1.0, **more):
    return {
        "name": name, "type": kind, "linear": kind == "Linear", "activation_mean": 0.0, "activation_std": 1.0,
        "signal_std": signal, "zero_fraction": 0.0, "dead_fraction": None, "saturated_fraction": None,
        "weight_norm": 3.0 if kind == "Linear" else None, "grad_norm": 0.1, "symmetric": False if kind == "Linear" else None,
    } | more  # fmt: skip


def split(n=1000, **more):
    return {
        "n": n, "shape": [3, 32, 32], "dtype": "uint8", "min": [0.0] * 3, "max": [255.0] * 3, "mean": [120.0] * 3,
        "std": [60.0] * 3, "non_finite": 0, "first_non_finite": None, "constant_inputs": 0, "constant_columns": [],
        "class_counts": [n // 10] * 10, "label_range": [0, 9], "labels_outside": 0, "first_label_outside": None,
        "duplicates": 0, "first_duplicate": None, "conflicting": 0, "first_conflict": None,
    } | more  # fmt: skip


def call(**more):
    return {
        "function": "kl_div", "shape": [64, 10], "low": -4.0, "high": -1.2, "are_shares": False, "target_values": [0.1, 0.9],
        "wants": "log-probabilities",
    } | more  # fmt: skip


STARTS = {
    "left": 0.003, "tried": True, "level": LOG10, "rates": [0.05, 0.5, 0.005],
    "as_is": {"lowest": 2.3, "steps": 200, "learns": False}, "rescaled": {"lowest": 1.7, "steps": 12, "learns": True},
}  # fmt: skip
QUIET = {"mean": 0.0, "z": 0.0, "within": 0.0, "within_z": 0.0}
HEALTHY = {
    "failures": [],
    "initial_loss": {
        "num_classes": 10, "log_c": LOG10, "prior_entropy": LOG10, "init_losses": [2.4, 2.35, 2.42], "init_loss": 2.39,
        "init_loss_std": 0.03, "loss_at_uniform": LOG10, "loss_at_prior": LOG10, "output_shape": [10], "kind": "logits",
        "output_std": 0.4, "init_accuracy": 0.1, "doubled_batch_ratio": 1.0, "batch_size": 128, "random_in_train_mode": False,
    },
    "loss_function": {
        "kind": "logits", "uniform": LOG10, "free_floor": 0.0, "free_unbounded": False, "own_floor": 0.0,
        "own_unbounded": False, "rewards_wrong": False, "unpaired": False, "over_batch": False,
        "loss_name": "cross_entropy",
    },
    "one_step": {
        "updates": 4, "parameters": 100, "trainable": 100, "frozen": [], "frozen_at_random": [], "unregistered": [],
        "unknown_to_optimizer": [], "known_to_optimizer": 4,
        "foreign_in_optimizer": 0, "at_rate_0": [], "no_gradient": [], "zero_gradient": [], "had_gradient": ["w"], "moved": 4, "not_moved": [],
        "forward_in_eval_mode": False, "left_in_eval_mode": False, "eval_modules": [], "calls": 4, "steps_per_epoch": 50,
        "other_optimizers": 0, "state_lost": False, "rates_set": [], "momentum": 0.9, "precisions": ["float32"],
        "normalisation": {"layers": 2, "still": [], "largest_momentum": 0.1},
    },
    "gradient_seen": {
        "ratios": [1.0, 1.0], "norms": [2.0, 2.1], "cosines": [1.0, 1.0], "maximises": False, "adaptive": False, "clip_norm": None,
        "calls": 1,
    },
    "rescaled_start": {"left": 0.4, "tried": False},
    "batch_use": {"idle": [], "batch_size": 64},
    "classes_heard": {"unheard": {}, "asked": 10},
    "step_diet": {
        "own_step": True, "given": 128, "forwarded": 128, "used": 1.0, "stale": 0.0, "unknown": 0.0, "mispaired": 0.0,
    },
    "metric_check": {
        "hooks": ["evaluate", "metric"],
        "evaluate": {
            "examples": 400, "batch_size": 90, "seen": 1.0, "partial_batch": True, "accuracy": [0.8, 0.3, 0.8],
            "planned": [0.8, 0.3, 0.8], "reads": "accuracy", "monitor": "val_accuracy", "monitored": [0.8, 0.3], "improves": 1,
        },
        "metric": {
            "name": "mine.py:f1", "examples": 400, "values": [0.79, 0.28, 0.79], "planned": [0.8, 0.3, 0.8], "turned_round": 0.79,
            "torn_apart": 0.1,
            "named_accuracy": False, "reads": None, "monitor": None,
        },
    },
    "planned_rates": {
        "name": "cosine", "every": "step", "kind": "LambdaLR", "base": 0.1, "optimizer_follows": True,
        "runs": {"fine": {
            "epochs": 10, "steps": 500, "raised": None, "rates": [1.0, 0.5, 0.0], "places": [0.0, 0.5, 1.0], "finite": True,
            "first": 1.0, "peak": 1.0, "lowest": 0.0, "final": 0.001, "peak_until": 0.0, "zero_until": 0.0, "dead_from": 0.94,
            "range": 1.0, "rises": 0, "rises_per_epoch": 0.0, "follows_recipe": True,
        }},
    },
    "splits_compared": {
        "train": 1000, "val": 200, "separability": 0.51, "augmented_by_itself": False, "is_image": True,
        "shifts": [{"mean": 0.05, "z": 0.6, "within": 0.02, "within_z": 0.3}] * 3, },
    "class_shares": {"distance": 0.02, "p": 0.9},
    "near_copies": {
        "asked": 600, "train": 5000, "near": 0, "exact": 0, "share": 0.0, "expected": 0.1, "dimension": 9.0, "agreeing": None,
        "median_ratio": 0.9, "first": None,
    },
    "labels_shifted": {"n": 1000, "own": 0.5, "before": 0.1, "after": 0.12},
    "labels_fit": {
        "n": 1000, "classes": 10, "train": 0.5, "chance": 0.12, "shuffled": 0.1, "shuffled_std": 0.01, "val_n": 200,
        "val": 0.49, "val_renamed": 0.52, "val_chance": 0.12, "recalls": [0.5, 0.52],
    },
    "ends_of_range": {"examples": 256, "coloured": 0.9, "at_low": 0.1, "at_high": 0.02, "levels": 256},
    "patch_order": {"differ": {"2": 0.4, "4": 0.3}, "pixels": 0.6, "sides": [8, 8]},
    "single_features": {
        "features": 3072, "best": 0.2, "second": 0.19, "name": "value 7", "chance": 0.12, "n": 1000, "is_image": True,
    },
    "label_order": {
        "asked": 256, "relabelled": 0, "examples": 2048, "distinct": 2048, "batches": 16, "entropy": 2.2, "expected": 2.2, "z": 0.3,
    },
    "linearity": {"deviation": 0.4, "weights": 3},
    "image_layout": {"examples": 256, "smooth": [0.93, 0.9], "undone": [0.6, 0.3]},
    "augmentation": {
        "augments": True, "examples": 1000, "changed": 1.0, "moved": 0, "mispaired": None, "relabelled": 0.0, "finite": True,
        "mixed": 0.0, "outweighed": 0.0,
        "blanked": 0.0, "shift": -0.1, "ratio": 1.0, "clean": 0.6, "augmented": 0.4, "relearned": 0.45, "chance": 0.1,
        "mirrored": 250, "of_mirrored": 0.55,
    },
    "fresh_gradients": {"growing": [], "rounded": [], "ratios": [1.0, 1.0, 1.0], "cosines": [1.0, 1.0, 1.0]},
    "weight_decay": {
        "asked": 5e-4, "in_groups": [5e-4], "decayed": ["w"], "exempt": [], "not_shrunk": [], "moved_though_exempt": [],
        "moved_with_decay_off": [], "factors": [0.9999],
    },
    "repeatable_evaluation": {"outputs_differ": 0.0, "modes_in_forward": [], "left_in_train_mode": False, "statistics_moved": [], "val_reads_differ": 0.0, "val_reads_times": None},
    "neighbours": {"differ": 1e-7, "outputs": 32, "inputs": 32},
    "loss_calls": {"calls": [
        {"function": "kl_div", "shape": [64, 10], "low": -4.0, "high": -1.2, "are_shares": False, "target_values": [0.01, 0.91], "wants": "log-probabilities"},
        {"function": "cross_entropy", "shape": [64, 10], "low": -0.5, "high": 0.6, "are_shares": False, "target_values": [0.0, 1.0], "wants": "logits"},
        {"function": "soft_margin_loss", "shape": [64, 10], "low": -0.5, "high": 0.6, "are_shares": False, "target_values": [-1.0, 1.0], "wants": "both signs"},
    ]},
    "unheard_mistakes": {"wrong": 57, "silent": 0.0, "silent_right": 0.3},
    "state_between_calls": {"differ": 0.0, "changed": ["calls"]},
    "schedule_object": {
        "kind": "ReduceLROnPlateau", "stage": "fine", "epochs": 10, "every": "epoch", "steps_per_epoch": 50, "made_for": 20, "stepped": 10,
        "mode": "min",
    },
    "own_evaluation": {
        "learnt": True, "first_loss": 2.3, "loss": 0.1, "steps": 30, "with_adam": False, "hook": {"loss": 0.1, "accuracy": 1.0},
        "majority": 0.1, "foreign_norms": 2, "still": 0,
    },
    "recurrent_memory": {"layers": [{"name": "lstm", "type": "LSTM", "steps": 64, "heard": 12, "reaches": 0.01, "tail": 20}]},
    "classes_augmented": {
        "counts": [50] * 3, "recall": [[1.0, 0.8]] * 3, "taken_for": [1, 0, 1], "share_taken": [[0.0, 0.1], [0.0, 0.4], [0.0, 0.1]],
        "rest": [0.05, 0.05, 0.1], "class_names": ["b", "d", "s"],
    },
    "relatives": {
        "asked": 400, "train": 3000, "rank": 10, "dimension": 6.0, "hits": 4, "rare": 0.01, "rare_in_train": 0.002, "equal": 0,
        "agreeing": 1.0, "first": ["train row 1", "val row 2"],
    },
    "image_axes": {"shape": [3, 32, 32], "channels": 3},
    "seeds": {"same_object": False, "equal": False, "parameters": 100},
    "fine_tuning": {"kept": 2, "off": 1.3, "layer": "norm1"},
    "shifted_windows": {"asked": 400, "shifted": 0.04, "agreeing": 1.0, "first": ["train row 1", "val row 2"]},
    "start_undone": {"first": 2.4, "uniform": LOG10, "asked": 20, "updates": 0},
    "words_heard": {"padding": 0, "padded": 40, "words": 1.2, "length": 0.8},
    "input_use": {"varies": 1.0, "changes_when_zeroed": 1.0, "size": 2.0},
    "layers": {"examples": 512, "layers": [layer("a"), layer("relu", "ReLU", dead_fraction=0.1), layer("b"), layer("c")]},
    "input_scale": {"mean": [0.0], "std": [1.0], "min": -2.0, "max": 2.0, "spread_ratio": 1.0, "normalize": "none"},
    "data_scan": {
        "class_names": [], "num_classes": 10, "train": split(), "val": split(200),
        "across": {"duplicates": 0, "share": 0.0, "agreeing": 0, "first": None},
    },
}  # fmt: skip


def but(**changes):
    """Return the healthy evidence with fields changed: measurement__field = value."""
    evidence = copy.deepcopy(HEALTHY)
    for path, value in changes.items():
        *parents, key = path.split("__")
        node = evidence
        for parent in parents:
            node = node[parent]
        node[key] = value
    return evidence


def apply_rules(stage, facts, accepted=()):
    """Apply the rules to evidence that is made of these fields, one that no class has being an error."""
    given = {name: fields for name, fields in facts.items() if name not in ("recipe", "failures")}
    evidence = {
        name: NotMeasured(fields["skipped"], fields.get("raised", False))
        if "skipped" in fields
        else built(name, **fields)
        for name, fields in given.items()
    }
    return engine.apply_rules(stage, {**evidence, "trials": built("trials", failures=facts["failures"])}, accepted)


def found(evidence):
    findings, _, _ = apply_rules("check-init", evidence)
    return {finding.code: finding for finding in findings}


CODES = {code for code, card in engine.all_rules().items() if card.stage == "check-init"}


def test_healthy_evidence_gives_no_finding_and_skips_no_rule():
    findings, ran, skipped = apply_rules("check-init", HEALTHY)
    assert not findings
    assert not skipped
    assert {name.split()[0] for name in ran} == CODES


SCALED = {"shape": [6], "mean": [1e-9] * 6, "std": [1.0] * 6}
BY_TRAIN = {"shape": [6], "mean": [0.03] * 6, "std": [0.99] * 6}  # of 200 examples, sampling leaves 0.07
FIRES = [
    ("DA101", "error", {"data_scan__train__non_finite": 3, "data_scan__train__first_non_finite": "a.png, channel 0"}),
    ("DA102", "error", {"data_scan__val__labels_outside": 1, "data_scan__val__first_label_outside": "row 7"}),
    ("DA103", "error", {"data_scan__train__constant_inputs": 501}),
    ("DA103", "error", {"data_scan__train__constant_columns": ["r", "g", "b"]}),
    ("DA103", "warn", {"data_scan__train__constant_inputs": 51}),
    ("DA103", "note", {"data_scan__train__constant_columns": ["channel 2"]}),
    ("DA104", "warn", {"data_scan__across": {"duplicates": 20, "share": 0.1, "agreeing": 20, "first": ["a", "b"]}}),
    ("DA104", "note", {"data_scan__across": {"duplicates": 2, "share": 0.01, "agreeing": 2, "first": ["a", "b"]}}),
    ("DA104", "note", {"data_scan__across": {"duplicates": 20, "share": 0.1, "agreeing": 11, "first": ["a", "b"]}}),
    ("DA105", "error", {"data_scan__train__duplicates": 951}),
    ("DA105", "warn", {"data_scan__train__duplicates": 949}),
    ("DA105", "warn", {"data_scan__train__duplicates": 501}),
    ("DA105", "note", {"data_scan__train__duplicates": 11}),
    ("DA106", "warn", {"data_scan__train__conflicting": 11}),
    ("DA106", "note", {"data_scan__train__conflicting": 10}),
    ("DA107", "note", {"data_scan__train__class_counts": [101] + [10] * 9}),
    ("DA108", "warn", {"data_scan__train__class_counts": [0] + [100] * 9}),
    ("DA108", "error", {"data_scan__train__class_counts": [1000] + [0] * 9}),
    ("DA109", "warn", {"input_scale__std": [60.0], "input_scale__mean": [120.0], "input_scale__spread_ratio": 60.0}),
    ("DA109", "warn", {"input_scale__std": [0.004], "input_scale__mean": [0.002], "input_scale__spread_ratio": 0.01}),
    ("IN100", "error", {"failures": [{"kind": "oom", "message": "out of memory"}]}),
    ("IN100", "error", {"initial_loss": {"skipped": "RuntimeError: no", "raised": True}}),
    ("IN101", "error", {"initial_loss__init_losses": [2.3, float("nan"), 2.3]}),
    ("IN101", "error", {"initial_loss__init_losses": [2.3, None, 2.3]}),
    ("IN102", "warn", {"initial_loss__init_loss": 4.7, "start_undone__updates": None}),
    ("IN102", "note", {"initial_loss__init_loss": 4.7, "start_undone__updates": 6}),
    ("IN102", "warn", {"initial_loss__init_loss": 9.3, "start_undone__updates": 6}),
    ("IN103", "note", {"initial_loss__init_losses": [0.3, 0.31, 0.3], "initial_loss__init_accuracy": 0.9}),
    ("IN104", "error", {"loss_function__kind": "probabilities", "loss_function__own_floor": 1.4612}),
    ("IN104", "error", {"loss_function__kind": "signed", "loss_function__own_floor": 0.7966}),
    ("IN105", "error", {"loss_function__own_unbounded": True, "loss_function__own_floor": None, "loss_function__uniform": 0.0}),
    ("IN105", "warn", {"loss_function__kind": "probabilities", "loss_function__uniform": -0.1, "loss_function__own_floor": -1.0}),
    ("IN105", "error", {"loss_function__unpaired": True}),
    ("IN146", "error", {"loss_function__over_batch": True}),
    ("IN116", "warn", {"repeatable_evaluation__val_reads_differ": 0.9}),
    ("IN106", "error", {"loss_function__rewards_wrong": True}),
    ("IN107", "warn", {"initial_loss__doubled_batch_ratio": 2.0}),
    ("IN108", "warn", {"initial_loss__output_shape": [1000]}),
    ("IN108", "error", {"initial_loss__output_shape": [5]}),
    ("IN109", "warn", {"loss_function__free_floor": 2.27, "loss_function__own_floor": 2.27}),
    ("IN110", "error", {"fresh_gradients__ratios": [1.0, 2.0, 3.0]}),
    ("IN111", "error", {"one_step__updates": 0}),
    ("IN111", "error", {"one_step__moved": 0}),
    ("IN111", "error", {"one_step__known_to_optimizer": 0, "one_step__moved": 0}),
    ("IN111", "warn", {"one_step__not_moved": ["w"]}),
    ("IN112", "warn", {"one_step__no_gradient": ["v"]}),
    ("IN153", "warn", {"one_step__zero_gradient": ["w"]}),
    ("IN152", "warn", {"one_step__no_gradient": ["v"], "layers__layers": [layer("a", weight_norm=0.0), layer("b", weight_norm=0.0)]}),
    ("IN155", "error", {"input_use__varies": 0.0, "input_use__changes_when_zeroed": 0.0, "layers__layers": [layer("relu", "ReLU", dead_fraction=1.0)]}),
    ("IN112", "error", {"one_step__trainable": 0, "one_step__frozen": ["w"]}),
    ("IN113", "warn", {"one_step__unknown_to_optimizer": ["w"]}),
    ("IN113", "error", {"one_step__foreign_in_optimizer": 2}),
    ("IN113", "warn", {"one_step__unregistered": [[10, 10]]}),
    ("IN114", "warn", {"one_step__frozen": ["backbone.w"], "one_step__frozen_at_random": ["backbone.w"], "one_step__trainable": 10}),
    ("IN114", "note", {"one_step__frozen": ["backbone.w"], "one_step__trainable": 10}),
    ("IN107", "warn", {"initial_loss__doubled_batch_ratio": 0.5}),
    ("IN128", "warn", {"fresh_gradients__rounded": ["w"]}),
    ("IN145", "warn", {"planned_rates__runs__fine__follows_recipe": False, "planned_rates__optimizer_follows": False}),
    ("IN115", "warn", {"weight_decay__in_groups": [0.0]}),
    ("IN115", "warn", {"weight_decay__not_shrunk": ["w"]}),
    ("IN115", "warn", {"weight_decay__moved_with_decay_off": ["w"]}),
    ("IN116", "error", {"repeatable_evaluation__statistics_moved": ["bn.running_mean"]}),
    ("IN116", "warn", {"repeatable_evaluation__outputs_differ": 0.5}),
    ("IN116", "warn", {"repeatable_evaluation__modes_in_forward": ["train"]}),
    ("IN116", "warn", {"repeatable_evaluation__left_in_train_mode": True}),
    ("IN117", "error", {"neighbours__differ": 0.5}),
    ("IN117", "error", {"neighbours__outputs": 64}),
    ("IN118", "warn", {"one_step__forward_in_eval_mode": True}),
    ("IN118", "warn", {"one_step__eval_modules": ["bn"]}),
    ("IN119", "error", {"input_use__varies": 0.0, "input_use__changes_when_zeroed": 0.0}),
    ("IN147", "warn", {"one_step__rates_set": [0.1, 0.09, 0.081, 0.0729]}),
    ("IN154", "error", {"repeatable_evaluation__val_reads_differ": 1.0, "repeatable_evaluation__val_reads_times": 0.0625}),
    ("DA110", "warn", {"splits_compared__shifts": [{"mean": 0.9, "z": 12.0, "within": 0.0, "within_z": 0.0}]}),
    ("DA110", "warn", {"splits_compared__shifts": [{"mean": 0.0, "z": 0.0, "within": -0.9, "within_z": -12.0}]}),
    ("DA110", "note", {"splits_compared__shifts": [{"mean": 0.9, "z": 12.0, "within": 0.0, "within_z": 0.0}] + [QUIET] * 9, "splits_compared__is_image": False}),
    ("DA110", "warn", {"splits_compared__separability": 0.9}),
    ("DA111", "warn", {"near_copies__near": 60, "near_copies__share": 0.1, "near_copies__agreeing": 0.95, "near_copies__first": ["a", "b"]}),
    ("DA111", "note", {"near_copies__near": 20, "near_copies__share": 0.03, "near_copies__agreeing": 0.95, "near_copies__first": ["a", "b"]}),
    ("DA112", "warn", {"labels_fit__train": 0.9, "labels_fit__val": 0.1, "labels_fit__val_renamed": 0.15}),
    ("DA112", "warn", {"labels_fit__train": 0.9, "labels_fit__val": 0.1, "labels_fit__val_renamed": 0.9}),
    ("DA113", "warn", {"labels_fit__train": 0.11, "labels_fit__val": 0.1}),
    ("DA113", "warn", {"labels_shifted__after": 0.66}),
    ("DA113", "warn", {"labels_shifted__before": 0.9, "labels_fit": {"skipped": "no"}}),
    ("DA114", "warn", {"single_features__best": 0.99, "single_features__second": 0.7}),
    ("DA115", "error", {"label_order__entropy": 0.1, "label_order__z": -200.0}),
    ("DA115", "warn", {"label_order__entropy": 1.9, "label_order__z": -8.0}),
    ("DA115", "error", {"label_order__relabelled": 200}),
    ("DA116", "warn", {"data_scan__train__n": 90}),
    ("DA116", "note", {"data_scan__train__n": 99, "data_scan__val__n": 30}),
    ("DA117", "note", {"data_scan__train__class_counts": [0] + [100] * 9, "data_scan__val__class_counts": [0] + [20] * 9}),
    ("DA118", "warn", {"class_shares__distance": 0.6, "class_shares__p": 0.0}),
    ("DA118", "note", {"class_shares__distance": 0.3, "class_shares__p": 0.0}),
    ("DA119", "warn", {"image_layout__smooth": [0.6, 0.3], "image_layout__undone": [0.93, 0.9]}),
    ("DA119", "warn", {"image_axes__smooth": [0.3, -0.1], "image_axes__undone": [0.7, 0.6]}),
    ("DA129", "warn", {f"data_scan__{name}__{key}": value for name in ("train", "val") for key, value in SCALED.items()}),
    ("DA126", "warn", {"labels_fit__recalls": [0.7, 0.95], "labels_fit__val_n": 650}),
    ("DA130", "warn", {"data_scan__columns": {"identifiers": ["row"]}}),
    ("DA127", "warn", {"augmentation__of_mirrored": 0.2}),
    ("DA128", "warn", {"ends_of_range__at_low": 0.4, "ends_of_range__at_high": 0.3}),
    ("IN186", "error", {"words_heard__words": 0.0}),
    ("IN185", "warn", {"patch_order__differ": {"2": 0.3, "4": 1e-6}}),
    ("DA120", "error", {"augmentation__finite": False}),
    ("DA120", "warn", {"augmentation__blanked": 0.5}),
    ("DA120", "warn", {"augmentation__shift": -1.5}),
    ("DA120", "warn", {"augmentation__ratio": 0.01}),
    ("DA120", "warn", {"augmentation__augmented": 0.15, "augmentation__relearned": 0.2}),
    ("DA121", "error", {"augmentation__moved": 60, "augmentation__mispaired": 0.9}),
    ("DA121", "error", {"augmentation__mixed": 1.0, "augmentation__outweighed": 0.2}),
    ("IN110", "error", {"fresh_gradients__growing": ["conv.weight"]}),
    ("IN120", "error", {"metric_check__evaluate__reads": None}),
    ("IN120", "warn", {"metric_check__evaluate__seen": 0.3}),
    ("IN120", "note", {"metric_check__evaluate__reads": "mean over classes"}),
    ("IN120", "note", {"metric_check__evaluate__reads": "mean over batches", "metric_check__evaluate__partial_batch": False}),
    ("IN121", "error", {"metric_check__metric__turned_round": 0.5}),
    ("IN121", "error", {"metric_check__evaluate__improves": 0}),
    ("IN121", "warn", {"metric_check__metric__values": [0.5, float("nan"), 0.5]}),
    ("IN122", "error", {"one_step__other_optimizers": 4, "one_step__updates": 0}),
    ("IN122", "warn", {"one_step__other_optimizers": 1, "one_step__updates": 0}),
    ("IN122", "error", {"one_step__state_lost": True}),
    ("IN123", "warn", {"gradient_seen__ratios": [0.004, 0.005]}),
    ("IN123", "note", {"gradient_seen__ratios": [0.04, 0.05]}),
    ("IN123", "note", {"gradient_seen__ratios": [0.004, 0.005], "gradient_seen__adaptive": True}),
    ("IN124", "error", {"gradient_seen__cosines": [-1.0, -1.0]}),
    ("IN124", "error", {"gradient_seen__maximises": True}),
    ("IN125", "error", {"step_diet__stale": 0.75, "step_diet__used": 0.25}),
    ("IN125", "warn", {"step_diet__used": 0.06}),
    ("IN125", "error", {"batch_use__idle": [0]}),
    ("IN125", "error", {"batch_use__idle": [1], "step_diet": {"own_step": False}}),
    ("IN148", "warn", {"classes_heard__unheard": {"0": 0.1}}),
    ("IN113", "warn", {"one_step__at_rate_0": ["backbone.w"]}),
    ("IN126", "error", {"step_diet__mispaired": 0.9}),
    ("IN127", "warn", {"one_step__normalisation__still": ["bn"]}),
    ("IN127", "warn", {"one_step__normalisation__largest_momentum": 0.99}),
    ("IN127", "warn", {"one_step__batch_size": 2}),
    ("IN128", "warn", {"one_step__precisions": ["float16"]}),
    ("IN128", "note", {"one_step__precisions": ["float32", "float64"]}),
    ("IN129", "warn", {"one_step__calls": 38, "one_step__updates": 1}),
    ("IN151", "error", {"one_step__momentum": 1.0}),
    ("IN151", "warn", {"one_step__momentum": 0.9994}),  # 1,667 updates, of 500
    ("IN150", "warn", {"gradient_seen__ratios": [8.0, 7.9], "gradient_seen__calls": 8}),
    ("IN150", "note", {"gradient_seen__ratios": [2.0, 2.0], "gradient_seen__calls": 2, "gradient_seen__adaptive": True}),
    ("IN140", "error", {"planned_rates__runs__fine__dead_from": 0.1}),
    ("IN140", "warn", {"planned_rates__runs__fine__dead_from": 0.5}),
    ("IN140", "warn", {"planned_rates__runs__fine__zero_until": 0.05}),
    ("IN141", "warn", {"planned_rates__runs__fine__first": 0.1, "planned_rates__runs__fine__peak_until": 0.6}),
    ("IN142", "warn", {"planned_rates__runs__fine__rises": 100, "planned_rates__runs__fine__rises_per_epoch": 10.0}),
    ("IN143", "warn", {"planned_rates__runs__fine__range": 0.0}),
    ("IN144", "error", {"planned_rates__runs__fine__raised": "after 3 updates of 9: no"}),
    ("IN144", "warn", {"planned_rates__runs__fine__peak": 11.0}),
    ("IN145", "note", {"planned_rates__runs__fine__follows_recipe": False}),
    ("IN130", "warn", {"layers__layers": [layer("relu", "ReLU", dead_fraction=0.6)]}),
    ("IN130", "warn", {"layers__layers": [layer("fc", dead_input_fraction=0.6)]}),
    ("IN131", "warn", {"layers__layers": [layer("tanh", "Tanh", saturated_fraction=0.6)]}),
    ("IN132", "warn", {"layers__layers": [layer("a"), layer("b", signal=1e-5), layer("c", signal=1e-5)]}),
    ("IN133", "warn", {"layers__layers": [layer("a"), layer("b", signal=1e5), layer("c", signal=1e5)]}),
    ("IN135", "warn", {"linearity__deviation": 1e-6}),
    ("IN134", "warn", {"layers__layers": [layer("a", symmetric=True), layer("b", symmetric=True)]}),
    ("IN136", "warn", {"rescaled_start": STARTS}),
    ("IN170", "error", {"loss_calls__calls": [call(are_shares=True, low=0.0, high=0.3)]}),
    ("IN170", "error", {"loss_calls__calls": [call(function="nll_loss", high=3.0)]}),
    ("IN171", "error", {"loss_calls__calls": [call(function="cross_entropy", wants="logits", are_shares=True, low=0.0, high=0.3)]}),
    ("IN172", "error", {"loss_calls__calls": [call(function="soft_margin_loss", wants="both signs", target_values=[0.0, 1.0])]}),
    ("IN173", "error", {"unheard_mistakes__silent": 0.21}),
    ("IN160", "warn", {"state_between_calls__differ": 0.002}),
    ("IN165", "warn", {"schedule_object__made_for": 21}),
    ("IN166", "warn", {"schedule_object__mode": "max"}),
    ("IN167", "warn", {"recurrent_memory__layers": [{"name": "lstm", "type": "LSTM", "steps": 64, "heard": 6, "reaches": None, "tail": 1}]}),
    ("IN168", "error", {"recurrent_memory__layers": [{"name": "lstm", "type": "LSTM", "steps": 64, "heard": 12, "reaches": 1e-9, "tail": 40}]}),
    ("IN180", "error", {"own_evaluation__hook": {"loss": 0.1, "accuracy": 0.5}}),
    ("IN181", "error", {"own_evaluation__still": 2}),
    ("DA122", "warn", {"classes_augmented__share_taken": [[0.0, 0.4], [0.0, 0.4], [0.0, 0.1]]}),
    ("DA123", "warn", {"relatives__hits": 5, "relatives__rare": 0.0125}),
    ("DA124", "warn", {"shifted_windows__shifted": 0.05}),
    ("DA125", "error", {"image_axes__shape": [32, 32, 3], "image_axes__channels": 32}),
    ("IN183", "note", {"image_axes__plain_layout": True}),
    ("IN184", "warn", {"seeds__same_object": True}),
    ("IN190", "warn", {"fine_tuning__moving": ["norm1"]}),
    ("IN191", "warn", {"fine_tuning__off": 80.0}),
    ("IN184", "warn", {"seeds__equal": True}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "severity", "changes"), FIRES, ids=[f"{c}-{s}-{i}" for i, (c, s, _) in enumerate(FIRES)]
)
def test_rule_fires(code, severity, changes):
    finding = found(but(**changes))[code]
    assert finding.severity == severity
    assert finding.title and finding.remedy and finding.evidence


def test_every_rule_of_check_init_has_a_case_that_fires():
    _, ran, _ = apply_rules("check-init", HEALTHY)
    assert {code for code, _, _ in FIRES} == {name.split()[0] for name in ran}


SILENT = {
    "an average that lags behind": {"own_evaluation__hook": {"loss": 2.0, "accuracy": 0.2}},
    "a short sequence": {"recurrent_memory__layers": [{"name": "gru", "type": "GRU", "steps": 8, "heard": 2, "reaches": None, "tail": 1}]},
    "copies in train alone": {"relatives__hits": 0, "relatives__rare": 0.0, "relatives__agreeing": None},
    "near ones of other classes": {"relatives__hits": 40, "relatives__rare": 0.1, "relatives__agreeing": 0.5},
    "a class that goes to a crowd": {"classes_augmented__share_taken": [[0.0, 0.4], [0.0, 0.4], [0.0, 0.1]], "classes_augmented__rest": [0.2, 0.2, 0.2]},
    "a truncated loss that is silent throughout": {"unheard_mistakes__silent": 1.0, "unheard_mistakes__silent_right": 1.0},
    "label smoothing of 0.1": {"loss_function__free_floor": 0.5003, "loss_function__own_floor": 0.5003},
    "a floor at exactly 70 %": {"loss_function__free_floor": 0.7 * LOG10, "loss_function__own_floor": 0.7 * LOG10},
    "focal loss": {"initial_loss__loss_at_uniform": 1.8651, "initial_loss__loss_at_prior": 1.8651, "initial_loss__init_loss": 1.95},
    "nll on log_softmax": {"loss_function__kind": "log-probabilities", "loss_function__free_floor": None, "loss_function__free_unbounded": True},
    "brier on softmax": {"loss_function__kind": "probabilities", "loss_function__uniform": 0.09},
    "bce on sigmoid": {"loss_function__kind": "unit", "loss_function__free_floor": None, "loss_function__uniform": 0.693},
    "soft-capped logits": {"loss_function__kind": "logits"},
    "zero-initialised head": {"initial_loss__init_losses": [LOG10] * 3, "initial_loss__init_loss": LOG10, "initial_loss__output_std": 0.0},
    "logits of unit spread": {"initial_loss__init_loss": LOG10 + 0.5},
    "a loss at twice uniform": {"initial_loss__init_loss": 2 * LOG10},
    "prior-bias init": {"initial_loss__init_losses": [0.06] * 3, "initial_loss__init_loss": 0.06, "initial_loss__loss_at_prior": 0.056},
    "batch norm that absorbs the scale": {"input_scale__std": [60.0], "input_scale__mean": [120.0]},
    "pixels in 0..1": {"input_scale__std": [0.25], "input_scale__mean": [0.45], "input_scale__spread_ratio": 0.3},
    "rectifiers with few dead units": {"layers__layers": [layer("relu", "ReLU", dead_fraction=0.5)]},
    "tiny images in black and white": {"data_scan__train__duplicates": 9, "data_scan__across": {"duplicates": 0, "share": 0.0, "agreeing": 0, "first": None}},
    "a faded signal that starts slowly": {"rescaled_start": STARTS | {"as_is": {"lowest": 2.2, "steps": 180, "learns": True}}},
    "a rate at which nothing learns": {"rescaled_start": STARTS | {"rescaled": {"lowest": 2.3, "steps": 100, "learns": False}}},
    "a single constant layer": {"layers__layers": [layer("a", symmetric=True), layer("b")]},
    "a zero-initialised branch": {"layers__layers": [layer("a"), layer("b", signal=0.0, weight_norm=0.0), layer("c"), layer("d")]},
    "a constant pixel of one example": {"data_scan__train__constant_inputs": 50},
    "a ten to one imbalance": {"data_scan__train__class_counts": [100] + [10] * 9},
    "kernels that differ a little": {"neighbours__differ": 1e-4, "repeatable_evaluation__outputs_differ": 1e-6},
    "clipped gradients": {"fresh_gradients__ratios": [1.0, 1.0, 1.0]},
    "random gradients": {"fresh_gradients__ratios": [1.0, 2.0, 1.1], "fresh_gradients__cosines": [1.0, 0.3, 0.2]},
    "no decay asked for": {"weight_decay__asked": None, "weight_decay__in_groups": [0.0]},
    "val that is an eighth of an image's spread brighter": {"splits_compared__shifts": [{"mean": 0.5, "z": 12.0, "within": 0.5, "within_z": 9.0}]},
    "a small val that is off by chance": {"splits_compared__shifts": [{"mean": 0.9, "z": 5.9, "within": 0.0, "within_z": 0.0}]},
    "a Dataset that augments train": {"splits_compared__shifts": [{"mean": 0.9, "z": 20.0, "within": -0.9, "within_z": -20.0}], "splits_compared__augmented_by_itself": True, "splits_compared__separability": None},
    "splits of other groups": {"splits_compared__separability": 0.7},
    "digits, which lie close": {"near_copies__near": 20, "near_copies__share": 0.033, "near_copies__expected": 4.1, "near_copies__agreeing": 1.0, "near_copies__first": ["a", "b"]},
    "near images of other classes": {"near_copies__near": 60, "near_copies__share": 0.1, "near_copies__agreeing": 0.5, "near_copies__first": ["a", "b"]},
    "val scaled by train": {f"data_scan__{name}__{key}": value for name, of in (("train", SCALED), ("val", BY_TRAIN)) for key, value in of.items()},
    "three channels that happen to be standard": {f"data_scan__{name}__{key}": value[:3] for name in ("train", "val") for key, value in SCALED.items()},
    "a harder train split, by chance": {"labels_fit__recalls": [0.6, 0.72]},  # 6 standard errors of 200: 30 points
    "a few mirrored examples": {"augmentation__mirrored": 49, "augmentation__of_mirrored": 0.2},
    "more than half of what was read, mirrored": {"augmentation__of_mirrored": 0.36},
    "a drawing of plain colours": {"ends_of_range__at_low": 0.5, "ends_of_range__at_high": 0.5, "ends_of_range__levels": 9},
    "a photograph of black ink": {"ends_of_range__at_low": 0.9, "ends_of_range__coloured": 0.05},
    "half of the values at an end": {"ends_of_range__at_low": 0.5, "ends_of_range__at_high": 0.0},
    "a bag of colours by design": {"patch_order__differ": {"2": 0.0, "4": 0.0}, "patch_order__pixels": 0.0},
    "kernels that sum in another order": {"patch_order__differ": {"2": 1e-3}},
    "a model that permutes its inputs": {"image_axes__smooth": [0.7, 0.6], "image_axes__undone": [0.3, -0.1]},
    "a signal of four points": {"labels_fit__train": 0.14, "labels_fit__val": 0.13},
    "val of other people": {"labels_fit__train": 0.9, "labels_fit__val": 0.65},
    "means that are mostly the example's own": {"augmentation__mixed": 1.0, "augmentation__outweighed": 0.19},
    "labels of a sorted set": {"labels_shifted__before": 0.5, "labels_shifted__after": 0.5},
    "a neighbour's labels by chance": {"labels_shifted__after": 0.64},  # 15 points, 6 standard errors: 13.4
    "few images in an order": {"labels_shifted": {"n": 100, "own": 0.1, "before": 0.5, "after": 0.1}},
    "a decisive measurement among others": {"single_features__best": 0.98, "single_features__second": 0.95},
    "accumulation over eight batches": {"one_step__calls": 32},
    "batches that are averaged": {"gradient_seen__ratios": [1.0, 1.0], "gradient_seen__calls": 8},
    "a sum that is clipped": {"gradient_seen__ratios": [8.0, 7.8], "gradient_seen__calls": 8},
    "a loss that is doubled": {"gradient_seen__ratios": [2.0, 2.0], "gradient_seen__calls": 1},
    "batches and a penalty": {"gradient_seen__ratios": [2.0, 2.0], "gradient_seen__calls": 2, "gradient_seen__cosines": [0.97, 0.9]},
    "a long memory in a long run": {"one_step__momentum": 0.9999, "planned_rates__runs__fine__steps": 3400},
    "a memory of the run's length": {"one_step__momentum": 0.998},  # 500 updates, as many as the run has
    "a long memory in runs that nothing is known of": {"one_step__momentum": 0.9999, "planned_rates": {"skipped": "no"}},
    "clipping at 1": {"gradient_seen__ratios": [0.2, 0.15]},
    "mixup in the step": {"step_diet__unknown": 1.0, "step_diet__used": 0.0, "step_diet__mispaired": None},
    "micro-batches": {"step_diet__used": 0.97},
    "logistic regression": {"linearity": {"deviation": 1e-7, "weights": 1}},
    "images of noise": {"image_layout__smooth": [0.0, 0.0], "image_layout__undone": [0.02, 0.01]},
    "channels that have nothing in common": {"image_layout__smooth": [0.9, 0.0], "image_layout__undone": [0.5, 0.6]},
    "no augmentation": {"augmentation": {"augments": False}},
    "augmentation that reorders pairs": {"augmentation__moved": 60, "augmentation__mispaired": 0.0, "augmentation__relabelled": 0.8},
    "augmentation that leaves a quarter": {"augmentation__augmented": 0.225, "augmentation__relearned": 0.2},
    "no step of its own": {"step_diet": {"own_step": False}},
    "no hooks": {"metric_check": {"hooks": []}},
    "negated twice": {"gradient_seen__maximises": True, "gradient_seen__cosines": [-1.0, -1.0]},
    "a rise of half of the run": {"planned_rates__runs__fine__first": 0.04, "planned_rates__runs__fine__peak_until": 0.5},
    "a sum over two halves": {"initial_loss__doubled_batch_ratio": 1.5},
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_rules_stay_silent_on_a_healthy_look_alike(case):
    assert not found(but(**SILENT[case]))


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
