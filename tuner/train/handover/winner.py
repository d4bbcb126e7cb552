"""The winner's model, built again from its recipe and its checkpoint; the data are not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import InputError
from tuner.core.trial import TrialSpec
from tuner.parts.normalise import TOKENS
from tuner.train import checkpoint
from tuner.train.interface import Interface
from tuner.train.layout import fails_channels_last
from tuner.train.nested import is_one, mapped
from tuner.train.setup import built_model, resolve_all


class Winner(nn.Module):
    """A trained model in eval mode that takes inputs as the data source gives them: bytes of images, rows of a table.

    Shapes: inputs (N, *shape); outputs are the model's own, (N, C) class scores for a classifier.
    """

    shift: Tensor | None
    factor: Tensor | None

    def __init__(self, model: nn.Module, interface: Interface, epoch: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.interface = interface
        self.epoch = epoch
        self.register_buffer("shift", interface.shift, persistent=False)
        self.register_buffer("factor", interface.factor, persistent=False)
        self.eval()
        shape = interface.shape
        images = is_one(shape) and len(shape) == 3
        self.channels_last = images and not fails_channels_last(model, torch.zeros(2, *shape))

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class; its number where the source knows no name."""
        return self.interface.class_names

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of a table's columns, in the order that the model takes them; None for other inputs."""
        return self.interface.columns

    def preprocess(self, inputs: Any) -> Any:
        """Return inputs as the model saw them in training: float32, normalised; token ids pass as they are."""
        if not isinstance(inputs, Tensor):
            return mapped(self.preprocess, inputs)
        if self.shift is None or self.factor is None:
            values = inputs if inputs.dtype in TOKENS else inputs.float()
        else:
            values = (inputs.float() - self.shift) * self.factor
        return values.contiguous(memory_format=torch.channels_last) if self.channels_last else values.contiguous()

    def forward(self, inputs: Any) -> Any:
        return self.model(self.preprocess(inputs))


def load_winner(spec: TrialSpec, path: Path, recipe_dir: Path) -> Winner:
    """Build the trial's model and give it the weights of its checkpoint; on the CPU, in eval mode.

    Raises:
        InputError: the checkpoint is torn, or of another trial.
        UserCodeError: the user's model file raised.
    """
    saved = checkpoint.load(path)
    if saved.get("spec_id") != spec.id:
        raise InputError(f"{path}: the weights of another trial", "Run fine again with --fresh.")
    interface = Interface.from_checkpoint(saved, str(path))
    functions, _ = resolve_all(spec.tables, recipe_dir)
    model = built_model(functions, spec.tables["model"], interface.shape, interface.num_classes, recipe_dir, spec.seed)
    model.load_state_dict(saved["model"])
    return Winner(model, interface, saved.get("epoch"))
