"""`[accept] codes` of a recipe: each must be the code of a rule."""

from __future__ import annotations

from pathlib import Path

from tuner.checks.engine import all_rules
from tuner.core.errors import UsageError, did_you_mean
from tuner.recipe.file import key_lines, place_of
from tuner.recipe.model import Recipe


def check_codes(path: Path, recipe: Recipe) -> None:
    """Refuse accepted codes that no rule has: a misspelt one would accept nothing.

    Raises:
        UsageError: the code, and the nearest known one.
    """
    if not recipe.accept.codes:
        return
    known = all_rules()
    unknown = [code for code in recipe.accept.codes if code not in known]
    if unknown:
        place = place_of("accept.codes", path, key_lines(path))
        texts = [f"{place}: accept.codes: no rule has the code {code!r}{did_you_mean(code, known)}" for code in unknown]
        raise UsageError("\n".join(texts), "`tuner explain CODE` explains a code; reports show them with each finding.")
