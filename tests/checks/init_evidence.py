"""Evidence of a healthy check-init, and what its rules find when some of it is changed."""

# ruff: noqa: E501 - the tables of cases read better with one case per line

import copy
import math

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
        "init_loss_std": 0.03, "loss_at_uniform": LOG10, "loss_at_prior": LOG10, "loss_at_zero": LOG10, "output_shape": [10], "kind": "logits",
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
    "target_values": {
        "quantities": 1, "distance": 0.05, "p": 0.8, "medians": [1.0, 1.1], "best": 0.5, "second": 0.4, "name": "age",
        "features": 6, "n": 400,
    },
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
    "loss_terms": {
        "value": 2.3, "gradients": [1.0, 0.9],
        "terms": [{"name": "train.l1 (l1)", "value": 0.01, "gradients": [0.01, 0.01], "asked": 6, "elsewhere": 0, "pulled": 0.01}],
    },
    "evaluated_weights": {"first": {"coarse": 0.1, "fine": 0.0}, "updates": {"coarse": 50, "fine": 500}, "norms": 2},
    "weights_return": {"updates": 20},
    "targets_in_sight": {"ahead": 1, "share": 1.0, "read": 0, "asked": 4},
    "repeated_layers": {"groups": []},
    "weights_shortened": {"shortened": 0.1, "length": 0.9, "left": 0.9},
    "dropout_noise": {"shared": 0.2, "rates": {"drop": 0.6}, "passes": 8, "examples": 128},
    "moves_at_rest": {"calls": 1, "moved": 1e-7, "uphill": 0.9},
    "cosine_scale": {"classes": 10, "scale": 16.0, "fitted": 3.1},
    "mixed_shares": {"examples": 200, "correlation": 1.0},
    "input_sizes": {"val": [32, 32], "smallest": [24, 24], "largest": [40, 40], "batches": 20},
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
SCALED = {"shape": [6], "mean": [1e-9] * 6, "std": [1.0] * 6}
BY_TRAIN = {"shape": [6], "mean": [0.03] * 6, "std": [0.99] * 6}  # of 200 examples, sampling leaves 0.07
