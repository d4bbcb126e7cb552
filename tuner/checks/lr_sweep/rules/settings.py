"""Rules of step 3 over what else of the recipe decides how far a step goes: decay, momentum, clipping. Codes LR3xx."""

from __future__ import annotations

from tuner.checks.cards import found, need, rule
from tuner.checks.limits import Limit
from tuner.checks.lr_sweep.evidence import LrSweep
from tuner.checks.lr_sweep.rules.band import measured_rates
from tuner.core.result import Finding, Severity

FORGETS = Limit("forgets", 0.02, "of the weights per step", "derived: their memory is then fifty steps")
UNUSUAL = Limit("unusual", 0.02, "weight decay", "derived: above what is published with SGD (5e-4)")
DROPPED = Limit("dropped", 0.8, "of the units", "Srivastava et al. 2014: rates of 0.2 to 0.5")
CLIPPED = Limit("clipped", 0.05, "norm", "zoo: sound programs clip at more")
SPOILS = Limit("spoils", 10.0, "times the usual rate", "derived: a decade above 1e-4, as the sweep's own steps are")
USUAL = Limit("usual", 1e-4, "rate", "the notes on hyperparameters, fine-tuning; recipe.model.FINETUNE_LR")
GROWS = Limit("grows", 5.0, "times", "derived: 1 / (1 - m**steps); momentum 0.99 gives 1.6 after a hundred")


@rule(
    "LR309",
    "over-regularised",
    "lr-sweep",
    meaning="Regularisation of this strength forgets faster than anything is learnt.",
    detected=f"weight decay (SGD, with its momentum, and AdamW) that shrinks the weights by {FORGETS:.0%} or more per "
    f"step at the best rate (the recipe's too, where nothing falls or the decay is {UNUSUAL:g} or more); or "
    f"model.dropout of {DROPPED:g} or more",
    why="Step 2 fitted its examples with decay and dropout off; on, they leave next to nothing to learn with.",
    fix="Divide optimizer.weight_decay by ten until the drop no longer grows (5e-4 is usual); dropout 0.5 at most.",
    confused_with="AdamW's 0.1 at rates of 1e-3, which shrinks by a ten-thousandth per step",
    source="TheDeepChecker: regularisation overwhelms the data's gradient; derived: decay per step is rate x decay",
)
def forgets_at_once(sweep: LrSweep) -> Finding | None:
    measured_rates(sweep)
    rate, shrinks = _decay_per_step(sweep)
    dropout = sweep.dropout or 0.0
    if shrinks < FORGETS and dropout < DROPPED:
        return None
    severity: Severity = "warn" if sweep.lr is not None else "error"
    seen = {"decay_per_step": shrinks, "rate": rate, "weight_decay": sweep.weight_decay, "dropout": dropout}
    if shrinks >= FORGETS:
        title = f"weight decay {sweep.weight_decay:g} shrinks the weights by {shrinks:.1%} per step at rate {rate:g}"
    else:
        title = f"dropout of {dropout:g} leaves {1 - dropout:.0%} of the units at each step"
    return found("LR309", severity, title, evidence=seen)


def _decay_per_step(sweep: LrSweep) -> tuple[float, float]:
    """Return the rate that is looked at, and by which share weight decay alone shrinks the weights in a step."""
    rate, decay = sweep.best_lr or sweep.recipe_lr, sweep.weight_decay
    if decay and decay >= UNUSUAL:  # it may have forbidden the rate that was meant
        rate = max(rate or 0.0, sweep.recipe_lr or 0.0)
    name = str(sweep.optimizer).rpartition(".")[2].lower()
    if not rate or not decay or name not in ("sgd", "adamw"):
        return rate or 0.0, 0.0
    momentum = sweep.momentum or 0.0 if name == "sgd" else 0.0
    return rate, rate * decay / max(1 - momentum, 1e-3)


