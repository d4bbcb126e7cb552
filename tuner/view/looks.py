"""The words of `tuner inspect` and `tuner data`, drawn from their JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.core.memory import gigabytes

BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


HEAD = (
    *("layer", "kind", "output", "weights", "multiply-adds", "field", "of net"),
    *("mean", "std", "zeros", "least to largest"),
)
LEFT_OUT_FIRST = ("least to largest", "field", "kind", "of net")  # where a terminal has no room for all


def model_text(found: Mapping[str, Any], width: int | None = None) -> str:
    """Return the table of layers, the sums, the remarks and what of a file of weights was loaded.

    `width`: of the terminal, in characters; None: as wide as it is.
    """
    rows = [list(HEAD), *map(_layer, found["layers"])]
    kept = list(HEAD)
    for name in LEFT_OUT_FIRST:
        if width is not None and max(map(len, table(_columns(rows, kept)))) > width:
            kept.remove(name)
    lines = table(_columns(rows, kept))
    lines += ["", f"{found['parameters']:,} weights, {found['multiply_adds']:,} multiply-adds per example"]
    if {"field", "of net"} & set(kept):
        lines.append("field, of net: pixels of the layer's input, and of the network's, that a value depends on")
    if left_out := [name for name in HEAD if name not in kept]:
        lines.append(f"left out for the width: {', '.join(left_out)} (--json has all)")
    lines += [f"remark: {text}" for text in found["remarks"]]
    lines += [f"weights: {text}" for text in found.get("weights", [])]
    return "\n".join([*lines, *(f"wrote {path}" for path in found["files"])])


def _columns(rows: Sequence[Sequence[str]], kept: Sequence[str]) -> list[list[str]]:
    return [[row[HEAD.index(name)] for name in kept] for row in rows]


def _layer(layer: Mapping[str, Any]) -> list[str]:
    whole = "all" if layer["field_of_net"] is None else str(layer["field_of_net"])
    return [
        layer["name"] or "(model)",
        layer["kind"],
        "x".join(map(str, layer["outputs"])) or "-",
        f"{layer['parameters']:,}" if layer["parameters"] else "-",
        f"{layer['multiply_adds']:,}" if layer["multiply_adds"] else "-",
        "-" if layer["field"] is None else str(layer["field"]),
        whole,
        f"{layer['mean']:.3g}",
        f"{layer['std']:.3g}",
        f"{layer['zeros']:.0%}",
        bars(layer.get("histogram", [])),
    ]


def bars(shares: Sequence[float]) -> str:
    """Draw shares as bars of eight heights, the largest the whole height; what is there at all is a bar."""
    top = max(shares, default=0.0)
    return "".join(" " if share == 0 else BARS[min(7, int(8 * share / top))] for share in shares) or "-"


def rates_text(rates: Sequence[float], epochs: int, width: int = 60) -> str:
    """Draw the rate over the epochs, a bar per line."""
    per_epoch = len(rates) / epochs
    top = max(rates) or 1.0
    count = min(len(rates), 24)
    at = [round(i * (len(rates) - 1) / max(count - 1, 1)) for i in range(count)]
    bars = [f"{i / per_epoch:7.2f}  {rates[i]:9.3g}  {'#' * round(width * rates[i] / top)}" for i in at]
    return "\n".join(["  epoch         lr", *bars])


def throughput_text(found: Mapping[str, Any]) -> str:
    """Return the table of examples per second and memory by batch size, the size with the most, and what fits."""
    done = [row for row in found["rows"] if not row["why"]]
    shown = [
        [str(row["batch_size"]), f"{row['examples_per_second']:.0f}", gigabytes(row["peak_memory_bytes"])]
        for row in done
    ]
    lines = table([["batch size", "examples per second", "peak memory"], *shown])
    lines += [f"{row['batch_size']}: {row['why']}" for row in found["rows"] if row["why"]]
    best = max(done, key=lambda row: row["examples_per_second"], default=None)
    lines += [f"the most: {best['batch_size']}"] if best else []
    if found["largest"] is not None:
        whole = " (all of train)" if found["largest"] == found["train"] else ", foreseen from the peaks above"
        lines.append(f"the largest that fits into {gigabytes(found['limit_bytes'])}: {found['largest']}{whole}")
    return "\n".join(lines)


def data_text(found: Mapping[str, Any]) -> str:
    """Return classes, statistics and duplicates in words."""
    shape = "x".join(map(str, found["input_shape"]))
    sizes = ", ".join(f"{name} {size}" for name, size in found["splits"].items())
    lines = [f"{found['task']}: inputs of {shape}; {sizes}"]
    if "classes" in found:
        splits = [key for key in found["classes"][0] if key != "class"]
        lines += table(
            [["class", *splits], *([row["class"], *(str(row[s]) for s in splits)] for row in found["classes"])]
        )
    lines.append(", ".join(f"{key} {value:.4g}" for key, value in found["statistics"].items()))
    twice = found["duplicates"]
    lines.append(
        f"duplicates: {twice['within_train']} within train, {twice['train_and_val']} of val are in train "
        f"({twice['of_these_with_another_label']} of these with another label)"
    )
    if "suspects" in found:
        lines.append(f"suspects: {found['suspects']} labels that out-of-fold answers contradict")
    return "\n".join([*lines, *(f"wrote {path}" for path in found["files"])])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned lines; the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(_aligned(row, widths)) for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
