"""Parameter groups: functions `param_groups(model, table, **args)` that give parts of the model settings of their own.

`table` is the recipe's optimizer table. Returned is a list of dictionaries with `params` and what differs for them
(`lr`, `weight_decay`); parameters that none of them names keep the table's. Several are combined: factors of the rate
multiply. Adding one is adding a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from tuner.core.errors import UsageError
from tuner.parts.blocks import NORMS, blocks_of, head_of

Groups = list[dict[str, Any]]


def no_decay_on_norms(model: nn.Module, table: Mapping[str, Any]) -> Groups:
    """Decay neither biases, nor the factors of normalisation layers, nor embeddings.

    When: weight decay with normalisation layers; most published recipes do so.
    Source: T. He et al. 2019, Bag of Tricks, section 3.1; A. Karpathy, minGPT (embeddings).
    """
    spared = []
    for module in model.modules():
        for name, item in module.named_parameters(recurse=False):
            if item.ndim <= 1 or name.endswith("bias") or isinstance(module, (*NORMS, nn.Embedding)):
                spared.append(item)
    return [{"params": spared, "weight_decay": 0.0}]


def head_lr(model: nn.Module, table: Mapping[str, Any], factor: float = 10.0) -> Groups:
    """Train the head, the last linear layer, at `factor` times the rate.

    When: a pretrained body under a fresh head.
    factor: 1 to 100, log.
    Source: the notes on competitions, fine-tuning way three: 3e-5 for the backbone, 3e-4 for the head.
    """
    _positive("head_lr", "factor", factor)
    return [{"params": list(head_of(model).parameters()), "lr": table["lr"] * factor}]


def body_lr(model: nn.Module, table: Mapping[str, Any], factor: float = 0.1) -> Groups:
    """Train everything but the head at `factor` times the rate; the head keeps it.

    When: as head_lr, where the rate is the head's. `finetune.way = "discriminative"` stands for it.
    factor: 0.01 to 1, log.
    Source: the notes on competitions, fine-tuning way three: discriminative rates that differ ten times.
    """
    _positive("body_lr", "factor", factor)
    head = set(head_of(model).parameters())
    return [{"params": [item for item in model.parameters() if item not in head], "lr": table["lr"] * factor}]


def layer_decay(model: nn.Module, table: Mapping[str, Any], factor: float = 0.75) -> Groups:
    """Multiply the rate by `factor` per block, counted from the head, which keeps the rate itself.

    When: fine-tuning, where early layers hold what is general.
    factor: 0.5 to 1.
    Source: J. Howard, S. Ruder 2018, ULMFiT (discriminative fine-tuning); H. Bao et al. 2021, BEiT.
    """
    _positive("layer_decay", "factor", factor)
    blocks = blocks_of(model)
    depth = {item: index for index, block in enumerate(blocks) for module in block for item in module.parameters()}
    groups: Groups = [{"params": [], "lr": table["lr"] * factor**index} for index in reversed(range(len(blocks)))]
    for item in model.parameters():  # what belongs to no block (a class token) goes with the first
        groups[depth.get(item, 0)]["params"].append(item)
    return groups


def _positive(name: str, key: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"optimizer.groups {name}.{key}: must be greater than 0 (got {value!r})")
