"""Evidence of the measurement words_heard."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class WordsHeard(Evidence):
    """How much the fresh model's outputs change where examples that end (or begin) with padding get other words.

    `padding`: the number that stands for it; `padded`: how many examples were asked; `words`: the largest change of an
    output when all words are replaced, `length`: when words stand in the
    place of the padding. None: an output is not finite.
    """

    padding: int
    padded: int
    words: float | None
    length: float | None
