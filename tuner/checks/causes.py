"""The causes that a finding may name, in the order of the checklist: data first, then loss, model, step, lr, curves."""

from __future__ import annotations

CAUSES = (
    # the data
    "non-finite-input", "unnormalised-input", "constant-input", "wrong-label-range", "misaligned-labels", "label-noise",
    "class-imbalance", "unshuffled-data",
    "repeated-data", "train-val-overlap", "train-val-shift", "scrambled-input", "augmentation-harms",
    "target-leak", "too-little-data",
    # the loss and what it is given
    "double-softmax", "loss-mismatch", "sign-flipped-loss", "summed-loss", "wrong-axis", "smoothing-too-strong",
    # the model before training
    "symmetric-init", "bad-init-exploding", "bad-init-vanishing", "input-ignored", "dead-units", "saturated-units",
    "missing-nonlinearity", "capacity-too-small", "batch-dependence",
    # one training step
    "untrained-parameters", "gradients-accumulate", "no-update", "optimizer-state-lost", "normalisation-misuse",
    "eval-mode-in-training", "train-mode-in-eval", "gradient-clipped-away", "precision-problem", "decay-not-applied",
    "known-from-step-1", "not-measured", "plain-layout", "seeds-ignored",
    # the learning rate and the search
    "schedule-mistake", "lr-too-high", "lr-too-low", "lr-band-at-edge", "optimizer-unsuited", "all-trials-failed",
    "trials-failed", "test-failed", "best-at-edge",
    # the curves, and what the number is worth
    "over-regularised", "metric-wrong", "at-baseline", "overfitting", "underfitting", "train-longer",
    "trained-too-long", "plateau", "unstable", "val-too-small", "optimistic-val", "winner-within-noise",
)  # fmt: skip
