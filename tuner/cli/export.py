"""`tuner export`: the winner to take home, and the trials as Optuna studies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.exit_codes import exit_codes
from tuner.core.errors import UsageError

WAYS = "--weights winner.safetensors, --onnx winner.onnx, --script train.py or --optuna study.db"


def export(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="path of a recipe, or its name in recipes/")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the winner's weights (safetensors), and a JSON file beside it")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the winner as ONNX with its preprocessing, checked")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a training script of plain PyTorch that repeats the winner")
    ] = None,
    optuna: Annotated[
        str | None, typer.Option(help="where to: a URL such as sqlite:///study.db, or an SQLite file")
    ] = None,
    fold: Annotated[bool, typer.Option("--fold", help="with --onnx: fold batch norm into convolutions")] = False,
    run_dir: Annotated[Path | None, typer.Option(help="the run's folder (default: runs/<recipe name>)")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="with --optuna: delete studies of the same names first")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what was written as JSON")] = False,
) -> None:
    """Take the winner home: weights, ONNX, a script of plain PyTorch; or the trials as Optuna studies."""
    with exit_codes(as_json, False, []):
        from tuner import open_run
        from tuner.recipe.templates import find_recipe
        from tuner.workflow import export, status

        if weights is onnx is script is optuna is None:
            raise UsageError("nothing to export was named", f"Give one or several of {WAYS}.")
        if replace and optuna is None:
            raise UsageError("--replace goes with --optuna", "Files are written over without being asked.")
        if fold and onnx is None:
            raise UsageError("--fold goes with --onnx", "Weights and scripts keep the model as the recipe builds it.")
        path = find_recipe(recipe)
        run = status.collect(path, run_dir, [])[0]
        lines: list[str] = []
        if weights is not None:
            lines += export.weights(run.path, run.path.name, weights)
        if onnx is not None:
            lines += export.onnx(run.path, path, onnx, fold)
        if script is not None:
            lines += export.script(run.path, path, script)
        studies = open_run(run.path).to_optuna(optuna, replace) if optuna is not None else []
        lines += [f"wrote the study {name} to {optuna}" for name in studies]
        files = [str(file) for file in (weights, onnx, script) if file is not None]
        print(json.dumps({"files": files, "studies": studies} if files else studies) if as_json else "\n".join(lines))
