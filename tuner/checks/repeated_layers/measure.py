"""Layers that stand in one list more than once, and so have one set of weights."""

from __future__ import annotations

from torch import nn

from tuner.checks.repeated_layers.evidence import RepeatedLayers
from tuner.checks.tools.frame import before_training, takes
from tuner.train.setup import Setup


@before_training
@takes(0)
def repeated_layers(setup: Setup) -> RepeatedLayers:
    """Look for one object at several places of a list or a sequence of layers."""
    groups = []
    for where, module in setup.model().named_modules():
        if not isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
            continue
        places: dict[nn.Module, list[str]] = {}
        for name, layer in module._modules.items():
            if layer is not None and any(True for _ in layer.parameters()):
                places.setdefault(layer, []).append(f"{where}.{name}".lstrip("."))
        groups += [names for names in places.values() if len(names) > 1]
    return RepeatedLayers(groups)
