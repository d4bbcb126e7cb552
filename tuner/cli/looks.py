"""Commands that look and train nothing: `tuner parts`, `tuner inspect`, `tuner data`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli.exit_codes import exit_codes
from tuner.core.errors import UsageError, did_you_mean


def parts(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="a kind of parts, or the name of a part")] = None,
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


RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="path of a recipe, or its name in recipes/")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="override a recipe key, as key=value")]
Out = Annotated[Path | None, typer.Option(help="folder of the pictures (default: runs/<recipe name>/inspect)")]
AsJson = Annotated[bool, typer.Option("--json", help="print what was measured as JSON")]


def _strict(found: Any) -> str:
    """Return JSON as every parser reads it: NaN and infinities (of missing cells, say) are null."""
    from tuner.core.result import finite

    return json.dumps(finite(found), allow_nan=False)


def inspect(
    recipe: RecipePath,
    schedule: Annotated[bool, typer.Option("--schedule", help="draw the rate over the epochs instead")] = False,
    batch_size: Annotated[bool, typer.Option("--batch-size", help="measure the speed by batch size instead")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="epochs of the run that the schedule is planned for")] = 15,
    set: Overrides = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Look into the model: shapes, weights, multiply-adds, receptive fields, activations at init, first filters."""
    with exit_codes(as_json, False, []):
        from tuner.recipe.templates import find_recipe
        from tuner.view import looks as view
        from tuner.workflow import looks

        if schedule and batch_size:
            raise UsageError("--schedule and --batch-size are two looks", "Leave one of them out.")
        if out is not None and (schedule or batch_size):
            raise UsageError("--out: only a look at the model itself leaves pictures", "Leave it out.")
        path, changes = find_recipe(recipe), set or []
        if schedule:
            rates = looks.rates(path, changes, epochs)
            print(_strict(rates) if as_json else view.rates_text(rates, epochs))
        elif batch_size:
            rows = looks.throughput(path, changes)
            print(_strict(rows) if as_json else view.throughput_text(rows))
        else:
            found = looks.inspect(path, changes, epochs, out)
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            print(_strict(found) if as_json else view.model_text(found, width))


def data(
    recipe: RecipePath,
    suspects: Annotated[bool, typer.Option("--suspects/--no-suspects", help="look for wrong labels")] = True,
    set: Overrides = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Look at the data: classes, statistics, samples with augmentation, duplicates, suspect labels."""
    with exit_codes(as_json, False, []):
        from tuner.recipe.templates import find_recipe
        from tuner.view.looks import data_text
        from tuner.workflow import looks

        path = find_recipe(recipe)
        found = looks.data(path, set or [], out, suspects)
        print(_strict(found) if as_json else data_text(found))
