"""Rules of step 3: the learning-rate sweep. Evidence: the metrics of lr-sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuner.checks.cards import Missing, found, loud, rule
from tuner.checks.earlier.evidence import Earlier
from tuner.checks.limits import Limit
from tuner.checks.lr_sweep.evidence import LrSweep
from tuner.core.formatting import rate as spelled
from tuner.core.metrics import SweptLr
from tuner.core.result import Finding

OUTSIDE = Limit(
    "outside", 10.0, "times the end of the band", "derived: a decade is more than the sweep's own scatter (0.1 decades)"
)


def measured_rates(sweep: LrSweep) -> list[SweptLr]:
    """Return the rates that were measured; without one a rule cannot be applied."""
    if not sweep.rates:
        raise Missing("no rate was measured")
    return list(sweep.rates)


@rule(
    "LR301",
    "lr-band-at-edge",
    "lr-sweep",
    meaning="The best rate is the first or the last that was tried, so a better one may lie beyond.",
    detected="the rate with the largest drop is an end of the range, which was not extended: its bound, or no time",
    why="An optimum at the border of a search is no optimum: nothing is known about the other side.",
    fix="Extend the range: --floor and --ceiling of `tuner lr-sweep`, or [stages.lr-sweep].",
    confused_with="a loss on another scale (summed instead of averaged), which moves the whole band",
    source="CS231n notes, hyperparameter search: careful with best values on border",
    explained_by=("LR309", "LR311", "LR312"),
)
def band_at_edge(sweep: LrSweep) -> Finding | None:
    rates = measured_rates(sweep)
    if sweep.edge is None:
        return None
    place = "last" if sweep.edge == "high" else "first"
    title = f"the best rate, {spelled(sweep.best_lr or 0.0)}, is the {place} that was tried"
    seen = {"best_lr": sweep.best_lr, "lowest": rates[0].lr, "highest": rates[-1].lr}
    return found("LR301", "warn", title, evidence=seen)


@rule(
    "LR302",
    "misaligned-labels",
    "lr-sweep",
    meaning="No rate makes the loss fall by more than the noise of the batches, though not all of them diverge.",
    detected="the largest drop over all rates is at most twice its standard error",
    why="A few examples could be driven to the floor, so gradients flow; on real batches nothing is learnt.",
    fix="Look for labels that do not belong to their inputs, unnormalised inputs; or try more --steps. The cause named "
    "is that of an earlier step's warning, where there is one.",
    confused_with="a task that needs more than 100 iterations to move: try --steps 500 once",
    source="CS231n notes; Google tuning playbook",
    explained_by=("LR309", "LR310", "LR311", "LR313"),
)
def nothing_falls(sweep: LrSweep, earlier: Earlier | None) -> Finding | None:
    rates = measured_rates(sweep)
    drops = [rate.drop for rate in rates if rate.drop is not None]
    if sweep.lr is not None or not drops:
        return None
    title = f"the largest drop of the loss, {max(drops):.3g}, is within noise ({sweep.noise:.2g})"
    seen = {"largest_drop": max(drops), "noise": sweep.noise, "rates": len(rates)}
    known = loud(earlier.findings) if earlier is not None else []
    remedy = f"Fix what an earlier step has found first ({known[0]['code']})." if known else ""
    return found("LR302", "error", title, evidence=seen, remedy=remedy)


@rule(
    "LR310",
    "schedule-mistake",
    "lr-sweep",
    meaning="The rate has no effect: the losses are the same numbers at rates that lie decades apart.",
    detected="the drops at all rates (at least three, a hundredfold apart) agree to six digits",
    why="The optimizer does not use the rate that it is asked for, so nothing that is tuned reaches it.",
    fix="Pass lr on in the optimizer's builder; look for a rate that the training step sets itself.",
    confused_with="rates so low that nothing moves at any of them: their losses still differ in the last digits",
    source="derived",
)
def rate_has_no_effect(sweep: LrSweep) -> Finding | None:
    rates = _far_apart(sweep)
    if sweep.lr is None or not _agree(rates):
        return None
    title, evidence = _all_the_same(rates)
    return found("LR310", "error", title, evidence=evidence)


@rule(
    "LR313",
    "lr-too-low",
    "lr-sweep",
    meaning="The loss stays where it is at every lr that was tried, to the last digits.",
    detected="As LR310, and no lr makes the loss fall.",
    why="Updates so small that nothing moves: something takes the gradient away, or the lrs are too low by far.",
    fix="Raise the range (--high), and look at what scales the gradient: clipping, a factor on the loss.",
    confused_with="a training step that sets the lr by itself, where the loss falls at all of them alike",
    source="derived",
)
def nothing_moves(sweep: LrSweep) -> Finding | None:
    rates = _far_apart(sweep)
    if sweep.lr is not None or not _agree(rates):
        return None
    title, evidence = _all_the_same(rates)
    return found("LR313", "error", title, evidence=evidence)


def _far_apart(sweep: LrSweep) -> list[SweptLr]:
    """Return the rates that have a drop, of which there must be three, a hundredfold apart."""
    rates = [rate for rate in measured_rates(sweep) if rate.drop is not None]
    if len(rates) < 3 or rates[-1].lr < 100 * rates[0].lr:
        raise Missing("fewer than three rates were measured")
    return rates


def _agree(rates: Sequence[SweptLr]) -> bool:
    drops = [rate.drop or 0.0 for rate in rates]
    return max(drops) - min(drops) <= 1e-6 * max(map(abs, drops)) + 1e-12


def _all_the_same(rates: Sequence[SweptLr]) -> tuple[str, dict[str, Any]]:
    ends = f"{spelled(rates[0].lr)} to {spelled(rates[-1].lr)}"
    return f"the loss is the same at all {len(rates)} rates from {ends}", {"drop": rates[0].drop, "rates": len(rates)}


@rule(
    "LR303",
    "lr-too-high",
    "lr-sweep",
    meaning="Every rate, down to the lowest that was tried, makes the loss infinite or not a number.",
    detected="all rates have the status diverged",
    why="At a rate this low no sane loss overflows: the scale of inputs or loss, or the precision, is more likely.",
    fix="Look at the scale of the inputs (data.normalize), at a loss that is summed or takes log(0), and at the init.",
    confused_with="non-finite inputs, an exploding init, a loss without its log-sum-exp",
    source="CS231n notes",
    explained_by=("LR307", "LR309"),
)
def all_diverge(sweep: LrSweep) -> Finding | None:
    rates = measured_rates(sweep)
    if any(rate.status != "diverged" for rate in rates):
        return None
    title = f"all {len(rates)} rates diverge, the lowest ({spelled(rates[0].lr)}) too"
    seen = {"lowest": rates[0].lr, "highest": rates[-1].lr}
    return found("LR303", "error", title, evidence=seen)


@rule(
    "LR304",
    "lr-too-high",
    "lr-sweep",
    meaning="The recipe's own rate is at least ten times the highest rate at which the loss falls well.",
    detected=f"optimizer.lr >= {OUTSIDE} x lr_high, the highest rate with at least half of the best drop",
    why="With it training would diverge, or be stuck above what lower rates reach.",
    fix="Set optimizer.lr to the rate of the sweep; coarse uses its band when the rate is searched.",
    confused_with="a recipe that relies on warm-up: the sweep has none",
    source="CS231n notes",
    explained_by=("LR309", "LR312"),
)
def recipe_rate_too_high(sweep: LrSweep) -> Finding | None:
    ratio = _outside(sweep, "lr_high")
    if ratio < OUTSIDE * (1 - 1e-9):
        return None
    return _recipe_rate(
        "LR304", sweep, f"{ratio:.3g} times above the band, which ends at {spelled(sweep.lr_high or 0.0)}"
    )


@rule(
    "LR305",
    "lr-too-low",
    "lr-sweep",
    meaning="The recipe's own rate is at most a tenth of the lowest rate at which the loss falls well.",
    detected=f"optimizer.lr <= lr_low / {OUTSIDE}, where lr_low is the lowest rate with at least half of the best drop",
    why="With it training would need ten times as long, or seem not to learn at all.",
    fix="Set optimizer.lr to the rate of the sweep; coarse uses its band when the rate is searched.",
    confused_with="fine-tuning of a pretrained model, where a low rate may be meant",
    source="CS231n notes",
    explained_by=("LR309", "LR311", "LR312"),
)
def recipe_rate_too_low(sweep: LrSweep) -> Finding | None:
    ratio = _outside(sweep, "lr_low")
    if ratio > (1 + 1e-9) / OUTSIDE:
        return None
    return _recipe_rate(
        "LR305", sweep, f"{1 / ratio:.3g} times below the band, which begins at {spelled(sweep.lr_low or 0.0)}"
    )


def _outside(sweep: LrSweep, end: str) -> float:
    at = sweep.lr_high if end == "lr_high" else sweep.lr_low
    if at is None:
        raise Missing("the sweep found no band")
    if sweep.recipe_lr is None:
        raise Missing("the recipe has no optimizer.lr")
    return float(sweep.recipe_lr / at)


def _recipe_rate(code: str, sweep: LrSweep, where: str) -> Finding:
    seen = sweep.only("recipe_lr", "lr", "lr_low", "lr_high")
    remedy = f"Set optimizer.lr = {spelled(sweep.lr or 0.0)}."
    title = f"the recipe's rate, {spelled(sweep.recipe_lr or 0.0)}, is {where}"
    return found(code, "warn", title, evidence=seen, remedy=remedy)


@rule(
    "LR306",
    "unstable",
    "lr-sweep",
    meaning="The drop of the best rate differs between seeds by more than half of itself.",
    detected="standard deviation of the best rate's drop over seeds > half of its mean",
    why="The centre of such a band is uncertain by more than the spacing of the rates.",
    fix="Use more seeds (--seeds 5), a larger batch, or more steps.",
    confused_with="a rate at the edge of stability, where some seeds take off",
    source="derived: the band's ends are shares of the best drop",
    explained_by=("LR309", "LR312"),
)
def noise_larger_than_drop(sweep: LrSweep) -> Finding | None:
    best = [rate for rate in measured_rates(sweep) if rate.lr == sweep.best_lr]
    if not best:
        raise Missing("the sweep found no band")
    if best[0].drop_std is None:
        raise Missing("a single seed")
    drop, std = best[0].drop or 0.0, best[0].drop_std
    if std <= 0.5 * drop:
        return None
    title = f"the drop at the best rate, {drop:.3g}, differs between seeds by {std:.3g}"
    return found("LR306", "note", title, evidence={"drop": drop, "drop_std": std})


@rule(
    "LR307",
    "all-trials-failed",
    "lr-sweep",
    meaning="No rate could be measured, because the trials failed before they ended.",
    detected="no rate has a drop, and at least one has the status failed",
    why="A failure is not a divergence: memory, data, a crash, or an error in the recipe's own code.",
    fix="Read the message of the failure; `tuner lr-sweep ... --debug` shows more.",
    source="tuner",
)
def all_failed(sweep: LrSweep) -> Finding | None:
    rates = measured_rates(sweep)
    failed = [rate for rate in rates if rate.status == "failed"]
    if not failed or any(rate.drop is not None for rate in rates):
        return None
    messages = sweep.errors or ["no message"]
    title = f"the trials of {len(failed)} of {len(rates)} rates failed: {messages[0].splitlines()[0]}"
    return found("LR307", "error", title, evidence={"failed": len(failed), "messages": messages})


@rule(
    "LR308",
    "precision-problem",
    "lr-sweep",
    meaning="Training in 16 bits was tried, and its losses are not those of fp32; coarse and fine train in fp32.",
    detected="same rate, seeds and batches: the loss curves differ by more than three standard errors, or do not end",
    why="16 bits hold 8 digits of binary: sums over many values, tiny updates and large outputs can be lost in them.",
    fix="Nothing need be done. To train faster, look for what needs the digits: a large loss scale, no normalisation.",
    confused_with="a rate at the edge of what is stable, where any rounding decides",
    source="Micikevicius et al. 2018, Mixed precision training",
)
def short_format_differs(sweep: LrSweep) -> Finding | None:
    settled = sweep.precision
    if not settled:
        raise Missing("the precision was not settled by measuring")
    if settled.get("candidate") is None or settled["precision"] != "fp32" or "lr" not in settled:
        return None
    title = f"{settled['candidate']} does not train like fp32 here: {settled['reason']}"
    seen = {"lr": settled["lr"], "seeds": settled["seeds"], **settled.get("parity", {})}
    return found("LR308", "note", title, evidence=seen)
