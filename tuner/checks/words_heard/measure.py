"""Does the model hear the words of a padded example, or its padding alone? Asked by giving it other words."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import DoesNotApply, before_training, forward, one_batch, shaken_model
from tuner.checks.words_heard.evidence import WordsHeard
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

EXAMPLES = 64
FEWEST = 4  # padded examples
SHORTEST = 2  # places of padding, and words


@before_training
def words_heard(setup: Setup) -> WordsHeard:
    """Give padded rows of word numbers other words, then other lengths, and compare the outputs in eval mode.

    Padding is the number that most rows end with, or begin with, two places or more. The model is fresh, with a little
    noise on all weights.
    """
    inputs, _ = one_batch(setup, affordable(setup, EXAMPLES), "words_heard")
    if not isinstance(inputs, Tensor) or inputs.ndim != 2 or inputs.is_floating_point() or inputs.dtype == torch.uint8:
        raise DoesNotApply("the inputs are no rows of word numbers")
    padding, is_padding = _padding(inputs)
    rows = (is_padding.sum(1) >= SHORTEST) & ((~is_padding).sum(1) >= SHORTEST)
    words = inputs[inputs != padding]
    if int(rows.sum()) < FEWEST or len(words.unique()) < SHORTEST:
        raise DoesNotApply("too few examples have padding")
    generator = torch.Generator().manual_seed(derive_seed(setup.spec.seed, "probe", "words_heard"))
    drawn = words.cpu()[torch.randint(len(words), inputs.shape, generator=generator)].to(inputs)
    model = shaken_model(setup).eval()
    plain, other, longer = (
        forward(model, given)[rows]
        for given in (inputs, torch.where(is_padding, inputs, drawn), torch.where(is_padding, drawn, inputs))
    )
    return WordsHeard(
        padding=padding,
        padded=int(rows.sum()),
        words=_change(plain, other),
        length=_change(plain, longer),
    )


def _change(before: Tensor, after: Tensor) -> float | None:
    """Return the largest change of an output; None where one is not finite, as where every place is masked."""
    change = (before - after).abs().max()
    return float(change) if bool(change.isfinite()) else None


def _padding(inputs: Tensor) -> tuple[int, Tensor]:
    """Return the number that most rows have at one end, and which places of (examples, length) it fills from there."""
    tails, heads = (_run(given) for given in (inputs, inputs.flip(1)))
    longest = [int((places.sum(1) >= SHORTEST).sum()) for _, places in (tails, heads)]
    return tails if longest[0] >= longest[1] else (heads[0], heads[1].flip(1))


def _run(inputs: Tensor) -> tuple[int, Tensor]:
    """Return the number that most rows end with, and the places at their end that it fills without a break."""
    last = inputs[:, -1].mode().values
    return int(last), (inputs.flip(1) == last).cumprod(1).bool().flip(1)
