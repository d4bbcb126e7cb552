"""What measures share: the list of those that run before training, and small tools for interventions.

A measure is a function `name(setup, **args) -> Name` in `checks/name/measure.py`; its evidence becomes the trial's.
`@before_training` adds it to the battery that check-init runs. One that cannot be made here raises CannotProbe with the
reason, which the report then shows.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.evidence import CannotProbe as CannotProbe
from tuner.checks.evidence import Evidence, NotMeasured
from tuner.core.errors import UserCodeError
from tuner.core.streams import derive_seed
from tuner.train.device import generators_kept
from tuner.train.finetune import freeze
from tuner.train.nested import scored_part, together
from tuner.train.own_loss import told
from tuner.train.setup import Setup
from tuner.train.step import How, default_step

Measure = Callable[..., Evidence | NotMeasured]
Batch = tuple[Tensor, Tensor]
BATTERY: dict[str, Measure] = {}
OF_DATA: set[str] = set()
NORMALISATION = nn.modules.batchnorm._NormBase
MOST_DRAWN = (1 << 19) - 1  # a prime, so that no two rows of a weight tensor get the same numbers
DROPOUT_RATES = ("p", "drop_prob", "dropout")


class DoesNotApply(CannotProbe):
    """Raised by a measurement that is not about such a model or such data: the report does not list it as missing."""

    applies = False


def before_training(measure: Measure) -> Measure:
    """Add a measure to the battery of check-init."""
    BATTERY[measure.__name__] = measure
    return measure


def takes(steps: float) -> Callable[[Measure], Measure]:
    """Say about how many training steps a measure takes, where it is more than one: what has little time asks."""

    def mark(measure: Measure) -> Measure:
        measure.steps = steps  # type: ignore[attr-defined]
        return measure

    return mark


def of_data_alone(measure: Measure) -> Measure:
    """Add a measure to the battery that needs no model: it is made even where the model does not fit the data."""
    OF_DATA.add(measure.__name__)
    return before_training(measure)


def sample(setup: Setup, count: int, stream: str, split: str = "train") -> Tensor:
    """Return `count` indices of a split (all, when it has fewer), drawn from the named random stream."""
    generator = torch.Generator().manual_seed(derive_seed(setup.spec.seed, "probe", stream))
    return torch.randperm(setup.data.size(split), generator=generator)[:count].sort().values


def equal_batches(setup: Setup, at_least: int, stream: str) -> list[Batch]:
    """Return train batches of one size, together `at_least` examples or (but for a remainder) all of them.

    One size, so that a loss that is summed over the batch is the same for each of them.
    """
    size = setup.data.size("train")
    total = min(size, at_least)
    batch_size = min(setup.spec.tables["train"]["batch_size"], total)
    batch_size = total // math.ceil(total / batch_size)
    count = math.ceil(total / batch_size)
    indices = sample(setup, min(size // batch_size, count) * batch_size, stream)
    return list(setup.data.batches("train", batch_size, indices=indices))


def gathered(setup: Setup, split: str, indices: Tensor) -> Batch:
    """Return the examples of a split at `indices` as one batch."""
    inputs, targets = zip(*setup.data.batches(split, max(1, len(indices)), indices=indices), strict=True)
    return together(torch.cat, inputs), torch.cat(targets)


def one_batch(setup: Setup, count: int, stream: str, split: str = "train") -> Batch:
    """Return one batch of at most `count` examples of a split, drawn from the named random stream."""
    return gathered(setup, split, sample(setup, count, stream, split))


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Run the block with torch's global generators seeded, and put their states back afterwards."""
    with generators_kept():
        torch.manual_seed(seed)
        yield


def dropout_off(model: nn.Module) -> nn.Module:
    """Set the rate of every dropout module (also stochastic depth, attention and recurrent dropout) to 0."""
    for module in model.modules():
        named_drop = "drop" in type(module).__name__.lower() or "depth" in type(module).__name__.lower()
        if not named_drop and not isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            continue
        for name in DROPOUT_RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def fresh_model(setup: Setup, seed: int | None = None) -> nn.Module:
    """Return a newly initialised model in train mode with dropout off, frozen as in the first epoch."""
    made: nn.Module = setup.model(seed=seed)
    model = dropout_off(made).train()
    if table := setup.tables.get("finetune"):
        freeze(model, table, 1)
    return model


