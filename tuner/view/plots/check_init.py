"""Step 1: the loss at init against its expectations, the signals by layer, the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.core.metrics import CheckInitMetrics, LayerSignal
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import get
from tuner.view.plots import style
from tuner.view.plots.style import Axes, Figure
from tuner.view.text import as_float, fixed, spans_decades, with_unit

NAMES_SHOWN = 24


def figures(result: StageResult[CheckInitMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw one sheet of the loss and the classes, one of the layers and one of the planned rates where there are."""
    metrics = result.metrics
    figure, ((left, right),) = style.sheet("Loss before any update, and the examples of each class", columns=2)
    _loss(left, metrics, artifacts.loss_in_nats(stage_dir))
    _classes(right, metrics)
    sheets = {"init": figure}
    layers = metrics.layers
    if layers:
        sheets["layers"] = _layers(layers)
    if metrics.planned_rates.get("runs"):
        sheets["rates"] = _rates(metrics.planned_rates)
    return sheets


def _rates(planned: Mapping[str, Any]) -> Figure:
    figure, ((ax,),) = style.sheet(f"Learning rate of the planned runs, simulated: {get(planned, 'name', default='')}")
    base = as_float(get(planned, "base")) or 1.0
    for index, (stage, run) in enumerate(get(planned, "runs", default={}).items()):
        epochs = as_float(get(run, "epochs")) or 1.0
        shares, rates = style.pairs(get(run, "places", default=[]), get(run, "rates", default=[]))
        name = f"{stage}, {epochs:g} epochs"
        drawn = [epochs * share for share in shares]
        ax.plot(drawn, [base * rate for rate in rates], color=style.CYCLE[index], linewidth=1.8, label=name)
    ax.axhline(base, color=style.GREY, linewidth=0.8, linestyle=":", label="the recipe's rate")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    style.label(ax, "epochs", "learning rate")
    style.legend(ax, loc="upper right")
    return figure


def _loss(ax: Axes, metrics: CheckInitMetrics, nats: bool) -> None:
    losses = [loss for loss in metrics.init_losses or (metrics.init_loss,) if loss is not None]
    ax.scatter(range(1, len(losses) + 1), losses, color=style.BLUE, s=42, zorder=3, label="measured, one per seed")
    lines = (
        (metrics.expected_loss, "expected of this loss", style.RED, "-"),
        (metrics.log_c, "log C", style.GREEN, "--"),
        (metrics.prior_entropy, "entropy of the class prior", style.BLACK, ":"),
    )
    values = list(losses)
    for value, name, colour, dash in lines:
        if value is not None:
            ax.axhline(value, color=colour, linestyle=dash, linewidth=1.6, label=f"{name}, {fixed(value)}")
            values.append(value)
    if not values:
        style.empty(ax, "no loss was measured")
        return
    room = max(max(values) - min(values), 0.02 * abs(max(values)), 1e-3)
    ax.set_ylim(min(values) - 0.35 * room, max(values) + 1.4 * room)
    ax.set_xlim(0.5, max(len(losses), 1) + 0.5)
    style.whole_x(ax)
    style.label(ax, "seed", with_unit("loss before any update", nats), "Loss at initialisation")
    style.legend(ax, loc="upper right")


def _classes(ax: Axes, metrics: CheckInitMetrics) -> None:
    splits = metrics.data
    names = [str(name) for name in metrics.class_names]
    drawn = [(split, class_counts(facts.class_counts)) for split, facts in splits.items()]
    drawn = [(split, counts) for split, counts in drawn if counts]
    if not drawn:
        style.empty(ax, "no class counts")
        return
    count = max(len(counts) for _, counts in drawn)
    wide = 0.8 / len(drawn)
    for index, (split, counts) in enumerate(drawn):
        places = [i - 0.4 + wide * (index + 0.5) for i in range(len(counts))]
        ax.bar(places, counts, width=wide * 0.92, color=style.CYCLE[index], label=split)
    if count <= NAMES_SHOWN:
        texts = names if len(names) == count else [str(i) for i in range(count)]
        style.class_ticks(ax, range(count), texts)
    ax.grid(False, axis="x")
    ax.set_ylim(0, max(max(counts) for _, counts in drawn) * 1.2)
    style.label(ax, "class", "examples", "Classes")
    style.legend(ax, ncols=len(drawn), loc="upper right")


def class_counts(counts: Sequence[int]) -> list[float]:
    """Return counts per class, whether they came as a list or by name."""
    values = list(counts.values()) if isinstance(counts, Mapping) else counts
    return (
        [float(value) for value in values]
        if isinstance(values, list) and all(as_float(value) is not None for value in values)
        else []
    )


def _layers(layers: Sequence[LayerSignal]) -> Figure:
    title = "Signals at initialisation, from the input (left) to the output (right)"
    figure, ((top,), (bottom,)) = style.sheet(title, rows=2, panel=(min(7.2 + 0.12 * len(layers), 14.0), 2.7))
    x = list(range(len(layers)))
    means = [as_float(layer.activation_mean) for layer in layers]
    stds = [as_float(layer.activation_std) for layer in layers]
    places, heights = style.pairs(x, means)
    spread = [stds[int(place)] or 0.0 for place in places]
    top.errorbar(places, heights, yerr=spread, fmt="o", color=style.BLUE, ecolor=style.SKY, capsize=3)
    top.axhline(0, color=style.GREY, linewidth=0.8)
    style.label(top, "", "activation, mean +- std")
    places, heights = style.pairs(x, [as_float(layer.grad_norm) for layer in layers])
    if places:
        bottom.plot(places, heights, "o", color=style.RED)  # not joined: layers of different kinds
        if spans_decades(heights):
            bottom.set_yscale("log")
            style.log_axis(bottom.yaxis)
        else:
            bottom.set_ylim(0, max(heights) * 1.15 or 1)
    else:
        style.empty(bottom, "no gradient was measured")
    style.label(bottom, "", "norm of the gradient")
    stride = max(1, len(layers) // 30 + (len(layers) % 30 > 0 and len(layers) > 30))
    shown = x[::stride]
    top.set_xticks(shown, [""] * len(shown))
    names = [style.safe(_layer_name(layers[i], i)) for i in shown]
    bottom.set_xticks(shown, names, rotation=40, ha="right", fontsize=8)
    for ax in (top, bottom):
        ax.set_xlim(-0.5, len(layers) - 0.5)
    return figure


def _layer_name(layer: LayerSignal, place: int) -> str:
    """Return a layer's path, with its type where the path is only numbers."""
    name = (layer.name if layer.name != "-" else str(place))[-22:]
    return f"{name} {layer.type}" if name.replace(".", "").isdigit() else name
