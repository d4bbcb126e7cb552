"""Large models, built again and again: their weights are drawn once, and copied into every later one.

Every measurement builds the model from its seed. Of 25 million weights that is half a second each time, of some
initialisations ten times that. The builder is called all the same, on torch's meta device, where nothing is drawn; what
it gives takes copies of the weights of the first model. Where that would not be the same model (shared weights, tensors
that are no weights, an init or weights from a file, an error), every model is built in full.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tuner.train.setup import Setup, built_model

LARGE = 4_000_000  # weights: below, drawing them takes no time
PLAIN = (bool, int, float, str, tuple, type(None))
OWN = frozenset(vars(nn.Module()))  # what every module has
DEEP = 4  # objects within objects that are looked through for tensors


def rebuilt(setup: Setup) -> Setup:
    """Return the setup with models whose weights are drawn once."""
    return cast(Setup, _Rebuilt(setup))


class _Rebuilt:
    """A trial's setup that draws the weights of a large model once; the rest is the setup's."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._known: _Known | None = None
        self._in_full = not _may_be_rebuilt(setup)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._setup, name)

    def model(self, seed: int | None = None) -> nn.Module:
        """Return the model of a seed, in train mode; see `Setup.model`."""
        if self._in_full or seed not in (None, self._setup.spec.seed):
            return self._built(seed)
        if self._known is not None:
            if (model := self._rebuilt(self._known)) is not None:
                return model
            self._in_full, self._known = True, None
            return self._built(seed)
        model = self._built(seed)
        self._known = _Known.of(model)
        self._in_full = self._known is None
        return model

    def _built(self, seed: int | None) -> nn.Module:
        model: nn.Module = self._setup.model(seed)
        return model

    def _rebuilt(self, known: _Known) -> nn.Module | None:
        """Build the model without its weights and give it copies of the known ones; None where that is not it."""
        setup, table = self._setup, self._setup.tables["model"]
        shape, classes, folder = setup.data.input_shape, setup.data.num_classes, setup.env.recipe_dir
        try:
            with torch.device("meta"):
                model = built_model(setup.functions, table, shape, classes, folder, setup.spec.seed)
        except Exception:  # whatever the user's code cannot do without values, it can do with them
            return None
        if not all(item.is_meta for item in (*model.parameters(), *model.buffers())) or form(model) != known.form:
            return None
        try:
            model.load_state_dict(known.copies(), assign=True)
        except Exception:  # a module's own loading may refuse
            return None
        known.restore_streams()
        return model.train()


def _may_be_rebuilt(setup: Setup) -> bool:
    """Return whether the table alone makes the model, on a builder that a trial's setup has."""
    own = setup.tables.get("model", {}).get("init") or setup.tables.get("finetune")
    return not own and "model" in getattr(setup, "functions", {}) and not setup.needs_plain_layout


class _Known:
    """The first model: its form, its weights, and the state of the global generators after it was built."""

    def __init__(self, model: nn.Module) -> None:
        self.form = form(model)
        state = model.state_dict()
        self.weights = {name: value.detach().clone() for name, value in state.items()}
        self.versions = getattr(state, "_metadata", {})  # which modules ask for when they load
        self.states = torch.get_rng_state(), np.random.get_state(), random.getstate()

    @classmethod
    def of(cls, model: nn.Module) -> _Known | None:
        """Return what is known of a model; None where it is small, or where weights alone do not make it again."""
        if sum(item.numel() for item in model.parameters()) < LARGE or not _is_made_of_weights(model):
            return None
        return cls(model)

    def copies(self) -> OrderedDict[str, Tensor]:
        """Return copies of the weights, as a model's state."""
        state = OrderedDict((name, value.clone()) for name, value in self.weights.items())
        state._metadata = self.versions  # type: ignore[attr-defined]
        return state

    def restore_streams(self) -> None:
        """Put the global generators into the state that drawing the weights leaves."""
        torch.set_rng_state(self.states[0])
        np.random.set_state(self.states[1])
        random.setstate(self.states[2])


def _is_made_of_weights(model: nn.Module) -> bool:
    """Return whether all tensors that a model holds are in its state, each at one place."""
    held = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    if len({id(value) for _, value in held}) < len(held) or {name for name, _ in held} != set(model.state_dict()):
        return False
    others = (value for module in model.modules() for name, value in vars(module).items() if name not in OWN)
    return not any(_holds_tensor(value, DEEP) for value in others)


def _holds_tensor(value: Any, deep: int) -> bool:
    """Return whether a value is a tensor, or something that holds one; not asked of modules, which hold weights."""
    if isinstance(value, (Tensor, np.ndarray)):
        return True
    if deep == 0 or isinstance(value, (*PLAIN[:4], type, nn.Module)):
        return False
    if isinstance(value, (list, tuple, set)):
        return any(_holds_tensor(item, deep - 1) for item in value)
    if isinstance(value, dict):
        return any(_holds_tensor(item, deep - 1) for item in value.values())
    enclosed = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    return any(_holds_tensor(item, deep - 1) for item in (*enclosed, *getattr(value, "__dict__", {}).values()))


def form(model: nn.Module) -> list[Any]:
    """Return what a model is but for the values of its weights: modules with their plain attributes, shapes, kinds."""
    modules = [(name, type(module), _plain(module)) for name, module in model.named_modules()]
    weights = [
        (name, tuple(value.shape), value.dtype, value.requires_grad)
        for name, value in (*model.named_parameters(), *model.named_buffers())
    ]
    return [*modules, *weights]


def _plain(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in OWN and isinstance(value, PLAIN)}
