"""What other tools' checks say of a program, in the words of our causes: as kindly as their own pages allow.

A check is given every cause that its page names as a typical bug it catches, or that its message names.
"""

from __future__ import annotations

WRONG_OUTPUTS = ("loss-mismatch", "double-softmax", "wrong-axis", "sign-flipped-loss", "summed-loss")
BAD_SCALE = ("bad-init-exploding", "bad-init-vanishing", "unnormalised-input", "summed-loss")
UNTRAINED = ("untrained-parameters", "no-update", "dead-units")
CANNOT_LEARN = (*WRONG_OUTPUTS, "lr-too-high", "lr-too-low", "capacity-too-small", *UNTRAINED, "misaligned-labels")

TORCHTEST2 = {
    "forward": ("scrambled-input", "precision-problem", "wrong-label-range"),
    "output_finite": ("non-finite-input", "precision-problem", "bad-init-exploding"),
    "output_varies": ("dead-units", "bad-init-vanishing", "input-ignored", "constant-input", "symmetric-init"),
    "eval_determinism": ("train-mode-in-eval",),
    "loss": ("loss-mismatch", "wrong-label-range", "non-finite-input", "no-update", "precision-problem"),
    "initial_loss": (*WRONG_OUTPUTS, *BAD_SCALE, "target-leak", "wrong-label-range"),
    "optimizer_coverage": UNTRAINED,
    "gradient_flow": (*UNTRAINED, "bad-init-vanishing"),
    "gradient_magnitude": (*BAD_SCALE, "precision-problem", "non-finite-input"),
    "params_change": (*UNTRAINED, "lr-too-low", "precision-problem"),
    "frozen_params": UNTRAINED,
    "input_dependency": ("input-ignored", "constant-input"),
    "batch_independence": ("batch-dependence", "wrong-axis", "normalisation-misuse"),
    "overfit_batch": CANNOT_LEARN,
}

CHECKLIST = {
    "assert_balanced_classification_cross_entropy_loss_at_init": (*WRONG_OUTPUTS, *BAD_SCALE, "wrong-label-range"),
    "assert_balanced_classification_cross_entropy_init_calibrated": (*BAD_SCALE, "class-imbalance"),
    "assert_forward_batch_independence": ("batch-dependence", "wrong-axis"),
    "assert_backward_batch_independence": ("batch-dependence", "wrong-axis"),
    "assert_non_zero_gradients": (*UNTRAINED, "symmetric-init", "bad-init-vanishing"),
    "assert_input_independent_baseline_worse": ("input-ignored", "misaligned-labels", "constant-input"),
    "assert_overfit_to_batch": CANNOT_LEARN,
}

TORCH_AUDIT = {
    "TA100": ("non-finite-input", "precision-problem", "bad-init-exploding", "lr-too-high"),
    "TA102": (*BAD_SCALE, "lr-too-high", "gradients-accumulate"),
    "TA103": (*UNTRAINED, "bad-init-vanishing"),
    "TA104": UNTRAINED,
    "TA105": ("dead-units", "bad-init-vanishing"),
    "TA301": ("unnormalised-input",),
    "TA302": ("constant-input",),
    "TA303": ("scrambled-input",),
    "TA304": ("normalisation-misuse",),
    "TA305": ("non-finite-input", "wrong-label-range"),
    "TA405": ("dead-units", "symmetric-init"),
    "TA500": ("untrained-parameters", "missing-nonlinearity"),
    "TA501": ("normalisation-misuse",),
}

GUARDTOWER = {
    "loss": ("non-finite-input", "precision-problem", "loss-mismatch", "no-update"),
    "backward": ("no-update", "loss-mismatch"),
    "grad_connectivity": UNTRAINED,
    "optimizer_coverage": UNTRAINED,
    "grad_norms": (*BAD_SCALE, "gradient-clipped-away"),
    "nonfinite": ("non-finite-input", "precision-problem", "bad-init-exploding"),
    "input_dependency": ("input-ignored", "constant-input"),
    "device_dtype": ("precision-problem",),
    "dead_relu": ("dead-units",),
}

PREFLIGHT = {
    "TG002": ("train-mode-in-eval",),
    "TG003": ("gradients-accumulate",),
    "TG005": ("double-softmax",),
    "TG006": ("double-softmax", "loss-mismatch"),
    "TG008": ("seeds-ignored",),
    "TG011": ("eval-mode-in-training",),
    "TG014": ("gradients-accumulate", "lr-too-high", "summed-loss"),
}

CAUSES = {
    "torchtest2": TORCHTEST2,
    "neural_net_checklist": CHECKLIST,
    "torch-audit": TORCH_AUDIT,
    "guardtower": GUARDTOWER,
    "torch-preflight": PREFLIGHT,
}