@rule(
    "LR311",
    "gradient-clipped-away",
    "lr-sweep",
    meaning="Gradients are clipped so hard that only the highest rates move anything.",
    detected=f"train.clip_norm is set to {CLIPPED:g} or less, and nothing falls or the best rate is the highest tried",
    why="A step is then never longer than rate x limit, whatever the gradient: the rate is not what it seems.",
    fix="Raise train.clip_norm to about the 90th percentile of the gradients' norms, or leave it out.",
    confused_with="Adam, whose steps do not depend on the size of the gradients; clipping that cuts spikes alone",
    source="Google tuning playbook: clipping more than half of the steps is extremely aggressive",
)
def clipped_away(sweep: LrSweep) -> Finding | None:
    measured_rates(sweep)
    limit = sweep.clip_norm
    if limit is None or limit > CLIPPED or (sweep.lr is not None and sweep.edge != "high"):
        return None
    severity: Severity = "warn" if sweep.lr is not None else "error"
    title = f"gradients are clipped to a norm of {limit:g}, and the best rate is the highest or none"
    seen = {"clip_norm": limit, "best_lr": sweep.best_lr, "edge": sweep.edge}
    return found("LR311", severity, title, evidence=seen)


@rule(
    "LR312",
    "lr-too-high",
    "lr-sweep",
    meaning="Momentum goes on lengthening the steps long after the sweep, so that its rates are too high for training.",
    detected="a step's length grows by 1 - momentum^n over n updates, up to 1 / (1 - momentum) times the rate: at "
    f"the end of the sweep it is {GROWS:g} times less than that, or shorter",
    why="A memory of hundreds of updates overshoots and swings back for as long; the sweep sees the start of it.",
    fix="Set optimizer.momentum to 0.9 (0.99 at most), or sweep for as long as the memory (--steps).",
    confused_with="0.99 with large batches, which a sweep of a hundred iterations shows nearly in full",
    source="Sutskever et al. 2013: the terminal velocity is 1 / (1 - momentum) times a step",
)
def momentum_outlasts_the_sweep(sweep: LrSweep) -> Finding | None:
    measured_rates(sweep)
    steps = need(sweep.steps, "the length of the sweep is not known")
    momentum = sweep.momentum or 0.0
    if not 0 < momentum < 1:
        return None
    grows = 1 / (1 - momentum**steps)
    if grows < GROWS:
        return None
    title = (
        f"momentum {momentum:g} remembers {1 / (1 - momentum):.0f} updates: after the sweep's {steps} the steps go on "
        f"growing, {grows:.0f} times"
    )
    seen = {"momentum": momentum, "memory": 1 / (1 - momentum), "steps": steps, "grows": grows}
    return found("LR312", "warn", title, evidence=seen)


@rule(
    "LR320",
    "lr-too-high",
    "lr-sweep",
    meaning="The rates that are searched next are those of a new net; the weights are of another training.",
    detected="finetune.weights is set and the body is trained, the rates of coarse and fine are this sweep's, and its "
    f"rate is {SPOILS:g} times {USUAL:g} or more (a note); or the recipe's own rate is above the band (a warn)",
    why="The sweep asks how fast the loss falls; it does not see what of the weights is lost on the way.",
    fix='Search lower rates too: [search] "optimizer.lr" = { low = 1e-5, high = 1e-2, log = true }, or set none and '
    f"keep {USUAL:g}; with many examples, or a frozen body, the sweep's rates are as good.",
    confused_with="A new head on a frozen body, which begins from nothing and takes these rates.",
    source="the notes on hyperparameters, fine-tuning: rates of 1e-4 or less on weights that have converged",
    explained_by=("LR304",),
)
def rates_for_trained_weights(sweep: LrSweep) -> Finding | None:
    rate = need(sweep.lr, "the sweep found no band")
    own, high = sweep.recipe_lr, sweep.lr_high
    if sweep.trained_before and own is not None and high is not None and own > high:
        title = (
            f"optimizer.lr = {own:.3g} is above the rates at which the loss falls, which end at {high:.3g}: weights "
        )
        facts = {"recipe_lr": own, "lr_high": high, "usual": float(USUAL)}
        return found("LR320", "warn", f"{title}of another training are lost at once", evidence=facts)
    if not sweep.trained_before or not sweep.searched or rate < SPOILS * USUAL:
        return None
    title = f"coarse and fine search around {rate:.3g}; for weights of another training {USUAL:g} is usual"
    return found("LR320", "note", title, evidence={"lr": rate, "usual": float(USUAL)})
