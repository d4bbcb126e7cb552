"""What each stage measured: the `metrics` of its `result.json`, typed. One frozen dataclass per stage.

Losses are in nats, accuracies, shares and gaps fractions in [0, 1], learning rates as the optimizer takes them. `None`
means not measured. Everything has a default, so that the results of earlier versions can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Interval = tuple[float, float]  # of 95 %


@dataclass(frozen=True)
class LayerSignal:
    """The signal in one leaf module of the fresh model: of its output, and of the gradient of its parameters.

    `signal_std`: how much a unit varies over the examples, averaged over units. `dead_fraction`: the share of units
    that are zero for every example (rectifiers); `dead_input_fraction`: of its inputs, where these come out of a
    rectifier; `saturated_fraction`: outputs at the end of their range (tanh, sigmoid); `symmetric`: every unit of its
    weights is the same, and not zero. Norms are over the module's own parameters.
    """

    name: str = "-"
    type: str = "-"
    linear: bool = False
    activation_mean: float | None = None
    activation_std: float | None = None
    signal_std: float | None = None
    zero_fraction: float | None = None
    dead_fraction: float | None = None
    dead_input_fraction: float | None = None
    saturated_fraction: float | None = None
    weight_norm: float | None = None
    grad_norm: float | None = None
    symmetric: bool | None = None


@dataclass(frozen=True)
class SplitScan:
    """What a split holds. `shape`: of one input; `min`, `max`, `mean`, `std`: one number per channel or column.

    `scanned`: how many of the `n` examples were looked at, where not all were. `class_counts`: by label, those in
    range. `duplicates`: examples that repeat an earlier one; `conflicting`: those of them with another label; None
    where they were not looked for. `first_...`: where the first is; `non_finite_columns`: how many of each.
    """

    n: int = 0
    shape: Sequence[int] = ()
    class_counts: Sequence[int] = ()
    dtype: str = ""
    min: Sequence[float | None] = ()
    max: Sequence[float | None] = ()
    mean: Sequence[float | None] = ()
    std: Sequence[float | None] = ()
    non_finite: int = 0
    first_non_finite: str | None = None
    non_finite_columns: Mapping[str, int] = field(default_factory=dict)
    constant_inputs: int = 0
    constant_columns: Sequence[str] = ()
    label_range: Sequence[int | float] = ()
    target_mean: Sequence[float] | None = None
    target_std: Sequence[float] | None = None
    labels_outside: int = 0
    first_label_outside: str | None = None
    duplicates: int | None = None
    first_duplicate: Sequence[str] | None = None
    conflicting: int | None = None
    first_conflict: Sequence[str] | None = None
    scanned: int | None = None


@dataclass(frozen=True)
class CheckInitMetrics:
    """Step 1. `init_loss`: mean over initialisations (`init_losses`), `init_loss_std`: its sample deviation.

    `expected_loss`: what the loss function itself gives at uniform outputs; `loss_at_prior`: at the class shares;
    `loss_floor`: the least that it can give. `copies_in_train`: share of train with a relative in train, nearer than
    chance explains. `calls_per_update`: calls of the training step for one update. `score_name`: what is monitored,
    `accuracy` or the task's own. `baseline`: what the best constant answer scores on val by it. `columns`: what became
    of a table's columns: `one_hot`, `identifiers`, `filled`, `missing`.
    """

    task: str = "classification"
    score_name: str | None = None
    baseline: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    init_loss: float | None = None
    init_loss_std: float | None = None
    init_losses: Sequence[float | None] = ()
    log_c: float | None = None
    prior_entropy: float | None = None
    num_classes: int | None = None
    init_accuracy: float | None = None
    expected_loss: float | None = None
    loss_at_uniform: float | None = None
    loss_at_prior: float | None = None
    loss_floor: float | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[LayerSignal] = ()
    data: Mapping[str, SplitScan] = field(default_factory=dict)
    test_examples: int | None = None
    copies_in_train: float | None = None
    duplicates_across: Any = None
    class_names: Sequence[str] = ()
    parameters: int | None = None
    trainable: int | None = None
    calls_per_update: int | None = None
    decay: Mapping[str, Any] = field(default_factory=dict)
    input_scale: Mapping[str, Any] = field(default_factory=dict)
    planned_rates: Mapping[str, Any] = field(default_factory=dict)

    def size(self, split: str) -> int | None:
        """Return the number of examples of a split."""
        return self.data[split].n if split in self.data else None


@dataclass(frozen=True)
class TriedLr:
    """One attempt to overfit. `status`: floor, or why it ended; `reference`: made with Adam at 1e-3."""

    lr: float | None = None
    final_loss: float | None = None
    final_accuracy: float | None = None
    steps: int | None = None
    status: str = "-"
    reference: bool | None = False


@dataclass(frozen=True)
class OverfitMetrics:
    """Step 2: the best attempt. `target`: the loss that counts as the floor; `steps`: training steps it took.

    `eval_loss`, `eval_accuracy`: in eval mode, after running statistics have caught up with the few steps.
    """

    final_loss: float | None = None
    loss_floor: float | None = None
    target: float | None = None
    final_accuracy: float | None = None
    steps: int | None = None
    lr: float | None = None
    examples: int | None = None
    train_mode_loss: float | None = None
    eval_loss: float | None = None
    eval_accuracy: float | None = None
    eval_loss_at_once: float | None = None
    trial: str | None = None
    rates: Sequence[TriedLr] = ()


@dataclass(frozen=True)
class SweptLr:
    """One learning rate of the sweep: means and sample deviations over seeds. `drop`: first loss minus final loss.

    `status`: completed, stopped, diverged (at step `diverged_at`) or failed; `verdict`: of the sweep, in words.
    """

    lr: float = 0.0
    first_loss: float | None = None
    final_loss: float | None = None
    final_loss_std: float | None = None
    drop: float | None = None
    drop_std: float | None = None
    status: str = "-"
    diverged_at: int | None = None
    verdict: str = "-"


@dataclass(frozen=True)
class LrSweepMetrics:
    """Step 3. `noise`: of a drop, in nats; `trials`: ids by learning rate; `steps`: iterations per learning rate.

    `best_lr`: the one with the largest drop; `lr`: the one to use, in the band `lr_low`..`lr_high`, None where there is
    no band; `edge`: the end (low, high) at which the best lies, if it does. `precision`: what was settled.
    """

    rates: Sequence[SweptLr] = ()
    noise: float | None = None
    trials: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: int | None = None
    seeds: int | None = None
    recipe_lr: float | None = None
    best_lr: float | None = None
    lr: float | None = None
    lr_low: float | None = None
    lr_high: float | None = None
    edge: str | None = None
    errors: Sequence[str] = ()
    precision: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyImportance:
    """How much of the scores' variance a key explains, with its interval; `enough`: the trials can show it."""

    key: str = "-"
    importance: float | None = None
    low: float | None = None
    high: float | None = None
    enough: bool = False


