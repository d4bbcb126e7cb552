"""Commands that look and run nothing: `tuner parts`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tuner.cli.exit_codes import exit_codes
from tuner.core.errors import UsageError, did_you_mean


def parts(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="a kind of parts, or the name of a part")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the cards as JSON")] = False,
) -> None:
    """List the parts that a recipe can name: what each is, when to take it, its arguments and their ranges."""
    with exit_codes(as_json, False, []):
        from tuner.recipe.cards import cards, kinds

        whole = {name: cards(name) for name in kinds()}
        chosen = [card for name, found in whole.items() if kind in (None, name) for card in found]
        if kind is not None and kind not in whole:
            chosen = [card for found in whole.values() for card in found if card.name == kind.lower()]
            names = [*whole, *(card.name for found in whole.values() for card in found)]
            if not chosen:
                close = did_you_mean(kind, names)
                raise UsageError(f"{kind}: no such kind or part{close}", f"Kinds: {', '.join(whole)}.")
        if as_json:
            print(json.dumps([card.to_json() for card in chosen], indent=1))
            return
        if kind is None:
            for name, found in whole.items():
                print(f"{name} ({found[0].key if found else ''}): {', '.join(card.name for card in found)}")
            print("\nNext:  tuner parts KIND, or the name of a part")
            return
        for card in chosen:
            print(f"{card.name}  ({card.kind})\n  {card.what}")
            print("".join(f"  when:   {card.when}\n" if card.when else ""), end="")
            for argument in card.arguments:
                print(f"    {argument.words()}")
            print(f"  source: {card.source}\n" if card.source else "")
