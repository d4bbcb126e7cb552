"""What looks like a fault of a model before training and is none: no rule of check-init fires."""

# ruff: noqa: E501 - the tables of cases read better with one case per line

import pytest

from tests.checks.init_evidence import BY_TRAIN, LOG10, SCALED, STARTS, but, found, layer

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
    "linear layers side by side": {"linearity": {"deviation": 1e-7, "weights": 2, "depth": 1.0}},
    "a few of each of some classes": {"label_order__entropy": 1.4, "label_order__z": -90.0, "label_order__drawn_by_class": True},
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
