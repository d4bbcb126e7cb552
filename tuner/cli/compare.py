"""`tuner compare`: two runs beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.exit_codes import exit_codes, one_form


def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="folder of a run, or its name in runs/")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="the other run")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="write one HTML page instead")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the comparison as JSON")] = False,
) -> None:
    """Compare two runs: recipes, verdicts, and whether one winner is better on the same val examples."""
    with exit_codes(as_json, False, []):
        from tuner.workflow import compare, report_page

        one_form(html, as_json)
        found = compare.compare(run_a, run_b)
        if html is not None:
            print(report_page.write_comparison(found.to_json(), html))
        elif as_json:
            print(json.dumps(found.to_json(), indent=2))
        else:
            from tuner.view import compare as view
            from tuner.view.page import Page, make_console
            from tuner.view.terminal import show

            page = Page(make_console())
            show(view.blocks_of(found.to_json()), page)
            page.print()
