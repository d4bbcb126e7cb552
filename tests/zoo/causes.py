"""The words a finding may name as its cause, and how they show outside findings."""

from __future__ import annotations

CAUSES = frozenset(
    [
        "non-finite-input",
        "unnormalised-input",
        "constant-input",
        "input-ignored",
        "misaligned-labels",
        "wrong-label-range",
        "label-noise",
        "class-imbalance",
        "unshuffled-data",
        "repeated-data",
        "train-val-overlap",
        "train-val-shift",
        "scrambled-input",
        "augmentation-harms",
        "target-leak",
        "too-little-data",
        "double-softmax",
        "loss-mismatch",
        "sign-flipped-loss",
        "summed-loss",
        "wrong-axis",
        "smoothing-too-strong",
        "bad-init-exploding",
        "bad-init-vanishing",
        "symmetric-init",
        "dead-units",
        "saturated-units",
        "missing-nonlinearity",
        "capacity-too-small",
        "batch-dependence",
        "untrained-parameters",
        "normalisation-misuse",
        "gradients-accumulate",
        "no-update",
        "optimizer-state-lost",
        "eval-mode-in-training",
        "train-mode-in-eval",
        "gradient-clipped-away",
        "precision-problem",
        "schedule-mistake",
        "lr-too-high",
        "lr-too-low",
        "lr-band-at-edge",
        "over-regularised",
        "overfitting",
        "underfitting",
        "train-longer",
        "trained-too-long",
        "plateau",
        "unstable",
        "metric-wrong",
        "val-too-small",
        "at-baseline",
        "best-at-edge",
        "all-trials-failed",
        "winner-within-noise",
    ]
)

NEWER = frozenset(  # rules name these too, no case does: not drawn from by the baselines
    [
        "decay-not-applied",
        "known-from-step-1",
        "not-measured",
        "optimistic-val",
        "optimizer-unsuited",
        "plain-layout",
        "seeds-ignored",
        "test-failed",
        "trials-failed",
    ]
)

ADVICE = frozenset(  # notes by design: true of sound runs too, so a note that names one is all that can be said
    [
        "overfitting",
        "underfitting",
        "train-longer",
        "trained-too-long",
        "plateau",
        "unstable",
        "val-too-small",
        "best-at-edge",
        "winner-within-noise",
        "label-noise",
        "class-imbalance",
        "too-little-data",
        "over-regularised",
    ]
)

NAMED_BY = {  # an error that ends a command has no slug: the words of its message that name the cause
    "wrong-label-range": r"label|target|class",
    "precision-problem": r"dtype|float16|bfloat16|float64|half|double|precision",
    "loss-mismatch": r"loss|between 0 and 1|shape|dtype|size",
    "non-finite-input": r"\bnan\b|\binf\b|finite",
    "class-imbalance": r"too few examples|class",
    "normalisation-misuse": r"more than 1 value per channel|batch norm",
    "all-trials-failed": r"trial|diverged|failed",
    "schedule-mistake": r"schedule|warm-up",
}
