"""Step 1: the loss before any update against what theory says, the data, and the signals in every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.core.formatting import plural
from tuner.core.metrics import CheckInitMetrics, LayerSignal
from tuner.core.result import StageResult
from tuner.view.artifacts import get, items
from tuner.view.blocks import Blocks
from tuner.view.text import as_float, fixed, number, plus_minus, rate, rounded

TITLE = "STEP 1  loss at initialisation"
LAYERS_SHOWN = 16
SHARES_SHOWN = 8  # classes whose share is named
UNEVEN = 1.5  # times the smallest class: the counts alone say enough of more even ones
GROUPS_SHOWN = 8


def body(result: StageResult[CheckInitMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show the loss against its expectations, one line per split, the planned rates, and a table of the layers."""
    _loss(result.metrics, page)
    _data(result.metrics, page)
    _rates(result.metrics.planned_rates, page)
    _groups(result.metrics.planned_rates, page)
    _layers(result.metrics.layers, page)


def _loss(metrics: CheckInitMetrics, page: Blocks) -> None:
    seeds = len(metrics.init_losses)
    measured = "loss before any update" + (f", {plural(seeds, 'seed')}" if seeds else "")
    classes = metrics.num_classes
    rows = [
        [measured, plus_minus(metrics.init_loss, metrics.init_loss_std)],
        ["this loss at outputs that know nothing", fixed(metrics.expected_loss)],
        [f"log C{f' (C = {number(classes)} classes)' if classes else ''}", fixed(metrics.log_c)],
        ["entropy of the class prior", fixed(metrics.prior_entropy)],
    ]
    page.table(["quantity", "value"], rows, left=(0, 1), styles=["bold", "", "", ""])


def _data(metrics: CheckInitMetrics, page: Blocks) -> None:
    splits = metrics.data
    rows = []
    for name, facts in splits.items():
        shape = "x".join(map(str, facts.shape)) or "-"
        low, high = per_channel(facts.min), per_channel(facts.max)
        spread = f"{number(min(low, default=None), 3)} to {number(max(high, default=None), 3)}"
        means, stds = per_channel(facts.mean), per_channel(facts.std)
        moments = plus_minus(_middle(means), _middle(stds), 2)
        per_class = _per_class(facts.class_counts)
        rows.append([name, f"{facts.n:,}", shape, spread, moments, per_class])
    headers = ["split", "examples", "shape", "range", "mean +- std", "per class"]
    if rows:
        page.gap()
    page.table(headers, rows, left=(0, 2, 3, 5), optional=(4, 3))
    counts = splits["train"].class_counts if "train" in splits else ()
    if 0 in counts:
        which = [str(label) for label, count in enumerate(counts) if count == 0]
        page.text(f"No train example of class {', '.join(which[:5])}{' ...' if len(which) > 5 else '.'}", 3)
    _shares(metrics, page)
    _columns(metrics.columns, page)
    across = metrics.duplicates_across
    across = get(across, "duplicates") if isinstance(across, Mapping) else across
    if isinstance(across, (int, float)) and across:
        page.text(f"{plural(int(across), 'exact duplicate')} between train and val", 3)


def _shares(metrics: CheckInitMetrics, page: Blocks) -> None:
    """Say which classes train has how much of, where they differ, and what an answer that ignores the input scores."""
    counts = metrics.data["train"].class_counts if "train" in metrics.data else ()
    uneven = metrics.task == "classification" and len(counts) > 1 and max(counts) > UNEVEN * max(1, min(counts))
    if uneven:
        names = metrics.class_names or [str(label) for label in range(len(counts))]
        ranked = sorted(zip(counts, names, strict=False), key=lambda pair: -pair[0])
        few = ranked if len(ranked) <= SHARES_SHOWN else [*ranked[: SHARES_SHOWN - 1], ranked[-1]]
        said = [f"{name} {count / sum(counts):.1%}" for count, name in few]
        if len(few) < len(ranked):
            said.insert(-1, "...")
        page.text(f"Classes of train: {', '.join(said)}", 3)
    if metrics.baseline is not None and metrics.score_name is not None:
        answer = (
            "Always answering the largest class" if metrics.task == "classification" else "The best constant answer"
        )
        answer = "Features drawn at random" if metrics.task == "embedding" else answer
        page.text(f"{answer}: {metrics.score_name.replace('_', ' ')} {metrics.baseline:.3f} on val", 3)