@dataclass(frozen=True)
class SearchMetrics:
    """What both searches measured. `trials` by how they ended; `failures`: kind -> {count, message}; `epochs_run`,
    `epochs_full`: with and without stopping at rungs. `at_border`: key -> the end (low, high) of its range where the
    best value lies.

    `monitor`: the key whose best value is a trial's score; `score`: that of the best trial, as it was measured, and
    `score_name` its name; `space`: the space searched, as JSON.
    """

    trials: int | None = None
    completed: int = 0
    stopped: int = 0
    diverged: int = 0
    failed: int = 0
    failures: Mapping[str, Any] = field(default_factory=dict)
    epochs_run: int | None = None
    epochs_full: int | None = None
    best_val_accuracy: float | None = None
    score: float | None = None
    score_name: str | None = None
    best_params: Mapping[str, Any] | None = None
    monitor: str = "val_accuracy"
    epochs: int | None = None
    rungs: Sequence[int] = ()
    sampler: str = "-"
    space: Mapping[str, Any] = field(default_factory=dict)
    at_border: Mapping[str, Any] = field(default_factory=dict)
    val_n: int | None = None
    majority_share: float | None = None
    importance: Sequence[KeyImportance] = ()
    importance_epoch: int | None = None
    importance_trials: int | None = None

    @property
    def score_key(self) -> str:
        """The run's own score, as a column of curves calls it."""
        return self.score_name or self.monitor.removeprefix("val_")


@dataclass(frozen=True)
class CoarseMetrics(SearchMetrics):
    """Step 4. `constant_loss`: of outputs that ignore the input; `rate`: the lr that lr-sweep chose."""

    best_val_loss: float | None = None
    constant_loss: float | None = None
    best_score: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class FinalistMetrics:
    """A configuration with its scores over seeds; `lost`: seeds without a score."""

    trial: str = "-"
    trials: Sequence[str] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[float] = ()
    mean: float | None = None
    std: float | None = None
    lost: int = 0
    parameters: int | None = None


