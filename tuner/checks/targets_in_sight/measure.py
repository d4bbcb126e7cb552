"""Whether the word to predict is among the words given, and whether the model reads it there."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tuner.checks.targets_in_sight.evidence import TargetsInSight
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, before_training, forward, one_batch, shaken_model, takes
from tuner.train.nested import leaves, mapped
from tuner.train.own_loss import of_model
from tuner.train.setup import Setup

EXAMPLES = 64
AHEAD = (1, 2, 0)  # places; the next word, the one after it, the word itself
ALL = 0.99  # of the positions
TRIVIAL = 0.5  # less, of how many words are the same as at that distance anyway
PLACES = 4
SAME = 1e-5  # of the outputs' spread


@before_training
@takes(2)
def targets_in_sight(setup: Setup) -> TargetsInSight:
    """Look for the targets among the words that come with them, and put other words there, one place at a time."""
    inputs, targets = one_batch(setup, affordable(setup, EXAMPLES), "in sight")
    if targets.ndim != 2 or targets.is_floating_point() or of_model(setup.loss()):
        raise DoesNotApply("there is no target for each word, or the model makes its own loss of them")
    given = [part for part in leaves(inputs) if part.shape == targets.shape and not part.is_floating_point()]
    if not given or len(targets) < 2:
        raise DoesNotApply("there is no word for each target")
    counted = (targets >= 0) & (targets < setup.data.num_classes)
    for words in given:
        for ahead in AHEAD:
            if (share := _share(words, targets, counted, ahead)) is not None:
                read, asked = _read(setup, inputs, words, counted, ahead)
                return TargetsInSight(ahead, share, read, asked)
    return TargetsInSight()


def _share(words: Tensor, targets: Tensor, counted: Tensor, ahead: int) -> float | None:
    """Return the share of targets that stand so many places ahead among the words; None where it is not nearly all."""
    width = words.shape[1] - ahead
    here = counted[:, :width]
    if width < 2 or not here.any():
        return None
    there, own = words[:, ahead:][here], words[:, :width][here]
    share = float((there == targets[:, :width][here]).double().mean())
    usual = (there == own) if ahead else (own == own.mode().values)
    return share if share >= ALL and share - float(usual.double().mean()) > TRIVIAL else None


def _read(setup: Setup, inputs: Any, words: Tensor, counted: Tensor, ahead: int) -> tuple[int, int]:
    """Return at how many positions of those asked the output changes with the word so many places ahead."""
    model = shaken_model(setup).eval()
    plain = forward(model, inputs)
    length = words.shape[1]
    axes = [axis for axis in (1, 2) if plain.ndim == 3 and plain.shape[axis] == length]
    if len(axes) != 1:
        raise CannotProbe("the outputs are not one row of scores for each position")
    other = words.roll(1, 0)
    able = (counted[:, : length - ahead] & (other != words)[:, ahead:]).any(0).nonzero().flatten().tolist()
    places = sorted({able[index * (len(able) - 1) // (PLACES - 1)] for index in range(PLACES)}) if able else []
    room = SAME * float(plain.std().clamp_min(1e-12))
    read = 0
    for place in places:
        changed = words.clone()
        changed[:, place + ahead] = other[:, place + ahead]
        after = forward(model, mapped(lambda part, changed=changed: changed if part is words else part, inputs))  # type: ignore[misc]
        read += float((after - plain).select(axes[0], place).abs().max()) > room
    return read, len(places)
