"""What a run hands over: the winner's weights, an ONNX file, a script of plain PyTorch."""

from __future__ import annotations

from pathlib import Path

from tuner.core.cached import cache_folder
from tuner.core.errors import InputError, UsageError
from tuner.core.store import read_json
from tuner.core.trial import TrialEnv
from tuner.recipe import user_files
from tuner.workflow.winner import WinnerFiles, about, find_winner, load_winner


def weights(run: Path, name: str, path: Path) -> list[str]:
    """Write the winner's weights to `path` and what is needed to use them beside it; return a line per file.

    Raises:
        UsageError: the file beside it is there already, and no export wrote it.
    """
    from tuner.execute.in_process import write_weights

    card = path.with_suffix(".json")
    if card == path or (card.exists() and not _is_card(card)):
        raise UsageError(
            f"--weights: what is needed to use them is written to {card}, which is another file",
            "Give them a name and a folder of their own: --weights winner/weights.safetensors.",
        )
    winner = load_winner(run)
    written = write_weights(winner, about(find_winner(run), name), path)
    count = sum(value.numel() for value in winner.model.state_dict().values())
    return [
        f"wrote {written[0]}: {count:,} numbers, safetensors",
        f"wrote {written[1]}: normalisation, class names, columns, model",
    ]


def _is_card(path: Path) -> bool:
    """Return whether a file is one that an earlier export wrote beside weights; the run's own winner.json is none."""
    try:
        return {"format", "weights", "inputs"} <= set(read_json(path))
    except InputError:
        return False


def onnx(run: Path, recipe_path: Path, path: Path, fold: bool) -> list[str]:
    """Write the winner as ONNX to `path`, checked on val examples; return the line that says so."""
    from tuner.execute.in_process import val_inputs, write_onnx

    found = find_winner(run)
    winner = load_winner(run)
    examples = val_inputs(found.record.item.spec, data_env(found, recipe_path))
    checked = write_onnx(winner, examples, path, fold)
    words = f"wrote {path}: preprocessing inside; "
    if "equal_answers" in checked:
        words += f"{checked['equal_answers']:.1%} equal answers and "
    return [f"{words}outputs within {checked['difference']:.1e} of torch's on {checked['examples']} val examples"]


def script(run: Path, recipe_path: Path, path: Path) -> list[str]:
    """Write the winner's training as a script of plain PyTorch; return a line per file."""
    from tuner.execute.in_process import Facts, script_of

    found = find_winner(run)
    spec, result = found.record.item.spec, found.record.result
    facts = Facts(run.name, result.id, result.best_epoch, found.record.measured_score)
    written = script_of(spec, data_env(found, recipe_path), facts, path, found.user_dir)
    words = [
        "plain PyTorch; its first weights, batch and loss are the winner's",
        "the splits",
        *["your file, as run"] * 99,
    ]
    return [f"wrote {file}: {word}" for file, word in zip(written, words, strict=False)]


def data_env(found: WinnerFiles, recipe_path: Path) -> TrialEnv:
    """Return where the winner's data are read from: the recipe's folder, whose files must be those of the run.

    Raises:
        InputError: "was changed since the run".
    """
    folder = recipe_path.resolve().parent
    spec = found.record.item.spec
    for name, known in spec.user_files.items():
        path = folder / name
        if user_files.sha256(path) != known if path.is_file() else True:
            raise InputError(
                f"{path} was changed since the run", f"Take the file as run back from {found.user_dir}, or run again."
            )
    return TrialEnv(folder, None, "cpu", cache_folder())
