"""The rule over layers that stand in one list more than once (check-init): IN189."""

from __future__ import annotations

from tuner.checks.cards import found, rule, some
from tuner.checks.repeated_layers.evidence import RepeatedLayers
from tuner.core.result import Finding


@rule(
    "IN189",
    "capacity-too-small",
    "check-init",
    meaning="Several entries of a list of layers are one and the same layer.",
    detected="One object with weights stands at several places of a ModuleList, a ModuleDict or a Sequential.",
    why="[layer] * n is n times the same layer: one set of weights, which gets the gradients of all places.",
    fix="Make a layer for each place: nn.ModuleList(make() for _ in range(n)), or copy.deepcopy(layer).",
    confused_with="Weights that are shared on purpose, as in ALBERT: that is sound.",
    source="github.com/yaoppeng/U-Net_v2 issue 10; github.com/zalandoresearch/pytorch-vq-vae issue 2",
)
def one_layer_many_times(seen: RepeatedLayers) -> Finding | None:
    if not seen.groups:
        return None
    longest = max(seen.groups, key=len)
    title = f"{some(longest)} are one and the same layer: they share their weights"
    return found("IN189", "note", title, evidence=seen.to_json())
