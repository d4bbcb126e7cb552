"""Teachers: models whose answers are learnt from beside the labels, as parts of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import InputError, UsageError
from tuner.core.streams import derive_seed
from tuner.recipe.model import expand_path
from tuner.train.finetune import load_into, read_weights

if TYPE_CHECKING:
    from tuner.train.setup import Setup


class Distillation:
    """Add `weight` times the divergence from a trained teacher's softened answers (times T squared).

    Source: G. Hinton, O. Vinyals, J. Dean 2015; the notes on competitions, knowledge distillation.
    """

    def __init__(self, teacher: nn.Module, weight: float, temperature: float) -> None:
        self.teacher, self.weight, self.temperature = teacher.eval().requires_grad_(False), weight, temperature

    def penalty(self, outputs: Tensor, inputs: Tensor, **_: Any) -> Tensor:
        with torch.no_grad():
            wanted = (self.teacher(inputs).float() / self.temperature).softmax(1)
        log_p = (outputs / self.temperature).log_softmax(1)
        return self.weight * self.temperature**2 * F.kl_div(log_p, wanted, reduction="batchmean")


class MeanTeacher:
    """Add `weight` times the squared distance of the answers from those of an average of the model itself.

    Source: A. Tarvainen, H. Valpola 2017, Mean teachers; the notes on competitions, mean teacher.
    """

    def __init__(self, teacher: nn.Module, weight: float, decay: float) -> None:
        self.teacher, self.weight, self.decay = teacher.eval().requires_grad_(False), weight, decay

    def penalty(self, outputs: Tensor, inputs: Tensor, **_: Any) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher(inputs).float().softmax(1)
        return self.weight * (outputs.softmax(1) - wanted).square().sum(1).mean()

    @torch.no_grad()
    def after_update(self, model: nn.Module, step: int, **_: Any) -> None:
        decay = min(self.decay, step / (step + 1))
        own = self.teacher.state_dict()
        for name, item in model.state_dict().items():
            if item.is_floating_point():
                own[name].lerp_(item, 1 - decay)
            else:
                own[name].copy_(item)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.teacher.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.teacher.load_state_dict(state)


class PseudoLabels:
    """Add `weight` times the cross-entropy on unlabelled examples of which the teacher is sure enough.

    Each step draws as many of them as the batch has; answers below the threshold count nothing.

    Source: D. Lee 2013, Pseudo-Label; the notes on competitions, recursive pseudo-labels (0.9).
    """

    def __init__(
        self,
        answer: Callable[[Tensor], Tensor],
        model: nn.Module,
        inputs: Tensor,
        settings: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.answer, self.model, self.inputs = answer, model, inputs
        self.threshold, self.weight, self.seed, self.steps = settings["pseudo_labels"], settings["weight"], seed, 0

    def penalty(self, outputs: Tensor, **_: Any) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "pseudo", self.steps))
        self.steps += 1
        chosen = torch.randint(0, len(self.inputs), (len(outputs),), generator=generator)
        inputs = self.inputs[chosen.to(self.inputs.device)]
        with torch.no_grad():
            sure, labels = self.answer(inputs).float().softmax(1).max(1)
        losses = F.cross_entropy(self.model(inputs).float(), labels, reduction="none")
        return self.weight * (losses * (sure >= self.threshold)).mean()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


def teachers(setup: Setup, model: nn.Module) -> list[dict[str, Any]]:
    """Return the parts of the step that the `[teacher]` table stands for.

    Raises:
        UsageError, InputError: its files are not there or do not fit.
    """
    table = setup.tables.get("teacher")
    if table is None:
        return []
    parts: list[Any] = []
    folder, weight = setup.env.recipe_dir, table.get("weight", 0.5)
    wise: nn.Module | None = None
    if table.get("distill"):
        path = Path(expand_path(table["distill"], folder))
        wise = setup.built(table.get("model") or setup.tables["model"])
        fit = load_into(wise, read_weights(path, "teacher.distill"), path, "teacher.distill")
        if fit.misfits or fit.missing:
            text = f"teacher.distill: {path}: does not fit the teacher: {fit.words()[1]}"
            raise UsageError(text, "Say the teacher's own model: [teacher] model = { name = ... }.")
        parts.append(Distillation(wise, weight, table.get("temperature", 4.0)))
    if table.get("mean_teacher"):
        twin = setup.built(setup.tables["model"])
        twin.load_state_dict(model.state_dict())
        parts.append(MeanTeacher(twin, weight, table["mean_teacher"]))
    if table.get("pseudo_labels"):
        inputs = setup.data.normalise(_unlabelled(table, folder).to(setup.env.device))
        answer = parts[0].teacher if parts else None
        settings = {"weight": weight, **table}
        parts.append(PseudoLabels(answer or _of(model), model, inputs, settings, setup.spec.seed))
    points = ("penalty", "after_update")
    return [
        {**{name: getattr(part, name) for name in points if hasattr(part, name)}}
        | ({"state": part} if hasattr(part, "state_dict") else {})
        for part in parts
    ]


def _of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the model's own answers in eval mode, without moving its statistics; each part gets its mode back."""

    def answer(inputs: Tensor) -> Tensor:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        outputs = model(inputs)
        for module, mode in modes:  # frozen batch norms are in eval mode while the rest trains
            module.training = mode
        return outputs

    return answer


def _unlabelled(table: Mapping[str, Any], folder: Path) -> Tensor:
    path = Path(expand_path(table["unlabelled"], folder))
    if not path.is_file():
        raise InputError(f"teacher.unlabelled: no such file: {path}", "Save an array: np.savez(path, inputs=...).")
    with np.load(path, allow_pickle=False) as arrays:
        if "inputs" not in arrays:
            held = ", ".join(arrays)
            raise InputError(f"teacher.unlabelled: {path} has no array 'inputs' (it has: {held})", "Name it inputs.")
        return torch.from_numpy(arrays["inputs"])