def _columns(columns: Mapping[str, Any], page: Blocks) -> None:
    """List what was one-hot encoded and what missing cells were filled with."""
    one_hot, filled, missing = (get(columns, key, default={}) for key in ("one_hot", "filled", "missing"))
    if one_hot:
        page.text(f"One-hot: {', '.join(f'{name} ({count} values)' for name, count in one_hot.items())}", 3)
    if filled:
        said = [
            f"{name} with {number(value, 4)}" + (f" ({missing[name]} cells of train)" if name in missing else "")
            for name, value in filled.items()
        ]
        page.text(f"Filled: {', '.join(said)}; a column of 0 and 1 says where", 3)


def per_channel(value: Any) -> list[float]:
    """Return the finite numbers of a statistic that is one number, or one per channel or column."""
    kept = [as_float(item) for item in (value if isinstance(value, list) else [value])]
    return [item for item in kept if item is not None]


def _middle(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _per_class(counts: Sequence[int]) -> str:
    values = list(counts.values()) if isinstance(counts, Mapping) else counts
    if not isinstance(values, list) or not values or not all(isinstance(value, (int, float)) for value in values):
        return "-"
    low, high = int(min(values)), int(max(values))
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _rates(planned: Mapping[str, Any], page: Blocks) -> None:
    """Show the simulated learning rate of the longest planned run, as a line of bars where it moves."""
    runs = [(stage, run) for stage, run in get(planned, "runs", default={}).items() if isinstance(run, Mapping)]
    if not runs:
        return
    stage, run = max(runs, key=lambda pair: as_float(get(pair[1], "steps")) or 0.0)
    base, rates = as_float(get(planned, "base")), per_channel(get(run, "rates"))
    if base is None or not rates:
        return
    page.gap()
    first, high, last = (rate(base * value) for value in (rates[0], max(rates), rates[-1]))
    text = f"learning rate over {stage}'s {number(get(run, 'epochs'))} epochs: "
    if max(rates) - min(rates) <= 1e-9 * abs(max(rates)):
        page.text(text + f"{first} throughout", 3)
        return
    page.text(text + f"{first} at first, {high} at most, {last} at last", 3)
    page.bars(rates)


def _groups(planned: Mapping[str, Any], page: Blocks) -> None:
    """Name the optimizer's parameter groups, where there are several."""
    groups = items(planned, "groups")
    if len(groups) < 2:
        return
    page.gap()
    rows = [
        [_some(get(group, "parameters", default=[])), rate(get(group, "lr")), number(get(group, "weight_decay"))]
        for group in groups[:GROUPS_SHOWN]
    ]
    page.table(["parameter group", "lr", "weight_decay"], rows, left=(0, 1, 2))
    if len(groups) > GROUPS_SHOWN:
        page.text(f"{GROUPS_SHOWN} of {len(groups)} groups; the rest in result.json", 3, style="dim")


def _some(names: Sequence[str]) -> str:
    """Name the first and the last of several parameters, and say how many there are."""
    if len(names) <= 2:
        return ", ".join(names)
    return f"{names[0]} ... {names[-1]} ({len(names)} parameters)"


def _layers(layers: Sequence[LayerSignal], page: Blocks) -> None:
    if not layers:
        return
    shown = layers
    if len(layers) > LAYERS_SHOWN:
        last = len(layers) - 1
        shown = [layers[round(i * last / (LAYERS_SHOWN - 1))] for i in range(LAYERS_SHOWN)]
    rows = [
        [
            str(layer.name),
            str(layer.type),
            rounded(layer.activation_mean, 2),
            fixed(layer.activation_std, 2),
            _percent(layer.zero_fraction),
            _percent(layer.dead_fraction),
            fixed(layer.grad_norm),
        ]
        for layer in shown
    ]
    page.gap()
    headers = ["layer", "type", "output mean", "std", "zeros", "dead", "grad norm"]
    page.table(headers, rows, left=(0, 1), optional=(5, 1))
    if len(shown) < len(layers):
        page.text(f"{len(shown)} of {len(layers)} layers, evenly spaced; the rest in result.json", 3, style="dim")


def _percent(value: Any) -> str:
    return f"{value * 100:.0f} %" if isinstance(value, (int, float)) else "-"
