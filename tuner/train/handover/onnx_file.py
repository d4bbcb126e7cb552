"""The winner as ONNX, with its preprocessing inside, checked against torch on real examples."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import EnvironmentProblem, UserCodeError
from tuner.core.store import write_bytes
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.train.data import load_data
from tuner.train.handover.weights import missing
from tuner.train.handover.winner import Winner

CHECKED = 256  # val examples that the two answers are compared on
TOLERANCE = 1e-4  # of the outputs' spread: float32 sums in another order


def write_onnx(winner: Winner, examples: Tensor, path: Path, fold: bool = False) -> dict[str, Any]:
    """Write the winner as ONNX: input `inputs` (N, *shape) as the data source gives them, output `outputs`.

    `examples`: real inputs, on which onnxruntime must give torch's outputs before anything is written. `fold`: batch
    norm is first folded into the convolutions before it. Returns how many examples were compared, the largest
    difference, and the share of equal answers.

    Raises:
        EnvironmentProblem: onnx, onnxscript or onnxruntime is not installed; the answers differ.
        UserCodeError: torch cannot export the model.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise missing(package, "--onnx") from None
    expected = _outputs(winner, examples)
    if not isinstance(expected, Tensor):
        raise UserCodeError(
            f"--onnx: the model's outputs are a {type(expected).__name__}, not a tensor",
            "Have the model return one tensor, or export it by hand from tuner.open_run(...).load_model().",
        )
    model = folded(winner) if fold else winner
    content = _exported(model, examples)
    found = _compared(content, examples, expected)
    spread = float(expected.std(correction=0))
    if not found["difference"] <= TOLERANCE * max(spread, 1e-6):  # NaN is refused as well
        raise EnvironmentProblem(
            f"--onnx: onnxruntime gives other outputs than torch: they differ by up to {found['difference']:.3g} "
            f"on {found['examples']} val examples",
            "Nothing was written. Try without --fold, or other versions of onnx and onnxruntime.",
        )
    write_bytes(path, content)
    return found


def val_inputs(spec: TrialSpec, env: TrialEnv) -> Tensor:
    """Return val inputs as the data source gives them (at most 256)."""
    data = load_data(dict(spec.tables), env)
    return data.inputs("val", torch.arange(min(CHECKED, data.size("val"))))


def folded(winner: Winner) -> Winner:
    """Return a winner whose batch norms are folded into the convolutions and linear layers before them.

    Raises:
        UserCodeError: the model cannot be traced.
    """
    from torch.fx.experimental.optimization import fuse

    try:
        return Winner(fuse(winner.model), winner.interface, winner.epoch)
    except Exception as error:
        raise UserCodeError(
            f"--fold: the model cannot be traced ({type(error).__name__}: {str(error).strip().splitlines()[0]})",
            "Export without --fold: onnxruntime folds batch norm when it loads the file.",
        ) from error


@torch.no_grad()
def _outputs(model: nn.Module, examples: Tensor) -> Any:
    return model(examples)


def _exported(model: nn.Module, examples: Tensor) -> bytes:
    """Return the ONNX file's bytes; the exporter's own talk is not passed on."""
    batch = torch.export.Dim("examples", min=1)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.onnx.export(
                model,
                (examples[:2].contiguous(),),
                input_names=["inputs"],
                output_names=["outputs"],
                dynamic_shapes=({0: batch},),
                dynamo=True,
                verbose=False,
            )
            return program.model_proto.SerializeToString()
        except Exception as error:
            raise UserCodeError(
                f"--onnx: torch cannot export the model ({type(error).__name__}: {str(error).strip().splitlines()[0]})",
                "Its forward must be free of Python branches on values; --weights and --script work without that.",
            ) from error


@contextlib.contextmanager
def _quiet(*names: str) -> Any:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _compared(content: bytes, examples: Tensor, expected: Tensor) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {session.get_inputs()[0].name: examples.contiguous().numpy()})
    outputs = torch.from_numpy(given)
    found: dict[str, Any] = {"examples": len(examples), "difference": float((outputs - expected).abs().max())}
    if outputs.ndim == 2:
        found["equal_answers"] = float((outputs.argmax(1) == expected.argmax(1)).float().mean())
    return found