def shaken_model(setup: Setup) -> nn.Module:
    """Return a fresh model with a little noise on every weight, so that no zero-initialised layer hides the rest."""
    model = fresh_model(setup)
    generator = torch.Generator().manual_seed(setup.spec.seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                p.add_(0.02 * _noise(p.shape, generator).to(p.device, p.dtype))
    return model


def _noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return random numbers; of a large tensor the first ones are repeated, which is faster than drawing them all."""
    count = math.prod(shape)
    drawn = torch.randn(min(count, MOST_DRAWN), generator=generator)
    return drawn.repeat(-(-count // MOST_DRAWN))[:count].reshape(shape)


def fresh_optimizer(setup: Setup, model: nn.Module, *, decay: bool = True, **table: Any) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over a model, without weight decay where `decay` is off."""
    optimizer: torch.optim.Optimizer = setup.optimizer(model, **table)
    if not decay:
        for group in optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = 0.0
    return optimizer


def train_once(
    setup: Setup, model: nn.Module, batch: Batch, loss: Callable[..., Tensor], optimizer: torch.optim.Optimizer
) -> float:
    """Make one training step, the user's own where the recipe has one, and return the loss it reports."""
    if setup.train_step is not None:
        value = setup.train_step(model=model, batch=batch, loss=loss, optimizer=optimizer)
        if not isinstance(value, (Tensor, float, int)) or (isinstance(value, Tensor) and value.numel() != 1):
            found = "None" if value is None else f"a {type(value).__name__}"
            raise UserCodeError(f"train.step: must return the loss of the batch, it returned {found}", "Return it.")
        return as_number(value)
    how = How(clip_norm=setup.spec.tables["train"].get("clip_norm"))
    return float(default_step(model, batch, loss, optimizer, how))


def as_number(value: Any) -> float:
    """Return what a user's function reports, a number or a tensor of one, as a float."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the model's outputs without a graph; raise CannotProbe where they are not one tensor."""
    with torch.no_grad():
        outputs = scored_part(model(inputs))
    if not isinstance(outputs, Tensor):
        raise CannotProbe(f"the model's outputs are a {type(outputs).__name__}, not one tensor")
    return outputs.detach().float()


def judged(model: nn.Module, batch: Batch, loss: Callable[..., Tensor]) -> tuple[Tensor, float]:
    """Return what `forward` gives of a batch, and the loss of all that the model returned."""
    inputs, targets = batch
    with torch.no_grad(), told(targets):
        whole = model(inputs)
        outputs = scored_part(whole)
        if not isinstance(outputs, Tensor):
            raise CannotProbe(f"the model's outputs are a {type(outputs).__name__}, not one tensor")
        return outputs.detach().float(), float(loss(whole, targets))


def accuracy(outputs: Tensor, targets: Tensor) -> float | None:
    """Return the share of examples whose largest output is the target's; None where outputs are not (N, C)."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or targets.ndim != 1 or targets.is_floating_point():
        return None
    return float((outputs.argmax(1) == targets).double().mean())


def share_right(given: Sequence[Batch]) -> float | None:
    """Return the accuracy over several batches of outputs and targets, None where outputs are not (N, C)."""
    hits = 0.0
    for outputs, targets in given:
        if (share := accuracy(outputs, targets)) is None:
            return None
        hits += share * len(targets)
    return hits / sum(len(targets) for _, targets in given)


def random_in_train_mode(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether a forward in train mode depends on the random state: dropout that cannot be switched off."""
    first, second = (_seeded_forward(model, inputs, seed) for seed in (1, 2))
    return not torch.allclose(first, second, rtol=1e-3, atol=1e-5)


def _seeded_forward(model: nn.Module, inputs: Tensor, seed: int) -> Tensor:
    with random_state(seed):
        return forward(model, inputs)


def keys_of(inputs: Tensor) -> list[bytes]:
    """Return one hash per example: equal where all values are equal."""
    rows = inputs.detach().cpu().reshape(len(inputs), -1).contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def entropy(counts: Tensor) -> float:
    """Return the entropy (nats) of the distribution that class counts give."""
    shares = counts.double() / counts.sum()
    return float(-torch.special.xlogy(shares, shares).sum())


def offered(probe: Measure, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that the probe has an argument for."""
    names = inspect.signature(probe).parameters
    return {name: value for name, value in settings.items() if name in names}