@dataclass(frozen=True)
class ExpectedScore:
    """What the winner's score on new data will be. `basis`: the mean it rests on, over `basis_runs` runs.

    `selection`, `epochs`: what choosing on val adds, subtracted; `..._half`: half widths of the interval's parts.
    """

    value: float | None = None
    basis: float | None = None
    basis_runs: int | None = None
    selection: float | None = None
    epochs: float | None = None
    examples_half: float | None = None
    seeds_half: float | None = None


@dataclass(frozen=True)
class FineMetrics(SearchMetrics):
    """Step 5. `mean`, `std`: of the winner's scores over its seeds; `interval`: of its score on new data, 95 %.

    `after`: what `[after]` makes of the winner's answers to val. `runner_up`: the second's trial; `runner_up_p`: of
    McNemar's paired test against it; `runner_up_gap`, `runner_up_error`: difference over the seeds and its standard
    error. `preferred`: why a simpler finalist was taken, or empty.
    """

    configurations: int | None = None
    finalists: Sequence[FinalistMetrics] = ()
    preferred: str = ""
    wall_seconds: float | None = None
    trial: str | None = None
    seeds: int = 0
    after: Mapping[str, Any] = field(default_factory=dict)
    mean: float | None = None
    std: float | None = None
    interval: Interval | None = None
    expected: ExpectedScore | None = None
    runner_up: str | None = None
    runner_up_p: float | None = None
    runner_up_gap: float | None = None
    runner_up_error: float | None = None


@dataclass(frozen=True)
class ConfirmingRun:
    """A short run that tells similar curves apart: its `gain` over its `control`, and the `noise` of that.

    Accuracies are means over `runs` seeds. `fresh`: it started from new weights; `helps`: the gain is beyond twice the
    noise, and more than a point.
    """

    arm: str = "-"
    changes: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    runs: int | None = None
    trials: Sequence[str] = ()
    accuracy: float | None = None
    control: float | None = None
    gain: float | None = None
    noise: float | None = None
    helps: bool | None = None


@dataclass(frozen=True)
class DiagnoseMetrics:
    """Step 6: the winner at its best epoch (from 1). `gap`: train minus val accuracy on equally many examples.

    `curves_stage`: the folder that holds the curve of `trial`.
    """

    score: float | None = None
    score_name: str | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    gap: float | None = None
    gap_interval: Interval | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    noise: float | None = None
    sampling_noise: float | None = None
    trial: str | None = None
    curves_stage: str | None = None
    val_n: int | None = None
    params: Mapping[str, Any] | None = None
    majority_share: float | None = None
    confirming: Sequence[ConfirmingRun] = ()

    @property
    def score_key(self) -> str:
        """The run's own score, as a column of curves calls it."""
        return self.score_name or "accuracy"


@dataclass(frozen=True)
class TestMetrics:
    """The test. `confusion`: counts, rows are true classes; `per_class`: recall; `val_accuracy`: the val estimate.

    `interval`: of `score`, the accuracy or the task's own; `others`: further scores by name. `residuals`: true values
    and those said; `labels`: per label the right hits, the answers and the examples; `ranks`: a match among the k
    nearest, from k = 1. `mistakes`: wrong answers on val, the surest first: target, answer, share, place, png (base64).
    `after`: the score of what `[after]` makes of the answers: single, tta, ensemble, stacked, reranked; and of members.
    """

    accuracy: float | None = None
    score: float | None = None
    score_name: str | None = None
    interval: Interval | None = None
    loss: float | None = None
    non_finite: int | None = None
    first_non_finite: str | None = None
    n: int | None = None
    confusion: Sequence[Sequence[int]] | None = None
    class_names: Sequence[str] | None = None
    per_class: Sequence[float | None] | None = None
    val_accuracy: float | None = None
    val_score: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    residuals: Mapping[str, Sequence[float]] | None = None
    labels: Mapping[str, Sequence[int]] | None = None
    ranks: Sequence[float] | None = None
    val_n: int | None = None
    after: Mapping[str, Any] = field(default_factory=dict)
    stage_of_checkpoint: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    mistakes: Sequence[Mapping[str, Any]] = ()
